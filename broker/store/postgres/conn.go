// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/jurat-dev/jurat/broker/store"
)

// conn is one connection, made when it is used. One goroutine uses it at a time.
type conn struct {
	config   *pgx.ConnConfig
	patience time.Duration // for one answer of the server
	raw      *pgx.Conn     // nil: not connected yet

	ctx    context.Context // of the transaction
	later  []string        // statements that go with the next one, in one message
	broken bool            // a statement failed, and nothing was taken back since
	ahead  []fetched       // what was fetched before it was asked for
}

// within runs fn between two statements, or takes back what it did.
func (c *conn) within(ctx context.Context, begin, end string, fn func(store.Conn) error) (err error) {
	c.ctx, c.later, c.broken, c.ahead = ctx, nil, false, nil
	if err := c.begin(begin); err != nil {
		return err
	}
	open := true
	defer func() { // also when fn panics
		if open {
			c.undo()
		}
	}()
	if err := fn(c); err != nil {
		return err
	}
	done, err := c.exec(end)
	if err != nil {
		return err
	}
	// A transaction in which something failed ends in ROLLBACK without an error.
	if done.String() != end {
		return fmt.Errorf("%s became %s", end, done)
	}
	open = false
	return nil
}

// begin begins a transaction. A connection that turns out to be broken, as after
// a restart of the server, is made anew: nothing was done on it yet.
func (c *conn) begin(statement string) error {
	fresh := c.raw == nil || c.raw.IsClosed()
	for {
		if fresh {
			if err := c.connect(); err != nil {
				return err
			}
		}
		_, err := c.exec(statement)
		if err == nil {
			return nil
		}
		if !c.raw.IsClosed() {
			c.undo()
			return err
		}
		if fresh {
			return err
		}
		fresh = true
	}
}

func (c *conn) connect() error {
	ctx, stop := context.WithTimeout(c.ctx, c.patience)
	defer stop()
	raw, err := pgx.ConnectConfig(ctx, c.config)
	if err != nil {
		return err
	}
	if err := suitable(ctx, raw); err != nil {
		return errors.Join(err, raw.Close(ctx))
	}
	c.raw = raw
	return nil
}

// undo takes the transaction back. When that cannot be done the connection is
// given up, and the server takes it back.
func (c *conn) undo() {
	c.later = nil
	if c.raw.IsClosed() {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(c.ctx), c.patience)
	defer stop()
	if _, err := c.raw.Exec(ctx, "ROLLBACK"); err != nil {
		// What is wrong with it, whoever runs into it says.
		_ = c.raw.Close(ctx)
	}
}

// A savepoint needs no answer: it goes with the next statement, and can fail
// only with the connection or in a transaction that is broken already.
func needsNoAnswer(query string) bool {
	return strings.HasPrefix(query, "SAVEPOINT ") || strings.HasPrefix(query, "RELEASE SAVEPOINT ")
}

// Exec implements [store.Conn].
func (c *conn) Exec(query string, args ...any) (int64, error) {
	if !storable(args) {
		if strings.HasPrefix(query, "DELETE ") {
			return 0, nil // no row has such a text
		}
		return 0, errText
	}
	if len(args) == 0 && !c.broken && needsNoAnswer(query) {
		c.later = append(c.later, query)
		c.ahead = nil // what another update foresaw
		return 0, nil
	}
	c.written(query)
	tag, err := c.exec(query, args...)
	if err == nil && strings.HasPrefix(query, "ROLLBACK TO ") {
		c.broken = false
	}
	return tag.RowsAffected(), err
}

func (c *conn) exec(query string, args ...any) (pgconn.CommandTag, error) {
	ctx, stop := context.WithTimeout(c.ctx, c.patience)
	defer stop()
	if len(c.later) == 0 {
		tag, err := c.raw.Exec(ctx, query, args...)
		return tag, c.noted(err)
	}
	b, err := c.send(ctx, query, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := b.Exec()
	return tag, c.noted(errors.Join(err, b.Close()))
}

// send sends what waited together with a statement, whose answer is next.
func (c *conn) send(ctx context.Context, query string, args []any) (pgx.BatchResults, error) {
	batch := &pgx.Batch{}
	for _, q := range c.later {
		batch.Queue(q)
	}
	batch.Queue(query, args...)
	waited := len(c.later)
	c.later = c.later[:0]
	b := c.raw.SendBatch(ctx, batch)
	for range waited {
		if _, err := b.Exec(); err != nil {
			return nil, c.noted(errors.Join(err, b.Close()))
		}
	}
	return b, nil
}

// noted remembers that a statement failed.
func (c *conn) noted(err error) error {
	if err != nil {
		c.broken = true
	}
	return err
}

// Query implements [store.Conn].
func (c *conn) Query(query string, args ...any) (store.Rows, error) {
	if !storable(args) {
		if strings.HasPrefix(query, "SELECT ") || strings.HasPrefix(query, "DELETE ") {
			return none{}, nil // no row has such a text
		}
		return nil, errText
	}
	c.written(query)
	if rows := c.fetchedRows(query, args); rows != nil {
		return rows, nil
	}
	ctx, stop := context.WithTimeout(c.ctx, c.patience)
	if len(c.later) == 0 {
		r, err := c.raw.Query(ctx, query, args...)
		if err != nil {
			stop()
			return nil, c.noted(err)
		}
		return &rows{Rows: r, conn: c, end: stop}, nil
	}
	b, err := c.send(ctx, query, args)
	if err != nil {
		stop()
		return nil, err
	}
	// What is wrong with the statement, the rows say too.
	r, _ := b.Query()
	return &rows{Rows: r, conn: c, batch: b, end: stop}, nil
}

// rows is the answer to a query. The connection is busy until it is closed.
type rows struct {
	pgx.Rows
	conn  *conn
	batch pgx.BatchResults // nil: it came alone
	end   func()
}

// Err implements [store.Rows].
func (r *rows) Err() error { return r.conn.noted(r.Rows.Err()) }

// Close implements [store.Rows].
func (r *rows) Close() error {
	r.Rows.Close()
	err := r.Rows.Err()
	if r.batch != nil {
		err = errors.Join(err, r.batch.Close())
		r.batch = nil
	}
	r.end()
	return r.conn.noted(err)
}

// none is the answer without rows.
type none struct{}

func (none) Next() bool        { return false }
func (none) Scan(...any) error { return errors.New("there is no row") }
func (none) Err() error        { return nil }
func (none) Close() error      { return nil }

// errText is what a database in UTF-8 says to other texts.
var errText = errors.New("text that is not UTF-8 or has a zero byte")

// storable reports whether all texts among the arguments can be in a row.
func storable(args []any) bool {
	for _, a := range args {
		if s, ok := a.(string); ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
			return false
		}
	}
	return true
}

func (c *conn) close() error {
	if c.raw == nil || c.raw.IsClosed() {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), c.patience)
	defer stop()
	return c.raw.Close(ctx)
}
