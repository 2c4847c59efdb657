// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/internal/schema"
)

// dialect translates the steps of package schema. Texts compare by their bytes,
// as in SQLite: the order of no locale, whose library may change it, is in an
// index.
var dialect = strings.NewReplacer(
	"BLOB", "BYTEA", "TEXT", `TEXT COLLATE "C"`, "INTEGER", "BIGINT", ") WITHOUT ROWID", ")", "DEFAULT x'", `DEFAULT '\x`)

// migrate brings the tables to the newest form, all steps in one transaction.
// Of several brokers that start at once, one does it.
func (db *database) migrate(ctx context.Context, steps []schema.Step, now time.Time) error {
	return db.Write(ctx, func(c store.Conn) error {
		if err := mark(c); err != nil {
			return err
		}
		run := func(statements string) error {
			_, err := c.Exec(dialect.Replace(statements))
			return err
		}
		return schema.Migrate(c, run, steps, now)
	})
}

// mark refuses a schema in which another program has its tables.
func mark(c store.Conn) error {
	rows, err := c.Query(`SELECT COALESCE(current_schema()::text, ''), COUNT(*), COUNT(*) FILTER (WHERE tablename IN ('migration', 'log_head'))
		FROM pg_tables WHERE schemaname = current_schema()`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var name string
	var tables, ours int64
	if !rows.Next() {
		return errors.Join(errors.New("no answer about the tables"), rows.Err())
	}
	if err := rows.Scan(&name, &tables, &ours); err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	switch {
	case name == "":
		return errors.New("there is no schema to put tables into: see search_path")
	case tables > 0 && ours < 2:
		return fmt.Errorf("schema %s has %d tables of another program", name, tables)
	}
	return nil
}
