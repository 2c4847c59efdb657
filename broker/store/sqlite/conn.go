// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/broker/store"
)

// conn is one connection with the statements it has prepared. One goroutine
// uses it at a time.
type conn struct {
	raw      *sql.Conn
	prepared map[string]*sql.Stmt
}

// within runs fn between two statements, or takes back what it did.
func (c *conn) within(begin, end string, fn func(store.Conn) error) (err error) {
	if _, err := c.Exec(begin); err != nil {
		return err
	}
	open := true
	defer func() { // also when fn panics
		if open {
			if _, undo := c.Exec("ROLLBACK"); undo != nil {
				err = errors.Join(err, undo)
			}
		}
	}()
	if err := fn(c); err != nil {
		return err
	}
	if _, err := c.Exec(end); err != nil {
		return err
	}
	open = false
	return nil
}

func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if s, ok := c.prepared[query]; ok {
		return s, nil
	}
	s, err := c.raw.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("statement %.60q: %w", query, err)
	}
	c.prepared[query] = s
	return s, nil
}

// Exec implements [store.Conn].
func (c *conn) Exec(query string, args ...any) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Query implements [store.Conn].
func (c *conn) Query(query string, args ...any) (store.Rows, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return s.Query(args...)
}

// Ahead implements [store.Conn]: nothing is far away.
func (c *conn) Ahead([]store.Question) error { return nil }

func (c *conn) close() error {
	var errs []error
	for _, s := range c.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.raw.Close())...)
}
