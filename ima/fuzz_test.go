// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func seeds(f *testing.F) {
	f.Add(sample(newWriter()).list)
	f.Add(sample(&writer{order: binary.BigEndian, bank: 32}).list)
	f.Add(sample(newWriter()).list[:200])
	f.Add(newWriter().entry(10, make([]byte, 20), "ima", append(make([]byte, 20), 255, 255, 255, 255)).list)
	f.Add([]byte{})
}

// FuzzNext: no list makes it panic, the entries are the list, nothing outside
// an entry is touched, and in pieces it is the same list.
func FuzzNext(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, list []byte) {
		format := Detect(list)
		kept := bytes.Clone(list)
		var raw []byte
		var want error = io.EOF
		replay := NewReplay(10, AllTracks)
		for rest := list; len(rest) > 0; {
			e, after, err := format.Next(rest)
			if err != nil {
				want = err
				break
			}
			raw = append(raw, e.Raw...)
			replay.Add(&e)
			use(t, &e)
			rest = after
		}
		if !bytes.Equal(list, kept) || !bytes.HasPrefix(list, raw) || errors.Is(want, io.EOF) && len(raw) != len(list) {
			t.Fatalf("%d bytes in, entries of %d bytes, %v", len(list), len(raw), want)
		}
		again, n, err := drain(NewReader(iotest.HalfReader(bytes.NewReader(list))))
		if uint64(n) != replay.Count || !bytes.Equal(again, raw) {
			t.Fatalf("read in pieces: %d entries, want %d", n, replay.Count)
		}
		if errors.Is(err, io.EOF) != errors.Is(want, io.EOF) || errors.Is(err, ErrShort) != errors.Is(want, ErrShort) {
			t.Fatalf("read in pieces: %v, want %v", err, want)
		}
	})
}

// use calls everything there is to call on an entry.
func use(t *testing.T, e *Entry) {
	digest, path, ok := e.File()
	if ok && (e.Violation() || e.Opaque() || len(digest.Digest) == 0 || bytes.IndexByte(path, 0) >= 0) {
		t.Fatalf("a file that is none: %v at %q", digest, path)
	}
	var joined int
	for _, field := range e.Fields() {
		joined += len(field.Value)
	}
	if joined > len(e.Data) {
		t.Fatalf("fields of %d bytes in data of %d", joined, len(e.Data))
	}
	e.BootAggregate()
	e.CheckTemplateDigest()
}

// FuzzText: no text makes it panic, and what it gives is a binary list.
func FuzzText(f *testing.F) {
	w := newWriter()
	var text []byte
	for rest := sample(w).list; len(rest) > 0; {
		e, after, err := Next(rest)
		if err != nil {
			f.Fatal(err)
		}
		text = append(text, asKernel(&e)...)
		rest = after
	}
	f.Add(text)
	f.Add([]byte("10 "))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := NewTextReader(bytes.NewReader(text))
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			again, rest, err := Format{DigestSize: len(e.TemplateDigest)}.Next(e.Raw)
			if err != nil || len(rest) != 0 || !bytes.Equal(again.Data, e.Data) {
				t.Fatalf("no entry of a binary list: %v", err)
			}
			use(t, e)
		}
	})
}
