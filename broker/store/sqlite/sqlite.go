// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package sqlite is the broker's store in one file: SQLite, embedded, for one
// broker (station 9 of the flow, behind package store).
//
// Its door is the file and its folder, which only the owner may enter. It knows
// transactions and migrations, and nothing of what the tables mean. It refuses
// a file that others can read, one whose tables somebody changed by hand, and
// one that a newer program wrote.
//
// One connection writes. Every transaction begins with the write lock (BEGIN
// IMMEDIATE) and is on the disk before it is over (journal_mode WAL,
// synchronous FULL). Readers work on a snapshot and disturb nobody.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/internal/schema"
)

// readers is how many views may be open at the same time; the others wait.
const readers = 4

// applicationID marks the file in its header: "jurb".
const applicationID = 0x6a757262

// pragmas hold for every connection.
var pragmas = []string{
	"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
	"trusted_schema(OFF)", "secure_delete(FAST)", "cell_size_check(ON)",
}

// Open opens the store at path, which it creates if it is not there, in a
// folder that it creates if it is not there. now is the time that new tables
// are noted with.
func Open(ctx context.Context, path string, signer store.Signer, now time.Time) (*store.Store, error) {
	db, err := open(ctx, path, now)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	s, err := store.New(ctx, db, signer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", path, err), db.Close())
	}
	return s, nil
}

// database has the file open for one writer and several readers.
type database struct {
	pool   *sql.DB
	writer *conn
	turn   chan struct{} // holds one token: the right to use writer
	idle   chan *conn
	all    []*conn
}

func open(ctx context.Context, path string, now time.Time) (*database, error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	query := url.Values{"_pragma": pragmas}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db := &database{pool: pool, turn: make(chan struct{}, 1), idle: make(chan *conn, readers)}
	if err := db.connect(ctx, now); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *database) connect(ctx context.Context, now time.Time) error {
	for i := range readers + 1 {
		raw, err := db.pool.Conn(ctx)
		if err != nil {
			return err
		}
		c := &conn{raw: raw, prepared: map[string]*sql.Stmt{}}
		db.all = append(db.all, c)
		if i == 0 {
			db.writer = c
			steps, err := schema.Steps()
			if err != nil {
				return err
			}
			if err := db.migrate(steps, now); err != nil {
				return err
			}
			continue
		}
		if _, err := raw.ExecContext(ctx, "PRAGMA query_only = ON"); err != nil {
			return err
		}
		db.idle <- c
	}
	db.turn <- struct{}{}
	return nil
}

// prepare makes folder and file for the owner alone, and refuses those that
// are not. The journals take the file's mode.
func prepare(path string) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := private(folder, os.Stat); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return private(path, func(string) (fs.FileInfo, error) { return f.Stat() })
}

func private(path string, stat func(string) (fs.FileInfo, error)) error {
	info, err := stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may enter it, want %04o", path, mode, mode&0o700)
	}
	return nil
}

// Write implements [store.Database].
func (db *database) Write(ctx context.Context, fn func(store.Conn) error) error {
	select {
	case _, open := <-db.turn:
		if !open {
			return store.ErrClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { db.turn <- struct{}{} }()
	return db.writer.within("BEGIN IMMEDIATE", "COMMIT", fn)
}

// Read implements [store.Database].
func (db *database) Read(ctx context.Context, fn func(store.Conn) error) error {
	var c *conn
	select {
	case c = <-db.idle:
		if c == nil {
			return store.ErrClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { db.idle <- c }()
	return c.within("BEGIN", "ROLLBACK", fn)
}

// Integrity implements [store.Database].
func (db *database) Integrity(ctx context.Context) error {
	return db.Read(ctx, func(c store.Conn) error {
		for _, check := range []struct{ query, good string }{
			{"PRAGMA integrity_check", "ok"}, {"PRAGMA foreign_key_check", ""},
		} {
			rows, err := c.Query(check.query)
			if err != nil {
				return err
			}
			var said any
			for rows.Next() {
				if err := rows.Scan(first(&said, rows)...); err != nil {
					return errors.Join(err, rows.Close())
				}
				if said != check.good {
					return errors.Join(fmt.Errorf("%s: %v", check.query, said), rows.Close())
				}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// first scans the first column into dest, and the others nowhere.
func first(dest *any, rows store.Rows) []any {
	columns, err := rows.(*sql.Rows).Columns()
	out := []any{dest}
	for i := 1; err == nil && i < len(columns); i++ {
		out = append(out, new(any))
	}
	return out
}

// Close implements [store.Database]. It waits for the writer and the readers.
func (db *database) Close() error {
	if len(db.all) == readers+1 {
		<-db.turn
		close(db.turn)
		for range readers {
			<-db.idle
		}
		close(db.idle)
	}
	var errs []error
	for _, c := range db.all {
		errs = append(errs, c.close())
	}
	return errors.Join(append(errs, db.pool.Close())...)
}
