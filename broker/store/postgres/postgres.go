// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package postgres is the broker's store in PostgreSQL, for one broker or
// several at the same time (station 9 of the flow, behind package store).
//
// Its door is the server that a connection string names, read as libpq reads it.
// It knows transactions and migrations, and nothing of what the tables mean. It
// refuses a password in the connection string, a server on the network whose
// certificate is not verified, a server that does not write to the disk before
// it says yes, a standby, a database that is not in UTF-8, tables of another
// program, and those that a newer program wrote.
//
// Writers take turns, whatever process they are in: a transaction that writes
// begins with the database's advisory lock 0x6a757262 ("jurb"), which ends with
// it. Each statement after that sees what was committed before (READ COMMITTED);
// nobody else commits meanwhile. The lock of a broker that hangs is taken from it
// after five seconds. Readers have one snapshot each (REPEATABLE READ) and
// disturb nobody.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/internal/schema"
)

// readers is how many views may be open at the same time; the others wait.
const readers = 8

// lockID is the advisory lock that whoever writes holds: "jurb".
const lockID = 0x6a757262

// Statements around what the caller does. The first two are one message each.
var (
	beginWrite = fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(%d)", lockID)
	beginRead  = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
)

// Open opens the store in the database that connection names, a URL or keywords
// and values as libpq takes them, and makes the tables if they are not there.
// now is the time that new tables are noted with.
func Open(ctx context.Context, connection string, signer store.Signer, now time.Time) (*store.Store, error) {
	db, err := open(ctx, connection, now)
	if err != nil {
		return nil, err
	}
	s, err := store.New(ctx, db, signer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store in PostgreSQL: %w", err), db.Close())
	}
	return s, nil
}

// database has connections for one writer and several readers. A connection that
// broke is made anew when it is used next.
type database struct {
	writer, reader *pgx.ConnConfig
	turn           chan *conn // the writer, unless it is in use
	idle           chan *conn
	closed         chan struct{}
}

func open(ctx context.Context, connection string, now time.Time) (*database, error) {
	writer, reader, err := configs(connection)
	if err != nil {
		return nil, err
	}
	db := &database{writer: writer, reader: reader, turn: make(chan *conn, 1), idle: make(chan *conn, readers), closed: make(chan struct{})}
	db.turn <- &conn{config: writer, patience: writePatience}
	for range readers {
		db.idle <- &conn{config: reader, patience: readPatience}
	}
	steps, err := schema.Steps()
	if err == nil {
		err = db.migrate(ctx, steps, now)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store in PostgreSQL: %w", err), db.Close())
	}
	return db, nil
}

// Write implements [store.Database].
func (db *database) Write(ctx context.Context, fn func(store.Conn) error) error {
	return db.use(ctx, db.turn, func(c *conn) error { return c.within(ctx, beginWrite, "COMMIT", fn) })
}

// Read implements [store.Database].
func (db *database) Read(ctx context.Context, fn func(store.Conn) error) error {
	return db.use(ctx, db.idle, func(c *conn) error { return c.within(ctx, beginRead, "ROLLBACK", fn) })
}

// use takes a connection for as long as fn runs.
func (db *database) use(ctx context.Context, from chan *conn, fn func(*conn) error) error {
	select {
	case <-db.closed:
		return store.ErrClosed
	default:
	}
	select {
	case c := <-from:
		defer func() { from <- c }()
		return fn(c)
	case <-db.closed:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Integrity implements [store.Database]: no table's index or foreign key may be
// unfinished. What is in the pages, PostgreSQL's own checksums watch over.
func (db *database) Integrity(ctx context.Context) error {
	return db.Read(ctx, func(c store.Conn) error {
		rows, err := c.Query(`SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
				WHERE c.relnamespace = current_schema()::regnamespace AND NOT (i.indisvalid AND i.indisready)
			UNION ALL SELECT conname::text FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND NOT convalidated`)
		if err != nil {
			return err
		}
		if rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return errors.Join(err, rows.Close())
			}
			return errors.Join(fmt.Errorf("%s is not valid", name), rows.Close())
		}
		return errors.Join(rows.Err(), rows.Close())
	})
}

// Close implements [store.Database]. It waits for the writer and the readers.
func (db *database) Close() error {
	close(db.closed)
	errs := []error{(<-db.turn).close()}
	for range readers {
		errs = append(errs, (<-db.idle).close())
	}
	return errors.Join(errs...)
}
