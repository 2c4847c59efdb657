// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/jurat-dev/jurat/broker/store"
)

// fetched is the answer to a query that was not asked yet.
type fetched struct {
	store.Question
	columns []pgconn.FieldDescription
	rows    [][][]byte
}

// Ahead implements [store.Conn]: it sends all queries in one message, and keeps
// the answers.
func (c *conn) Ahead(queries []store.Question) error {
	queries = slices.DeleteFunc(queries, func(q store.Question) bool { return !storable(q.Args) })
	if len(queries) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeout(c.ctx, c.patience)
	defer stop()
	batch := &pgx.Batch{}
	for _, q := range c.later {
		batch.Queue(q)
	}
	waited := len(c.later)
	c.later = c.later[:0]
	for _, q := range queries {
		batch.Queue(q.Query, q.Args...)
	}
	b := c.raw.SendBatch(ctx, batch)
	var err error
	for range waited {
		if err == nil {
			_, err = b.Exec()
		}
	}
	for _, q := range queries {
		if err == nil {
			err = c.fetch(b, q)
		}
	}
	return c.noted(errors.Join(err, b.Close()))
}

func (c *conn) fetch(b pgx.BatchResults, q store.Question) error {
	r, err := b.Query()
	if err != nil {
		return err
	}
	defer r.Close()
	f := fetched{Question: q, columns: slices.Clone(r.FieldDescriptions())}
	for r.Next() {
		row := make([][]byte, len(f.columns))
		for i, v := range r.RawValues() {
			row[i] = bytes.Clone(v)
		}
		f.rows = append(f.rows, row)
	}
	c.ahead = append(c.ahead, f)
	return r.Err()
}

// fetchedRows returns the answer that was fetched for a query, and forgets it.
func (c *conn) fetchedRows(query string, args []any) store.Rows {
	for i := range c.ahead {
		if f := &c.ahead[i]; f.Query == query && slices.EqualFunc(f.Args, args, sameArg) {
			rows := &kept{types: c.raw.TypeMap(), columns: f.columns, rows: f.rows, at: -1}
			c.ahead = slices.Delete(c.ahead, i, i+1)
			return rows
		}
	}
	return nil
}

func sameArg(a, b any) bool {
	x, isBytes := a.([]byte)
	y, areBytes := b.([]byte)
	if isBytes || areBytes {
		return isBytes && areBytes && bytes.Equal(x, y)
	}
	return a == b
}

// written forgets what was fetched from the table that a statement writes to.
func (c *conn) written(statement string) {
	if len(c.ahead) == 0 || strings.HasPrefix(statement, "SELECT ") {
		return
	}
	words := strings.Fields(statement)
	table := "" // is in every query: all is forgotten
	switch {
	case len(words) > 1 && words[0] == "UPDATE":
		table = words[1]
	case len(words) > 2 && (words[0] == "INSERT" || words[0] == "DELETE"):
		table = words[2]
	}
	c.ahead = slices.DeleteFunc(c.ahead, func(f fetched) bool { return strings.Contains(f.Query, table) })
}

// kept are rows that were fetched before they were asked for.
type kept struct {
	types   *pgtype.Map
	columns []pgconn.FieldDescription
	rows    [][][]byte
	at      int
}

func (k *kept) Next() bool {
	k.at++
	return k.at < len(k.rows)
}

func (k *kept) Scan(dest ...any) error {
	if k.at < 0 || k.at >= len(k.rows) || len(dest) != len(k.columns) {
		return errors.New("there is no such row")
	}
	for i, d := range dest {
		if err := k.types.Scan(k.columns[i].DataTypeOID, k.columns[i].Format, k.rows[k.at][i], d); err != nil {
			return err
		}
	}
	return nil
}

func (k *kept) Err() error   { return nil }
func (k *kept) Close() error { return nil }
