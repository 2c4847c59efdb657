// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"bytes"
	"errors"
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
