// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

//go:embed migrations/*.sql
var files embed.FS

// migration is one numbered step. A file that was shipped is never changed.
type migration struct {
	number int
	name   string
	text   []byte
}

// checksum is what the file is known by in the table migration.
//
//	checksum = SHA-256(file)
func (m migration) checksum() []byte {
	sum := sha256.Sum256(m.text)
	return sum[:]
}

// migrations returns the steps in order: 0001_…, 0002_…, without a gap.
func migrations(from fs.FS) ([]migration, error) {
	names, err := fs.Glob(from, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		base := name[len("migrations/"):]
		if len(base) < 5 || base[:5] != fmt.Sprintf("%04d_", i+1) {
			return nil, fmt.Errorf("migration %q is not number %d", base, i+1)
		}
		out = append(out, migration{i + 1, base, text})
	}
	return out, nil
}

// migrate brings the tables to the newest form, all steps in one transaction.
func (db *database) migrate(steps []migration, now time.Time) (err error) {
	ctx := context.Background()
	exec := func(query string, args ...any) error {
		_, err := db.writer.raw.ExecContext(ctx, query, args...)
		return err
	}
	if err := exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, exec("ROLLBACK"))
		}
	}()
	if err := db.mark(exec); err != nil {
		return err
	}
	applied, err := db.applied(steps)
	if err != nil {
		return err
	}
	for _, m := range steps[applied:] {
		if err := exec(string(m.text)); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
		if err := exec(`INSERT INTO migration (number, name, checksum, applied) VALUES ($1, $2, $3, $4)`, m.number, m.name, m.checksum(), now.UnixMilli()); err != nil {
			return err
		}
	}
	return exec("COMMIT")
}

// mark writes who owns the file, and refuses that of another program.
func (db *database) mark(exec func(string, ...any) error) error {
	var id, tables int64
	row := db.writer.raw.QueryRowContext(context.Background(), `SELECT (SELECT application_id FROM pragma_application_id), (SELECT COUNT(*) FROM sqlite_schema)`)
	if err := row.Scan(&id, &tables); err != nil {
		return err
	}
	if id != applicationID && (id != 0 || tables != 0) {
		return fmt.Errorf("the file is the database of another program (application id %#x, %d tables)", id, tables)
	}
	if err := exec(fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return err
	}
	return exec(`CREATE TABLE IF NOT EXISTS migration (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, applied BIGINT NOT NULL)`)
}

// applied returns how many steps the file has behind it. They must be the very
// ones this program knows.
func (db *database) applied(steps []migration) (n int, err error) {
	rows, err := db.writer.raw.QueryContext(context.Background(), `SELECT number, name, checksum FROM migration ORDER BY number`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var number int
		var name string
		var checksum []byte
		if err := rows.Scan(&number, &name, &checksum); err != nil {
			return 0, err
		}
		if n >= len(steps) {
			return 0, fmt.Errorf("migration %d (%s) is unknown: a newer program wrote this store", number, name)
		}
		if want := steps[n]; number != want.number || name != want.name || !bytes.Equal(checksum, want.checksum()) {
			return 0, fmt.Errorf("migration %d (%s) is not the one this program has", number, name)
		}
	}
	return n, rows.Err()
}
