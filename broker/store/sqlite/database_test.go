// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/internal/schema"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/evidence"
)

func openedDatabase(t testing.TB) (*database, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "broker.db")
	db, err := open(t.Context(), path, storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, path
}

// Each setting that durability or order rests on is what it should be.
func TestPragmas(t *testing.T) {
	db, _ := openedDatabase(t)
	for _, c := range db.all {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "trusted_schema": "0",
			"query_only": map[bool]string{true: "0", false: "1"}[c == db.writer],
		} {
			var got string
			if err := c.raw.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, want %q (%v)", pragma, got, want, err)
			}
		}
	}
}

const anAnswer = `INSERT INTO answer (d, act, issuer, subject, method, statement, signature, key, at) VALUES (x'00', '', '', '', '', x'', x'', x'', 0)`

// A commit that fails is no commit, and the next one is not held up.
func TestCommitFails(t *testing.T) {
	db, _ := openedDatabase(t)
	err := db.Write(t.Context(), func(c store.Conn) error {
		_, err := c.Exec(`PRAGMA defer_foreign_keys = ON`) // looks at it only at the end
		_, err2 := c.Exec(anAnswer)
		return errors.Join(err, err2)
	})
	if err == nil || !strings.Contains(err.Error(), "FOREIGN KEY") {
		t.Errorf("commit of a row that points nowhere: %v", err)
	}
	err = db.Write(t.Context(), func(c store.Conn) error {
		_, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('a', x'00')`)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := db.Integrity(t.Context()); err != nil {
		t.Error(err)
	}
}

// While somebody else holds the file's lock, nothing is done.
func TestLockHeld(t *testing.T) {
	db, path := openedDatabase(t)
	if _, err := db.writer.raw.ExecContext(t.Context(), "PRAGMA busy_timeout = 20"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(store.Conn) error { t.Error("written without the lock"); return nil })
	if err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("lock is held, write says %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(store.Conn) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestBadStatements(t *testing.T) {
	db, _ := openedDatabase(t)
	for name, do := range map[string]func(store.Conn) error{
		"exec nonsense":  func(c store.Conn) error { _, err := c.Exec("nonsense"); return err },
		"query nonsense": func(c store.Conn) error { _, err := c.Query("nonsense"); return err },
		"row in the way": func(c store.Conn) error { _, err := c.Exec(`INSERT INTO log_head VALUES (2, 0, x'', x'')`); return err },
		"negative uses":  func(c store.Conn) error { _, err := c.Exec(strings.Replace(aDelegation, "USES", "-1", 1)); return err },
		"unknown state": func(c store.Conn) error {
			_, err := c.Exec(strings.Replace(aDelegation, "'used'", "'free'", 1))
			return err
		},
		"points nowhere": func(c store.Conn) error { _, err := c.Exec(anAnswer); return err },
		"key of nobody": func(c store.Conn) error {
			_, err := c.Exec(`INSERT INTO approver_key VALUES ('f', 'i', 's', x'', 0, 0)`)
			return err
		},
		"why of nothing":  func(c store.Conn) error { _, err := c.Exec(`INSERT INTO explanation VALUES (0, 't', x'')`); return err },
		"the fn's own no": func(store.Conn) error { return errFault },
	} {
		if err := db.Write(t.Context(), do); err == nil {
			t.Errorf("%s: done", name)
		}
	}
	for name, write := range map[string]string{"insert": `INSERT INTO setting (name, value) VALUES ('a', x'00')`, "drop": `DROP TABLE setting`} {
		if err := db.Read(t.Context(), func(c store.Conn) error { _, err := c.Exec(write); return err }); err == nil {
			t.Errorf("a reader may %s", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range readers {
		<-db.idle
	}
	<-db.turn
	nothing := func(store.Conn) error { t.Error("ran without a connection"); return nil }
	if err := errors.Join(db.Read(ctx, nothing), db.Write(ctx, nothing)); !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	for _, c := range db.all[1:] {
		db.idle <- c
	}
	db.turn <- struct{}{}
}

const aDelegation = `INSERT INTO delegation VALUES ('i', x'00', x'00', 'w', 'i', 's', 'used', 0, USES, 0, 0, 0, 0)`

// sqlIn changes the closed store at path behind the program's back.
func sqlIn(t testing.TB, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Exec(statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 && !strings.HasPrefix(statement, "CREATE") {
		t.Fatalf("%s changed nothing: %v", statement, err)
	}
}

func TestMigrations(t *testing.T) {
	steps, err := schema.Steps()
	if err != nil || len(steps) == 0 {
		t.Fatal(steps, err)
	}
	path := fresh(t, 3)
	s := opened(t, path)
	grow(t, s, 3, 4)
	s.Close()
	for name, change := range map[string]string{
		"changed file": `UPDATE migration SET checksum = x'00' WHERE number = 1`,
		"other name":   `UPDATE migration SET name = '0001_other.sql' WHERE number = 1`,
		"other number": `UPDATE migration SET number = 0 WHERE number = 1`,
		"no number":    `UPDATE migration SET number = 'one' WHERE number = 1`,
		"newer":        fmt.Sprintf(`INSERT INTO migration (number, name, checksum, applied) VALUES (%d, 'x', x'00', 0)`, len(steps)+1),
	} {
		path := fresh(t, 1)
		sqlIn(t, path, change)
		if s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now); err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
	}
}

// A step that fails takes the steps before it back: all or nothing.
func TestMigrationFails(t *testing.T) {
	db, _ := openedDatabase(t)
	known, err := schema.Steps()
	if err != nil {
		t.Fatal(err)
	}
	good := schema.Step{Number: len(known) + 1, Name: "good.sql", Text: "CREATE TABLE extra (x BIGINT NOT NULL)"}
	bad := schema.Step{Number: len(known) + 2, Name: "bad.sql", Text: "CREATE TABLE extra (y BIGINT NOT NULL)"}
	newer := append(known, good)
	if err := db.migrate(append(newer, bad), storetest.Now); err == nil || !strings.Contains(err.Error(), "bad.sql") {
		t.Errorf("migration to a table twice: %v", err)
	}
	if err := db.migrate(known, storetest.Now); err != nil {
		t.Errorf("the step before the bad one stayed: %v", err)
	}
	if err := errors.Join(db.migrate(newer, storetest.Now), db.migrate(newer, storetest.Now)); err != nil {
		t.Error(err)
	}
	if err := db.migrate(known, storetest.Now); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("the store is newer than the program: %v", err)
	}
}

// TestUpgrade: what the first version wrote is there after the later steps.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.db")
	steps, err := schema.Steps()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db := migrated(t, path, steps[:1])
	for _, statement := range []string{
		`INSERT INTO host VALUES ('h1', 'id1', x'01', x'0000000000000000000000000000000000000000000000000000000000000001', x'02', x'03', 'ek-cert', 'vm',
			1, 2, 3, 4, 5, x'0000000000000000000000000000000000000000000000000000000000000002', x'7b7d')`,
		`INSERT INTO token VALUES (x'0000000000000000000000000000000000000000000000000000000000000003', 't', 'd', 'w', 'id1', 'i', 'a', x'', 1, 2, 0)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	err = s.View(t.Context(), func(r *store.Reader) error {
		h, err := r.HostByName("h1")
		if h.Maker != "" || !h.BootLog.IsZero() || h.Last.Size != 5 || h.Level != "ek-cert" {
			t.Errorf("host %+v", h)
		}
		token, err2 := r.Token(evidence.Hash{31: 3})
		if token.Epoch != 0 || token.Instance != "i" {
			t.Errorf("token %+v", token)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

// migrated is a database with only these steps behind it.
func migrated(t *testing.T, path string, steps []schema.Step) *sql.DB {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := &database{pool: pool, writer: &conn{raw: raw, prepared: map[string]*sql.Stmt{}}}
	if err := db.migrate(steps, storetest.Now); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestForeignFiles(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	other, garbage, link := filepath.Join(folder, "other.db"), filepath.Join(folder, "garbage.db"), filepath.Join(folder, "folder.db")
	for path, data := range map[string]string{other: "", garbage: strings.Repeat("no database at all ", 1000)} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(link, 0o700); err != nil {
		t.Fatal(err)
	}
	sqlIn(t, other, `CREATE TABLE cookies (x)`)
	for path, want := range map[string]string{other: "another program", garbage: "not a database", link: "is a directory", filepath.Join(other, "x", "y.db"): "not a directory"} {
		if _, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}
