// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

// testHiddenFailure: a statement that failed, and whose error the function kept
// to itself, fails that update alone.
func testHiddenFailure(t *testing.T, server *postgrestest.Server, schema string) {
	s := opened(t, server.Schema(t, schema))
	inside, leave := make(chan bool), make(chan bool)
	first, bad, good := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { // holds the turn, so that the next two share a batch
		first <- s.Update(context.Background(), func(*store.Tx) error { close(inside); <-leave; return nil })
	}()
	<-inside
	go func() {
		bad <- s.Update(context.Background(), func(tx *store.Tx) error {
			_ = tx.AddAnswer(store.Answer{Act: "approval", Issuer: "i", Subject: "s", Signature: []byte("s"), Key: []byte("k")}) // to no delegation
			_, err := tx.Append(storetest.Entry("bad"), []byte("{}"))
			return err
		})
	}()
	go func() {
		good <- s.Update(context.Background(), func(tx *store.Tx) error {
			_, err := tx.Append(storetest.Entry("good"), []byte("{}"))
			return err
		})
	}()
	time.Sleep(20 * time.Millisecond)
	close(leave)
	if err := errors.Join(<-first, <-good); err != nil {
		t.Error(err)
	}
	if err := <-bad; err == nil {
		t.Error("the failed update says it is done")
	}
	err := s.View(t.Context(), func(r *store.Reader) error {
		leaves, err := r.Leaves(0, 9)
		if len(leaves) != 1 || leaves[0].Txn != "good" {
			t.Errorf("entries %+v", leaves)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// testSettings: each setting that durability or order rests on is what it
// should be, and a server on which it is not is refused.
func testSettings(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	db := openedDatabase(t, url)
	show := func(c store.Conn, want map[string]string) error {
		for name, value := range want {
			rows, err := c.Query("SELECT current_setting($1)", name)
			if err != nil {
				return err
			}
			var got string
			if !rows.Next() || rows.Scan(&got) != nil || got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
			if err := rows.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	err := db.Write(t.Context(), func(c store.Conn) error {
		return show(c, map[string]string{"transaction_isolation": "read committed", "statement_timeout": writeLimit, "idle_in_transaction_session_timeout": idleLimit,
			"transaction_read_only": "off", "application_name": "jurat-broker"})
	})
	err2 := db.Read(t.Context(), func(c store.Conn) error {
		return show(c, map[string]string{"transaction_isolation": "repeatable read", "statement_timeout": readLimit, "transaction_read_only": "on", "idle_in_transaction_session_timeout": idleLimit})
	})
	if err := errors.Join(err, err2); err != nil {
		t.Error(err)
	}
	server.SQL(t, schema, `ALTER ROLE jurat SET synchronous_commit = off`)
	if _, err := open(t.Context(), url, storetest.Now); err == nil || !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("commits that are none: %v", err)
	}
	server.SQL(t, schema, `ALTER ROLE jurat RESET synchronous_commit; CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	if _, err := open(t.Context(), server.URL("latin", "public"), storetest.Now); err == nil || !strings.Contains(err.Error(), "LATIN1") {
		t.Errorf("database in another encoding: %v", err)
	}
	server.SQL(t, schema, `ALTER SYSTEM SET fsync = off; `)
	server.SQL(t, schema, `SELECT pg_reload_conf()`)
	defer func() {
		server.SQL(t, schema, `ALTER SYSTEM RESET fsync;`)
		server.SQL(t, schema, `SELECT pg_reload_conf()`)
	}()
	for server.SQL(t, schema, `SHOW fsync`) != "off" {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := open(t.Context(), url, storetest.Now); err == nil || !strings.Contains(err.Error(), "fsync") {
		t.Errorf("server that does not write to the disk: %v", err)
	}
}

// testStandby: a server that only follows another is refused.
func testStandby(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	openedDatabase(t, url)
	signal := filepath.Join(server.Dir, "data", "standby.signal")
	server.Kill()
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	server.Restart(t)
	defer func() {
		server.Kill()
		if err := os.Remove(signal); err != nil {
			t.Error(err)
		}
		server.Restart(t)
	}()
	if _, err := open(t.Context(), url, storetest.Now); err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("standby: %v", err)
	}
}

// testForeign: tables of others, of a newer program, or changed ones are left
// alone.
func testForeign(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	server.SQL(t, schema, `CREATE TABLE cookies (x int)`)
	if _, err := open(t.Context(), url, storetest.Now); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("tables of another program: %v", err)
	}
	server.SQL(t, schema, `DROP TABLE cookies`)
	openedDatabase(t, url)
	server.SQL(t, schema, `UPDATE migration SET checksum = '\x00' WHERE number = 1`)
	if _, err := open(t.Context(), url, storetest.Now); err == nil || !strings.Contains(err.Error(), "is not the one this program has") {
		t.Errorf("another first step: %v", err)
	}
}

// testReaders: a reader cannot write, and sees one state from its first to its
// last statement.
func testReaders(t *testing.T, server *postgrestest.Server, schema string) {
	db := openedDatabase(t, server.Schema(t, schema))
	set := func(value string) error {
		return db.Write(t.Context(), func(c store.Conn) error {
			_, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('a', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, []byte(value))
			return err
		})
	}
	get := func(c store.Conn) string {
		rows, err := c.Query(`SELECT value FROM setting`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var value []byte
		if !rows.Next() || rows.Scan(&value) != nil {
			t.Fatal("no row")
		}
		return string(value)
	}
	if err := set("one"); err != nil {
		t.Fatal(err)
	}
	err := db.Read(t.Context(), func(c store.Conn) error {
		before := get(c)
		if err := set("two"); err != nil {
			return err
		}
		if after := get(c); before != "one" || after != "one" {
			t.Errorf("%s, then %s in one view", before, after)
		}
		if _, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('b', '')`); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("a reader may write: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := db.Write(t.Context(), func(c store.Conn) error { _, _ = c.Exec(`nonsense`); return nil }); err == nil || !strings.Contains(err.Error(), "became ROLLBACK") {
		t.Errorf("a transaction that failed was committed: %v", err)
	}
}

// testTampering: what somebody with the right to the tables changes is found; an
// end that no broker signed is found before anything is put behind it.
func testTampering(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	s := opened(t, url)
	grow(t, s, "a", "b", "c")
	server.SQL(t, schema, `UPDATE log_leaf SET entry = entry || '\x00' WHERE idx = 1`)
	if err := s.Check(t.Context()); err == nil {
		t.Error("a changed entry is not found")
	}
	server.SQL(t, schema, `UPDATE log_leaf SET entry = substr(entry, 1, length(entry) - 1) WHERE idx = 1`)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.SQL(t, schema, `ALTER TABLE answer ADD CONSTRAINT late CHECK (at > 0) NOT VALID`)
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "late is not valid") {
		t.Errorf("a constraint that nobody checked: %v", err)
	}
	server.SQL(t, schema, `ALTER TABLE answer DROP CONSTRAINT late; UPDATE log_head SET size = 4`)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return nil }); err == nil || !strings.Contains(err.Error(), "its checkpoint 3") {
		t.Errorf("an end that nobody signed: %v", err)
	}
	server.SQL(t, schema, `UPDATE log_head SET size = 2`)
	var r *store.Rollback
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return nil }); !errors.As(err, &r) || r.Remembered != 3 || r.Stored != 2 {
		t.Errorf("a log that was cut off: %v", err)
	}
	server.SQL(t, schema, `UPDATE log_head SET size = 3, root = sha256('x')`)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return nil }); !errors.As(err, &r) || r.Have == (evidence.Hash{}) {
		t.Errorf("another history of the same length: %v", err)
	}
}

// testText: a text that cannot be in a row is in none, and breaks nothing.
func testText(t *testing.T, server *postgrestest.Server, schema string) {
	db := openedDatabase(t, server.Schema(t, schema))
	for _, bad := range []string{"a\x00b", "\xff"} {
		err := db.Write(t.Context(), func(c store.Conn) error {
			rows, err := c.Query(`SELECT value FROM setting WHERE name = $1`, bad)
			if err != nil || rows.Next() {
				t.Errorf("%q: %v", bad, err)
			}
			if n, err := c.Exec(`DELETE FROM setting WHERE name = $1`, bad); n != 0 || err != nil {
				t.Errorf("%q: %d %v", bad, n, err)
			}
			if _, err := c.Exec(`INSERT INTO setting (name, value) VALUES ($1, '')`, bad); !errors.Is(err, errText) {
				t.Errorf("%q was written: %v", bad, err)
			}
			_, err = c.Query(`UPDATE setting SET value = '' WHERE name = $1 RETURNING value`, bad)
			if !errors.Is(err, errText) {
				t.Errorf("%q: %v", bad, err)
			}
			_, err = c.Exec(`INSERT INTO setting (name, value) VALUES ($1, '')`, "good"+fmt.Sprint(len(bad)))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestConnections: what a connection string must not say. No server is asked.
func TestConnections(t *testing.T) {
	var names []string
	for _, c := range []struct{ connection, want string }{
		{"host=/x password=sesame", "can be read by everybody"},
		{"host=/x passfile=/nowhere", "no such file"},
		{"host=/x passfile='/no where'", "no such file"},
		{"host=db.example", "sslmode=verify-full"},
		{"host=db.example sslmode=verify-full", ""},
		{"postgres://db.example/x?sslmode=verify-full", ""},
		{"postgres://[::1]/x", ""},
		{"postgres:///x?host=/run/postgresql", ""},
		{"postgres://db.example:99999999/x", "port"},
	} {
		w, r, err := configs(c.connection)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.connection, err)
		}
		if err == nil {
			for _, config := range []*pgx.ConnConfig{w, r} {
				if config.ConnectTimeout == 0 || config.RuntimeParams["standard_conforming_strings"] != "on" {
					t.Errorf("%s: %v", c.connection, config.RuntimeParams)
				}
				names = append(names, config.Host)
			}
		}
	}
	if !slices.Contains(names, "db.example") {
		t.Error(names)
	}
}
