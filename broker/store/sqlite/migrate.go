// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/internal/schema"
)

// migrate brings the tables to the newest form, all steps in one transaction.
func (db *database) migrate(steps []schema.Step, now time.Time) error {
	return db.writer.within("BEGIN IMMEDIATE", "COMMIT", func(c store.Conn) error {
		if err := db.mark(); err != nil {
			return err
		}
		return schema.Migrate(c, db.script, steps, now)
	})
}

// script runs statements that are not worth being prepared.
func (db *database) script(statements string) error {
	_, err := db.writer.raw.ExecContext(context.Background(), statements)
	return err
}

// mark writes who owns the file, and refuses that of another program.
func (db *database) mark() error {
	var id, tables int64
	row := db.writer.raw.QueryRowContext(context.Background(), `SELECT (SELECT application_id FROM pragma_application_id), (SELECT COUNT(*) FROM sqlite_schema)`)
	if err := row.Scan(&id, &tables); err != nil {
		return err
	}
	if id != applicationID && (id != 0 || tables != 0) {
		return fmt.Errorf("the file is the database of another program (application id %#x, %d tables)", id, tables)
	}
	return db.script(fmt.Sprintf("PRAGMA application_id = %d", applicationID))
}
