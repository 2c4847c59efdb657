// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/evidence"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		crash(path)
	}
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	folder := t.TempDir()
	storetest.Run(t, func(t testing.TB, name string, signer store.Signer) *store.Store {
		t.Helper()
		// A folder with characters that mean something in a URL.
		s, err := Open(t.Context(), filepath.Join(folder, filepath.Base(t.Name())+" ?#%41", name, "broker.db"), signer, storetest.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func opened(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh returns the path of a store with n entries in its log, closed.
func fresh(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "broker.db")
	s := opened(t, path)
	grow(t, s, 0, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func grow(t testing.TB, s *store.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Append(storetest.Entry(fmt.Sprintf("t%d", i)), []byte("{}"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "state", "broker.db")
	s := opened(t, path)
	grow(t, s, 0, 1)
	for name, want := range map[string]os.FileMode{
		filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", filepath.Base(name), got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{path: 0o640, filepath.Dir(path): 0o750} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now); err == nil || !strings.Contains(err.Error(), "others may enter") {
			t.Errorf("%s with mode %04o: %v %v", filepath.Base(name), mode, s, err)
		}
		if err := os.Chmod(name, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	opened(t, path).Close()
}

// Each setting that durability or order rests on is what it should be.
func TestPragmas(t *testing.T) {
	db, err := open(t.Context(), filepath.Join(t.TempDir(), "state", "broker.db"), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
	steps, err := migrations(files)
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
		"newer":        fmt.Sprintf(`INSERT INTO migration (number, name, checksum, applied) VALUES (%d, 'x', x'00', 0)`, len(steps)+1),
	} {
		path := fresh(t, 1)
		sqlIn(t, path, change)
		if s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now); err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
	}
	for name, files := range map[string][]string{
		"gap": {"0001_a.sql", "0003_b.sql"}, "twice": {"0001_a.sql", "0001_b.sql"}, "no number": {"begin.sql"}, "from zero": {"0000_a.sql"},
	} {
		folder := fstest.MapFS{}
		for _, f := range files {
			folder["migrations/"+f] = &fstest.MapFile{}
		}
		if _, err := migrations(folder); err == nil {
			t.Errorf("%s: %v", name, files)
		}
	}
	other := filepath.Join(t.TempDir(), "state", "other.db")
	if err := os.Mkdir(filepath.Dir(other), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sqlIn(t, other, `CREATE TABLE cookies (x)`)
	if _, err := Open(t.Context(), other, storetest.NewSigner(t), storetest.Now); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("somebody else's database: %v", err)
	}
	garbage := filepath.Join(filepath.Dir(other), "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database at all ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), garbage, storetest.NewSigner(t), storetest.Now); err == nil {
		t.Error("garbage was opened")
	}
}

// What somebody with access to the file changes, is found: what the head
// covers at the next start, what only the entries tell by Check.
func TestTampering(t *testing.T) {
	entry, err := storetest.Entry("t3x").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	forged := evidence.LeafHash(entry)
	other, err := audit.NewSigner("jurat.dev/log/other.example", make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := other.Checkpoint(7, evidence.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		statement string
		args      []any
		atStart   bool
	}{
		"head shortened":         {`UPDATE log_head SET size = 6`, nil, true},
		"root changed":           {`UPDATE log_head SET root = $1`, []any{make([]byte, 32)}, true},
		"head of another log":    {`UPDATE log_head SET checkpoint = $1`, []any{checkpoint}, true},
		"head deleted":           {`DELETE FROM log_head`, nil, true},
		"last entry deleted":     {`DELETE FROM log_leaf WHERE idx = 6`, nil, true},
		"hash at the edge":       {`UPDATE log_hash SET hash = $1 WHERE idx = (SELECT MAX(idx) FROM log_hash)`, []any{make([]byte, 32)}, true},
		"hash shortened":         {`UPDATE log_hash SET hash = x'00' WHERE idx = (SELECT MAX(idx) FROM log_hash)`, nil, true},
		"inner hash":             {`UPDATE log_hash SET hash = $1 WHERE idx = 2`, []any{make([]byte, 32)}, false},
		"hash added":             {`INSERT INTO log_hash (idx, hash) VALUES (1000, $1)`, []any{make([]byte, 32)}, false},
		"entry in the middle":    {`DELETE FROM log_leaf WHERE idx = 3`, nil, false},
		"entry replaced":         {`UPDATE log_leaf SET entry = $1, txn = 't3x' WHERE idx = 3`, []any{entry}, false},
		"entry and its leaf":     {`UPDATE log_hash SET hash = $1 WHERE idx = 4`, []any{forged[:]}, false},
		"entry that is none":     {`UPDATE log_leaf SET entry = x'00' WHERE idx = 3`, nil, false},
		"entry of another txn":   {`UPDATE log_leaf SET txn = 't9' WHERE idx = 3`, nil, false},
		"explanation deleted":    {`DELETE FROM explanation WHERE idx = 3`, nil, false},
		"explanation of another": {`UPDATE explanation SET txn = 't9' WHERE idx = 3`, nil, false},
		"filed under another":    {`UPDATE log_leaf SET txn = 't9' WHERE idx = 3; UPDATE explanation SET txn = 't9' WHERE idx = 3`, nil, false},
		"answer to nothing":      {`INSERT INTO answer (d, act, issuer, subject, method, statement, signature, key, at) VALUES (x'00', '', '', '', '', x'', x'', x'', 0)`, nil, false},
		"explanation of nothing": {`INSERT INTO explanation (idx, txn, body) VALUES (99, 't99', '{}')`, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := fresh(t, 7)
			sqlIn(t, path, c.statement, c.args...)
			s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now)
			if (err != nil) != c.atStart {
				t.Fatalf("open: %v", err)
			}
			if err != nil {
				return
			}
			defer s.Close()
			if err := s.Check(t.Context()); err == nil {
				t.Error("Check finds nothing")
			}
		})
	}
	path := fresh(t, 7)
	if _, err := Open(t.Context(), path, other, storetest.Now); err == nil {
		t.Error("a log signed with another key was opened")
	}
}

// Check does not rest on what was true when the store was opened.
func TestTamperingWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "broker.db")
	s := opened(t, path)
	defer s.Close()
	grow(t, s, 0, 7)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	sqlIn(t, path, `UPDATE log_head SET root = $1`, make([]byte, 32))
	if err := s.Check(t.Context()); err == nil {
		t.Error("Check finds nothing")
	}
}

// A damaged page is found, at the latest by Check.
func TestDamagedFile(t *testing.T) {
	path := fresh(t, 100)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := 0; at < len(data)/page; at += 4 {
		bad := bytes.Clone(data)
		copy(bad[at*page:], bytes.Repeat([]byte{0xff}, 16))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), path, storetest.NewSigner(t), storetest.Now)
		if err == nil {
			err = s.Check(t.Context())
			s.Close()
		}
		if err == nil {
			t.Errorf("damage to page %d is not found", at+1)
		}
	}
}

// A restored backup is a log of its own past: sound in itself, and told by
// the checkpoint that somebody outside remembers.
func TestRestoredBackup(t *testing.T) {
	path := fresh(t, 5)
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, path)
	grow(t, s, 5, 9)
	var seen audit.Checkpoint
	read := func(s *store.Store, fn func(r *store.Reader) error) {
		t.Helper()
		if err := s.View(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	read(s, func(r *store.Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		seen, err = storetest.NewSigner(t).Open(head.Checkpoint)
		return err
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path)
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("the backup itself is damaged: %v", err)
	}
	rolledBack := func(want string) {
		t.Helper()
		read(s, func(r *store.Reader) error {
			var e *store.Rollback
			if err := r.Continues(seen); !errors.As(err, &e) || !strings.Contains(e.Error(), want) {
				t.Errorf("restored backup: %v", err)
			}
			return nil
		})
	}
	rolledBack("rolled back")
	grow(t, s, 100, 110) // it grows again, and past where it was
	rolledBack("another history")
}

// failing is a database whose commits fail while fail says so.
type failing struct {
	store.Database
	fail error
}

func (f *failing) Write(ctx context.Context, fn func(store.Conn) error) error {
	return f.Database.Write(ctx, func(c store.Conn) error {
		if err := fn(c); err != nil {
			return err
		}
		return f.fail
	})
}

// moody is a signer that does not sign while fail says so.
type moody struct {
	*audit.Signer
	fail error
}

func (m *moody) Checkpoint(size uint64, root evidence.Hash) ([]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	return m.Signer.Checkpoint(size, root)
}

// Without a commit or without a signed head there is no yes, and nothing stays.
func TestNotCommitted(t *testing.T) {
	inner, err := open(t.Context(), filepath.Join(t.TempDir(), "state", "broker.db"), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	db, signer := &failing{Database: inner}, &moody{Signer: storetest.NewSigner(t)}
	s, err := store.New(t.Context(), db, signer)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	boom := errors.New("no space left on device")
	try := func() error {
		return s.Update(t.Context(), func(tx *store.Tx) error {
			if err := tx.Once(store.SpaceNonce, evidence.Hash{1}, storetest.Now); err != nil {
				return err
			}
			_, err := tx.Append(storetest.Entry("t"), []byte("{}"))
			return err
		})
	}
	db.fail = boom
	if err := try(); !errors.Is(err, boom) {
		t.Errorf("commit failed, update says %v", err)
	}
	db.fail, signer.fail = nil, boom
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.SetSetting("a", nil, nil) }); err != nil {
		t.Errorf("nothing to sign, but %v", err)
	}
	if err := try(); !errors.Is(err, boom) {
		t.Errorf("signing failed, update says %v", err)
	}
	signer.fail = nil
	if err := try(); err != nil {
		t.Errorf("something stayed: %v", err)
	}
	if err := try(); err != store.ErrReplay {
		t.Errorf("second time: %v", err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Two programs with the same file take turns and make one log.
func TestTwoPrograms(t *testing.T) {
	path := fresh(t, 1)
	one, two := opened(t, path), opened(t, path)
	defer one.Close()
	defer two.Close()
	done := make(chan error)
	for i, s := range []*store.Store{one, two} {
		go func() {
			var err error
			for n := 0; n < 50 && err == nil; n++ {
				err = s.Update(context.Background(), func(tx *store.Tx) error {
					_, err := tx.Append(storetest.Entry(fmt.Sprintf("p%d-%d", i, n)), []byte("{}"))
					return err
				})
			}
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	if err := one.Check(t.Context()); err != nil {
		t.Error(err)
	}
	err := two.View(t.Context(), func(r *store.Reader) error {
		head, err := r.Head()
		if head.Size != 101 {
			t.Errorf("%d entries, want 101", head.Size)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
