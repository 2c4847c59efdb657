// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

func TestMarks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, dir)
	appendN(t, l, 0, 1)
	commit(t, l)
	if l.Quoted() != (Mark{}) {
		t.Errorf("a new log has mark %+v", l.Quoted())
	}
	for i := range uint64(5) {
		m := Mark{Sequence: i + 1, Attest: evidence.Hash{byte(i + 1)}, Number: 1}
		if err := l.Mark(m); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l, _ = open(t, dir); l.Quoted() != m {
			t.Errorf("mark %+v, want %+v", l.Quoted(), m)
		}
	}
	for _, sequence := range []uint64{4, 5, 7} {
		if err := l.Mark(Mark{Sequence: sequence, Number: 1}); err == nil {
			t.Errorf("quote %d after 5", sequence)
		}
	}
	l.Close()
	// The sixth mark would go to slot 0; torn there, the fifth still counts.
	damage(t, filepath.Join(dir, "quotes"), 0*slotSize+slotHeader)
	if l, _ = open(t, dir); l.Quoted().Sequence != 5 {
		t.Errorf("mark %+v", l.Quoted())
	}
	l.Close()
	damage(t, filepath.Join(dir, "quotes"), 1*slotSize+slotHeader)
	if _, _, err := Open(dir); !errors.Is(err, ErrBroken) {
		t.Errorf("no mark is whole: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	l, _ := open(b, filepath.Join(b.TempDir(), "log"))
	e := entry(b, 555)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}
