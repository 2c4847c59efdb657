// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

// entry returns the canonical bytes of some entry; a different one for each i.
func entry(t testing.TB, i int) []byte {
	t.Helper()
	e := evidence.Entry{Version: evidence.EntryVersion, Kind: evidence.KindLoss, At: uint64(i), Loss: &evidence.Loss{Cause: "ring-full", Count: uint64(i)}}
	if i%5 == 0 {
		e.Loss.Cause += string(bytes.Repeat([]byte{'x'}, i%700))
	}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, dir string) (*Log, Recovery) {
	t.Helper()
	l, r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, r
}

func appendN(t testing.TB, l *Log, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		index, leaf, err := l.Append(entry(t, i))
		if err != nil {
			t.Fatal(err)
		}
		if index != uint64(i) || leaf != evidence.LeafHash(entry(t, i)) {
			t.Fatalf("entry %d got index %d", i, index)
		}
	}
}

func commit(t testing.TB, l *Log) (*evidence.Checkpoint, []byte) {
	t.Helper()
	c, raw, err := l.Commit(fill)
	if err != nil {
		t.Fatal(err)
	}
	return c, raw
}

func fill(c *evidence.Checkpoint) {
	c.AKName, c.BootID, c.Epoch = make([]byte, 34), make([]byte, 16), 3
	c.IMADigest = evidence.Unknown[evidence.Hash]("not-collected")
}

// check holds the whole log against a tree made from its entries in memory.
func check(t testing.TB, l *Log, n int) {
	t.Helper()
	if l.Size() != uint64(n) {
		t.Fatalf("log of %d entries, want %d", l.Size(), n)
	}
	if n == 0 {
		return
	}
	all := make([][]byte, n)
	for i := range all {
		var err error
		if all[i], err = l.Entry(uint64(i)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(all[i], entry(t, i)) {
			t.Fatalf("entry %d changed", i)
		}
	}
	batch, err := evidence.NewBatch(all)
	if err != nil {
		t.Fatal(err)
	}
	want, err := batch.Root()
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.tree.Root(uint64(n))
	if err != nil || got != want {
		t.Fatalf("root %s, %v, want %s", got, err, want)
	}
}

func TestLogGoesOnAfterReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, r := open(t, dir)
	if r != (Recovery{}) {
		t.Errorf("a new log recovered %+v", r)
	}
	if c, _ := l.Last(); c != nil {
		t.Errorf("a new log has checkpoint %+v", c)
	}
	var last *evidence.Checkpoint
	var lastRaw []byte
	for round := range 5 {
		appendN(t, l, round*300, 300)
		check(t, l, (round+1)*300) // from memory and disk
		c, raw := commit(t, l)
		if c.Number != uint64(round+1) || c.Size != uint64((round+1)*300) {
			t.Fatalf("checkpoint %+v", c)
		}
		if round == 0 && !c.Previous.IsZero() || round > 0 && c.Previous != evidence.CheckpointDigest(lastRaw) {
			t.Errorf("checkpoint %d follows %s", c.Number, c.Previous)
		}
		if last != nil {
			p, err := l.Consistency(c.Size, last.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := evidence.CheckConsistency(p, c.Size, c.Root, last.Size, last.Root); err != nil {
				t.Error(err)
			}
		}
		if _, err := l.Inclusion(c.Size, c.Root, 7, evidence.LeafHash(entry(t, 7))); err != nil {
			t.Error(err)
		}
		last, lastRaw = c, raw
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, r = open(t, dir); r.Kept != 0 || r.Cut != 0 || r.Epoch != 3 {
			t.Errorf("recovered %+v", r)
		}
		if c, raw := l.Last(); c.Number != last.Number || !bytes.Equal(raw, lastRaw) {
			t.Errorf("last checkpoint is %d, want %d", c.Number, last.Number)
		}
	}
	check(t, l, 1500)
	if _, err := l.Consistency(10, 11); !errors.Is(err, ErrBroken) {
		t.Errorf("the broker has seen more than there is: %v", err)
	}
	if _, err := l.Inclusion(last.Size, last.Root, 7, evidence.LeafHash(entry(t, 8))); !errors.Is(err, ErrBroken) {
		t.Errorf("a proof for another leaf: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "entries": 0o600, "offsets": 0o600, "hashes": 0o600, "checkpoints": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%q has mode %v, want %v (%v)", name, info.Mode(), mode, err)
		}
	}
}

func TestMemoryDoesNotGrow(t *testing.T) {
	l, _ := open(t, filepath.Join(t.TempDir(), "log"))
	appendN(t, l, 0, 60000)
	for _, f := range []*tail{l.entries, l.offsets, l.hashes} {
		if f.disk == 0 || cap(f.buf) > 3*flushAt {
			t.Errorf("%s: %d bytes on disk, %d in memory", f.f.Name(), f.disk, cap(f.buf))
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, dir)
	if _, _, err := Open(dir); err == nil {
		t.Fatal("a second process opened the log")
	}
	l.Close()
	open(t, dir)
}

func TestNothingGoesOnAfterAFailedWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, dir)
	appendN(t, l, 0, 10)
	commit(t, l)
	readOnly, err := os.Open(l.hashes.f.Name()) // as if the disk were full
	if err != nil {
		t.Fatal(err)
	}
	l.hashes.f.Close()
	l.hashes.f = readOnly
	appendN(t, l, 10, 10)
	if _, _, err := l.Commit(fill); err == nil {
		t.Fatal("a checkpoint of entries that are not on disk")
	}
	if _, _, err := l.Append(entry(t, 20)); err == nil {
		t.Error("an entry was added to a log that cannot be written")
	}
	if c, _ := l.Last(); c.Size != 10 {
		t.Errorf("last checkpoint of %d entries", c.Size)
	}
}

// damage flips the bits of one byte.
func damage(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

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
		l, _, err := Open(d)
		if !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
		if l != nil {
			l.Close()
		}
		if _, _, err := Open(d); !errors.Is(err, ErrBroken) {
			t.Errorf("%s, asked again: %v", name, err)
		}
	}
	// What lies deep in the log is found when it is needed.
	d := copyDir(t, dir)
	damage(t, filepath.Join(d, "entries"), recordHeader+2)
	l, _ := open(t, d)
	if _, err := l.Entry(0); !errors.Is(err, ErrBroken) {
		t.Errorf("entry 0 changed: %v", err)
	}
}
