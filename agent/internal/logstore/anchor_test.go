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

var header = AnchorHeader{
	Mode: evidence.AnchorNVLatch, Name: append([]byte{0, 11}, make([]byte, 32)...), Index: 0x1906a72, Latch: 13,
	BootID: make([]byte, 16), ResetCount: 3, RestartCount: 1, Base: evidence.Hash{},
}

// anchored makes a log in dir with n checkpoints of two entries, all anchored,
// and returns the values of the register after each; values[0] is the base.
func anchored(t testing.TB, dir string, n int) (l *Log, digests, values []evidence.Hash) {
	t.Helper()
	l, _ = open(t, dir)
	if err := l.BeginAnchor(header); err != nil {
		t.Fatal(err)
	}
	values = append(values, header.Base)
	for i := range n {
		appendN(t, l, 2*i, 2)
		c, raw := commit(t, l)
		digest := evidence.CheckpointDigest(raw)
		if err := l.AppendAnchor(c.Number, digest); err != nil {
			t.Fatal(err)
		}
		digests, values = append(digests, digest), append(values, fold(values[i], digest))
	}
	return l, digests, values
}

func same(a, b *Anchor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Count == b.Count && a.Number == b.Number && a.Last == b.Last && a.Before == b.Before && a.Value == b.Value && a.Broken == b.Broken &&
		bytes.Equal(a.Name, b.Name) && a.ResetCount == b.ResetCount && a.RestartCount == b.RestartCount && a.Mode == b.Mode && a.Latch == b.Latch
}

func TestAnchor(t *testing.T) {
	const n = 7
	dir := filepath.Join(t.TempDir(), "log")
	l, digests, values := anchored(t, dir, n)
	for again := range 2 {
		a := l.Anchor()
		if a == nil || a.Count != n || a.Number != n || a.Last != digests[n-1] || a.Before != values[n-1] || a.Value != values[n] || a.Broken {
			t.Fatalf("opened %d times: %+v", again+1, a)
		}
		for from := range uint64(n + 1) {
			base, tail, err := l.AnchorTail(from)
			if err != nil || base != values[from] || len(tail) != 32*int(n-from) {
				t.Fatalf("tail from %d: base %s, %d bytes, %v", from, base, len(tail), err)
			}
			for i := range int(n - from) {
				if d := evidence.Hash(tail[32*i : 32*i+32]); d != digests[int(from)+i] {
					t.Errorf("tail from %d has %s at %d", from, d, i)
				}
			}
			if size, err := l.AnchorSize(from); err != nil || size != 2*from {
				t.Errorf("the log had %d entries at number %d: %v", size, from, err)
			}
		}
		if _, _, err := l.AnchorTail(n + 1); err == nil {
			t.Error("a tail from beyond the end")
		}
		if size, err := l.AnchorSize(n + 1); size != 0 || err != nil {
			t.Errorf("the log had %d entries beyond the end: %v", size, err)
		}
		for _, number := range []uint64{0, 1, n} {
			if err := l.AppendAnchor(number, evidence.Hash{1}); err == nil {
				t.Errorf("anchored checkpoint %d after %d", number, n)
			}
		}
		l.Close()
		l, _ = open(t, dir)
	}
	// A new register begins a new file.
	other := header
	other.ResetCount, other.Base = 4, evidence.Hash{7}
	if err := l.BeginAnchor(other); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l, _ = open(t, dir)
	if a := l.Anchor(); a == nil || a.Count != 0 || a.Value != other.Base || a.ResetCount != 4 {
		t.Errorf("begun anew: %+v", a)
	}
}

// A register that was found broken stays so.
func TestBreakAnchor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _, _ := anchored(t, dir, 2)
	for range 2 {
		if err := l.BreakAnchor(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if a := l.Anchor(); a == nil || !a.Broken || a.Count != 2 {
			t.Fatalf("%+v", a)
		}
		if err := l.AppendAnchor(3, evidence.Hash{1}); err == nil {
			t.Error("anchored in a broken register")
		}
		l.Close()
		l, _ = open(t, dir)
	}
}

// reread reads the file again for a log that is as l is.
func reread(t testing.TB, l *Log, data []byte) (*Log, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, anchorName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Log{dir: l.dir, checks: l.checks, last: l.last, lastRaw: l.lastRaw}
	err := m.openAnchor()
	t.Cleanup(func() {
		if m.anchor.f != nil {
			m.anchor.f.Close()
		}
	})
	return m, err
}

// TestTornAnchor cuts the file at every byte. What is left is a beginning of
// what was there, never something else, and can be written on.
func TestTornAnchor(t *testing.T) {
	const n = 3
	l, digests, values := anchored(t, filepath.Join(t.TempDir(), "log"), n)
	whole, err := os.ReadFile(filepath.Join(l.dir, anchorName))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		m, err := reread(t, l, whole[:cut])
		a := m.Anchor()
		if err != nil || cut < slotSize && a != nil {
			t.Fatalf("cut at %d: %+v, %v", cut, a, err)
		}
		if cut < slotSize {
			continue
		}
		want := (cut - slotSize) / anchorRecord
		if a == nil || int(a.Count) != want || a.Value != values[want] {
			t.Fatalf("cut at %d: %+v, want %d records", cut, a, want)
		}
		if want == n || cut%7 != 0 {
			continue
		}
		if err := m.AppendAnchor(n, digests[n-1]); err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(filepath.Join(l.dir, anchorName))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := reread(t, l, written); err != nil || !same(again.Anchor(), m.Anchor()) {
			t.Fatalf("cut at %d and written on: %+v, %v, want %+v", cut, again.Anchor(), err, m.Anchor())
		}
	}
}

// TestDamagedAnchor flips every byte. Damage in the last record looks like a
// tear; any other makes the file count for nothing.
func TestDamagedAnchor(t *testing.T) {
	const n = 3
	l, _, values := anchored(t, filepath.Join(t.TempDir(), "log"), n)
	whole, err := os.ReadFile(filepath.Join(l.dir, anchorName))
	if err != nil {
		t.Fatal(err)
	}
	last := slotSize + (n-1)*anchorRecord
	used := slotHeader + int(whole[0])<<8 + int(whole[1])
	for at := range whole {
		if at >= used && at < slotSize {
			continue // nothing is kept there
		}
		bad := bytes.Clone(whole)
		bad[at] ^= 0x41
		m, err := reread(t, l, bad)
		a := m.Anchor()
		if err != nil || at < last && a != nil {
			t.Fatalf("byte %d: %+v, %v", at, a, err)
		}
		if at >= last && (a == nil || a.Count != n-1 || a.Value != values[n-1]) {
			t.Fatalf("byte %d: %+v", at, a)
		}
	}
	// A whole record whose value does not follow is damage too.
	forged := bytes.Clone(whole)
	copy(forged[slotSize:], whole[slotSize+anchorRecord:slotSize+2*anchorRecord])
	if m, err := reread(t, l, forged); err != nil || m.Anchor() != nil {
		t.Errorf("records out of order: %+v, %v", m.Anchor(), err)
	}
}

// TestLogBehindItsAnchor: a log that was put back to before what was anchored is
// broken itself.
func TestLogBehindItsAnchor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _, _ := anchored(t, dir, 2)
	l.Close()
	saved := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l, _ = open(t, dir)
	appendN(t, l, 4, 1)
	c, raw := commit(t, l)
	if err := l.AppendAnchor(c.Number, evidence.CheckpointDigest(raw)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	now, err := os.ReadFile(filepath.Join(dir, anchorName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(saved, anchorName), now, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(saved); !errors.Is(err, ErrBroken) {
		t.Errorf("a log without a checkpoint that was anchored: %v", err)
	}
	// Another checkpoint of the same number is no better.
	if err := os.Remove(filepath.Join(saved, anchorName)); err != nil {
		t.Fatal(err)
	}
	l, _ = open(t, saved)
	appendN(t, l, 4, 3)
	commit(t, l)
	l.Close()
	if err := os.WriteFile(filepath.Join(saved, anchorName), now, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(saved); !errors.Is(err, ErrBroken) {
		t.Errorf("a log with another checkpoint than was anchored: %v", err)
	}
}

func TestFirstOf(t *testing.T) {
	l, _ := open(t, filepath.Join(t.TempDir(), "log"))
	boot := func(b byte) evidence.Bytes { return append([]byte{b}, make([]byte, 15)...) }
	if size, err := l.FirstOf(boot(1)); size != 0 || err != nil {
		t.Errorf("empty log: %d, %v", size, err)
	}
	entries := 0
	for b := byte(1); b < 6; b++ {
		first := uint64(0)
		for range int(b) * 3 {
			appendN(t, l, entries, 1)
			entries++
			c, _, err := l.Commit(func(c *evidence.Checkpoint) { fill(c); c.BootID = boot(b) })
			if err != nil {
				t.Fatal(err)
			}
			if first == 0 {
				first = c.Size
			}
			if size, err := l.FirstOf(boot(b)); size != first || err != nil {
				t.Fatalf("boot %d: %d, %v, want %d", b, size, err, first)
			}
		}
		if size, err := l.FirstOf(boot(b - 1)); size != 0 || err != nil {
			t.Errorf("a boot that is over: %d, %v", size, err)
		}
	}
}

// FuzzAnchor: what is taken from a file is in it, and folds.
func FuzzAnchor(f *testing.F) {
	l, _, _ := anchored(f, filepath.Join(f.TempDir(), "log"), 3)
	whole, err := os.ReadFile(filepath.Join(l.dir, anchorName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-9])
	f.Add(whole[:slotSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnchor(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if a == nil {
			return
		}
		value := a.Base
		for i := range a.Count {
			record := data[slotSize+i*anchorRecord:]
			value = fold(value, evidence.Hash(record[8:40]))
		}
		if value != a.Value {
			t.Fatalf("%d records make %s, want %s", a.Count, value, a.Value)
		}
	})
}
