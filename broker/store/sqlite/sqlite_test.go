// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// rootOfSix returns the root that fresh(t, 6) signs.
func rootOfSix(t *testing.T) []byte {
	t.Helper()
	s := opened(t, fresh(t, 6))
	defer s.Close()
	var root evidence.Hash
	err := s.View(t.Context(), func(r *store.Reader) error {
		head, err := r.Head()
		root = head.Root
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root[:]
}

const aHost = `INSERT INTO host (name, id, ueid, ek, ak_public, ak_name, level, machine, enrolled, seen, epoch, sequence, size, root, state, boot_log)
	VALUES ('h', 'h', x'01', x'01', x'01', x'01', 'l', 'm', 0, 0, 0, 0, 0, x'01', x'', $1)`

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
		"cut off in step":        {`UPDATE log_head SET size = 6, root = $1; DELETE FROM explanation WHERE idx = 6; DELETE FROM log_leaf WHERE idx = 6; DELETE FROM log_hash WHERE idx > 9`, []any{rootOfSix(t)}, true},
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
		"boot log of nobody":     {`INSERT INTO boot_log (digest, log) VALUES ($1, x'00')`, []any{rootOfSix(t)}, false},
		"IMA list of nobody":     {`INSERT INTO ima_files (host, number, files) VALUES ('x', 0, x'00')`, nil, false},
		"boot log missing":       {aHost, []any{rootOfSix(t)}, false},
		"boot log of another":    {aHost + `; INSERT INTO boot_log (digest, log) VALUES ($1, x'00')`, []any{rootOfSix(t)}, false},
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
