// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package schema has the tables of the broker's store, once for every database
// (station 9, once per start): numbered steps that are never changed once
// shipped, and the table "migration" that knows by number, name and digest
// which of them a database has behind it.
//
// It has no door: the driver gives it a transaction. It refuses a database whose
// steps are not the ones this program has, or that a newer program wrote.
//
// The steps are SQL as SQLite takes it; a driver for another database translates
// the few words that differ. A step is expected to leave the program before it
// running: it adds.
package schema

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
)

//go:embed migrations/*.sql
var files embed.FS

// Step is one numbered file.
type Step struct {
	Number int // from 1, without a gap
	Name   string
	Text   string
}

// checksum is what a step is known by in the table migration.
//
//	checksum = SHA-256(file)
func (s Step) checksum() []byte {
	sum := sha256.Sum256([]byte(s.Text))
	return sum[:]
}

// Steps returns the steps in order.
func Steps() ([]Step, error) { return read(files) }

// read returns the steps in from: 0001_…, 0002_…, without a gap.
func read(from fs.FS) ([]Step, error) {
	names, err := fs.Glob(from, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var out []Step
	for i, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		base := name[len("migrations/"):]
		if len(base) < 5 || base[:5] != fmt.Sprintf("%04d_", i+1) {
			return nil, fmt.Errorf("migration %q is not number %d", base, i+1)
		}
		out = append(out, Step{i + 1, base, string(text)})
	}
	return out, nil
}

// table knows what was applied.
const table = `CREATE TABLE IF NOT EXISTS migration (number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL, applied BIGINT NOT NULL)`

// Migrate takes the steps that the database does not have behind it, in the
// transaction of c that no other writer is in. run runs statements of a step,
// several in one text, in the same transaction. now is what they are noted with.
func Migrate(c store.Conn, run func(statements string) error, steps []Step, now time.Time) error {
	if err := run(table); err != nil {
		return err
	}
	done, err := applied(c, steps)
	if err != nil {
		return err
	}
	for _, s := range steps[done:] {
		if err := run(s.Text); err != nil {
			return fmt.Errorf("migration %s: %w", s.Name, err)
		}
		if _, err := c.Exec(`INSERT INTO migration (number, name, checksum, applied) VALUES ($1, $2, $3, $4)`,
			int64(s.Number), s.Name, s.checksum(), now.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// applied returns how many steps the database has behind it. They must be the
// very ones this program knows.
func applied(c store.Conn, steps []Step) (n int, err error) {
	rows, err := c.Query(`SELECT number, name, checksum FROM migration ORDER BY number`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); n++ {
		var number int64
		var name string
		var checksum []byte
		if err := rows.Scan(&number, &name, &checksum); err != nil {
			return 0, err
		}
		if n >= len(steps) {
			return 0, fmt.Errorf("migration %d (%s) is unknown: a newer program wrote this store", number, name)
		}
		if want := steps[n]; number != int64(want.Number) || name != want.Name || !bytes.Equal(checksum, want.checksum()) {
			return 0, fmt.Errorf("migration %d (%s) is not the one this program has", number, name)
		}
	}
	return n, rows.Err()
}
