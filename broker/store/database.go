// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Database is what a driver provides. Statements are written so that SQLite
// and PostgreSQL take the same text: parameters are $1, $2, …, times are
// milliseconds since 1970, truth is 0 or 1.
type Database interface {
	// Write runs fn in a transaction that no other writer is in at the same
	// time, whatever process it is in, and makes it durable when fn returns nil.
	Write(ctx context.Context, fn func(Conn) error) error
	// Read runs fn on one consistent view.
	Read(ctx context.Context, fn func(Conn) error) error
	// Integrity reports damage of the database itself.
	Integrity(ctx context.Context) error
	Close() error
}

// Conn runs statements in one transaction.
type Conn interface {
	Exec(query string, args ...any) (rows int64, err error)
	Query(query string, args ...any) (Rows, error)
	// Ahead names queries that will be asked. A driver that has to go far for
	// each answer may fetch them all at once; it gives none of them to a query
	// that comes after a write to a table in it.
	Ahead(queries []Question) error
}

// Question is a query with its arguments.
type Question struct {
	Query string
	Args  []any
}

// Rows is the answer to a query.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// closedConn is what a transaction holds once it is over.
type closedConn struct{}

var errOver = errors.New("transaction is over")

func (closedConn) Exec(string, ...any) (int64, error) { return 0, errOver }
func (closedConn) Query(string, ...any) (Rows, error) { return nil, errOver }
func (closedConn) Ahead([]Question) error             { return errOver }

// one runs a query whose answer is one row, or [ErrNotFound].
func one(c Conn, dest []any, query string, args ...any) error {
	rows, err := c.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return ErrNotFound
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	return rows.Close()
}

// all runs a query and scans every row with scan.
func all[T any](c Conn, scan func(func(dest ...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := c.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// moved runs a conditional statement and returns otherwise if no row moved.
func moved(c Conn, otherwise error, query string, args ...any) error {
	n, err := c.Exec(query, args...)
	if err == nil && n == 0 {
		return otherwise
	}
	return err
}

// millis writes a time; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// instant scans what millis wrote.
type instant struct{ t *time.Time }

func (i instant) Scan(v any) error {
	ms, ok := v.(int64)
	if !ok {
		return fmt.Errorf("time column holds a %T", v)
	}
	*i.t = time.Time{}
	if ms != 0 {
		*i.t = time.UnixMilli(ms).UTC()
	}
	return nil
}

// count writes an unsigned number. One that a signed column cannot hold is
// refused by a condition that no row meets: see checkCounts.
func count(n uint64) int64 { return int64(n) }

// checkCounts refuses numbers that a signed column cannot hold.
func checkCounts(numbers ...uint64) error {
	for _, n := range numbers {
		if n > math.MaxInt64 {
			return fmt.Errorf("number %d is above %d", n, int64(math.MaxInt64))
		}
	}
	return nil
}

// counter scans what count wrote.
type counter struct{ n *uint64 }

func (c counter) Scan(v any) error {
	i, ok := v.(int64)
	if !ok || i < 0 {
		return fmt.Errorf("counting column holds %v", v)
	}
	*c.n = uint64(i)
	return nil
}

// digest scans a 32-byte column.
type digest struct{ h *evidence.Hash }

func (d digest) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(d.h) {
		return fmt.Errorf("digest column holds %d bytes of %T", len(b), v)
	}
	*d.h = evidence.Hash(b)
	return nil
}

// optional scans bytes that may be empty, which are nil then.
type optional struct{ b *[]byte }

func (o optional) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok && v != nil {
		return fmt.Errorf("column of bytes holds a %T", v)
	}
	*o.b = nil
	if len(b) > 0 {
		*o.b = bytes.Clone(b)
	}
	return nil
}

// bytesOf never writes NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
