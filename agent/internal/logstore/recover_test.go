// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

// prepared is a log of 40 entries with checkpoint 2 at 30 and a quote about it.
func prepared(t testing.TB) (dir string, end int64, c *evidence.Checkpoint) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	l, _ := open(t, dir)
	appendN(t, l, 0, 10)
	commit(t, l)
	appendN(t, l, 10, 20)
	c, _ = commit(t, l)
	end = l.entries.size()
	if err := l.Mark(Mark{Sequence: 1, Number: c.Number}); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 30, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, end, c
}

func TestTornTail(t *testing.T) {
	dir, end, c := prepared(t)
	size := fileSize(t, filepath.Join(dir, "entries"))
	intact := func(what string, dir string) {
		t.Helper()
		l, r, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		defer l.Close()
		if l.Size() < 30 || l.Size() > 40 || r.Kept != l.Size()-30 {
			t.Errorf("%s: %d entries, recovered %+v", what, l.Size(), r)
		}
		check(t, l, int(l.Size()))
		if root, err := l.tree.Root(c.Size); err != nil || root != c.Root {
			t.Errorf("%s: root %s, %v, checkpoint says %s", what, root, err, c.Root)
		}
		n := int(l.Size())
		appendN(t, l, n, 3)
		if next, _ := commit(t, l); next.Number != c.Number+1 || next.Size != uint64(n+3) {
			t.Errorf("%s: next checkpoint %+v", what, next)
		}
	}
	for at := end; at <= size; at += 3 {
		d := copyDir(t, dir)
		if err := os.Truncate(filepath.Join(d, "entries"), at); err != nil {
			t.Fatal(err)
		}
		intact(fmt.Sprintf("cut at %d", at), d)
	}
	for at := end; at < size; at += 5 {
		d := copyDir(t, dir)
		damage(t, filepath.Join(d, "entries"), at)
		intact(fmt.Sprintf("damaged at %d", at), d)
	}
	// Pages that were never written read as zeros.
	d := copyDir(t, dir)
	for name, at := range map[string]int64{"entries": end + 4, "offsets": 31 * offsetSize, "hashes": evidence.StoredHashCount(31) * hashSize} {
		path := filepath.Join(d, name)
		n := fileSize(t, path)
		if err := errors.Join(os.Truncate(path, at), os.Truncate(path, n)); err != nil {
			t.Fatal(err)
		}
	}
	intact("zeros", d)
	// A checkpoint that nothing refers to yet may be torn.
	d = copyDir(t, dir)
	if err := os.Truncate(filepath.Join(d, "checkpoints"), 2*slotSize+100); err != nil {
		t.Fatal(err)
	}
	intact("third checkpoint begun", d)
	d = copyDir(t, dir)
	if err := os.Truncate(filepath.Join(d, "checkpoints"), 3*slotSize); err != nil {
		t.Fatal(err)
	}
	intact("third checkpoint never written", d)
}

func TestBrokenLogIsRefused(t *testing.T) {
	dir, end, _ := prepared(t)
	cut := func(name string, at int64) func(string) error {
		return func(d string) error { return os.Truncate(filepath.Join(d, name), at) }
	}
	hurt := func(name string, at int64) func(string) error {
		return func(d string) error { damage(t, filepath.Join(d, name), at); return nil }
	}
	for name, harm := range map[string]func(string) error{
		"entries end before the checkpoint": cut("entries", end-1),
		"entries are gone":                  cut("entries", 0),
		"hashes end before the checkpoint":  cut("hashes", evidence.StoredHashCount(30)*hashSize-1),
		"offsets end before the checkpoint": cut("offsets", 30*offsetSize-1),
		"a hash of the tree changed":        hurt("hashes", (evidence.StoredHashCount(16)-1)*hashSize),
		"the last entry changed":            hurt("entries", end-1),
		"the last offset changed":           hurt("offsets", 29*offsetSize+7),
		"the quoted checkpoint is gone":     cut("checkpoints", slotSize),
		"the quoted checkpoint changed":     hurt("checkpoints", slotSize+slotHeader+50),
		"the one before it changed":         hurt("checkpoints", slotHeader+50),
		"all checkpoints are gone":          cut("checkpoints", 0),
		"the checkpoints before it are gone": func(d string) error {
			b, err := os.ReadFile(filepath.Join(d, "checkpoints"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "checkpoints"), b[slotSize:], 0o600)
		},
		"the one before it is another": func(d string) error {
			b, err := os.ReadFile(filepath.Join(d, "checkpoints"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "checkpoints"), append(b[slotSize:2*slotSize:2*slotSize], b[slotSize:]...), 0o600)
		},
		"the checkpoint stands elsewhere": func(d string) error {
			b, err := os.ReadFile(filepath.Join(d, "checkpoints"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, "checkpoints"), append(b, b[slotSize:]...), 0o600)
		},
	} {
		d := copyDir(t, dir)
		if err := harm(d); err != nil {
			t.Fatal(err)
		}
		before := contents(t, d)
		l, _, err := Open(d)
		if !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.Equal(contents(t, d), before) {
			t.Errorf("%s: what was found was changed", name)
		}
		if l != nil {
			l.Close()
		}
		if _, _, err := Open(d); !errors.Is(err, ErrBroken) {
			t.Errorf("%s, asked again: %v", name, err)
		}
	}
}

// TestDamageDeepInTheLog is found when the entry is needed.
func TestDamageDeepInTheLog(t *testing.T) {
	dir, _, _ := prepared(t)
	d := copyDir(t, dir)
	damage(t, filepath.Join(d, "entries"), recordHeader+2)
	l, _ := open(t, d)
	if _, err := l.Entry(0); !errors.Is(err, ErrBroken) {
		t.Errorf("entry 0 changed: %v", err)
	}
	// Also if somebody took the trouble to make the checksum right.
	raw, err := os.ReadFile(filepath.Join(d, "entries"))
	if err != nil {
		t.Fatal(err)
	}
	forged := raw[recordHeader : recordHeader+binary.BigEndian.Uint32(raw)]
	binary.BigEndian.PutUint32(raw[4:], crc32.Checksum(forged, castagnoli))
	if err := os.WriteFile(filepath.Join(d, "entries"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Entry(0); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "not the one whose hash") {
		t.Errorf("entry 0 forged: %v", err)
	}
}

// contents returns what is in the files of a log.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, name := range []string{"entries", "offsets", "hashes", "checkpoints", "quotes"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(raw)
	}
	return out
}
