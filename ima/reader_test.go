// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/iotest"
)

// source is what both readers are.
type source interface{ Next() (*Entry, error) }

func drain(r source) (raw []byte, n int, err error) {
	for {
		e, err := r.Next()
		if err != nil {
			return raw, n, err
		}
		raw, n = append(raw, e.Raw...), n+1
	}
}

// TestReader: in whatever pieces a list comes, it is the same list.
func TestReader(t *testing.T) {
	list := sample(newWriter()).add(10, "ima-buf", ng("sha256", sum(1)), name("large"), make([]byte, 300<<10)).list
	for name, in := range map[string]io.Reader{
		"whole": bytes.NewReader(list), "byte by byte": iotest.OneByteReader(bytes.NewReader(list)), "halves": iotest.HalfReader(bytes.NewReader(list)),
		"end with data": iotest.DataErrReader(bytes.NewReader(list)),
	} {
		r := NewReader(in)
		raw, n, err := drain(r)
		if err != io.EOF || n != 14 || !bytes.Equal(raw, list) || r.Count() != 14 || r.Offset() != uint64(len(list)) || len(r.Rest()) != 0 {
			t.Errorf("%s: %d entries, %v, %d bytes of %d", name, n, err, len(raw), len(list))
		}
	}
	if _, n, err := drain(NewReader(strings.NewReader(""))); err != io.EOF || n != 0 {
		t.Errorf("an empty list: %d entries, %v", n, err)
	}
}

// TestReaderFindsFormat: a list of a bank, big-endian.
func TestReaderFindsFormat(t *testing.T) {
	w := &writer{order: binary.BigEndian, bank: 48}
	r := NewReader(bytes.NewReader(sample(w).list))
	if _, n, err := drain(r); err != io.EOF || n != 13 || r.Format() != (Format{DigestSize: 48, BigEndian: true}) {
		t.Errorf("%d entries, %v, %+v", n, err, r.Format())
	}
}

// TestReaderSaysWhere: a torn tail and a malformed entry have a number and a place.
func TestReaderSaysWhere(t *testing.T) {
	w := newWriter().add(10, "ima-ng", ng("sha256", sum(1)), name("/a"))
	first := uint64(len(w.list))
	torn := append(bytes.Clone(w.list), w.list[:20]...)
	bad := append(bytes.Clone(w.list), newWriter().entry(99, sum(1)[:20], "ima-ng", nil).list...)
	for _, c := range []struct {
		list []byte
		code Code
	}{{torn, CodeShort}, {bad, CodePCR}} {
		r := NewReader(bytes.NewReader(c.list))
		_, n, err := drain(r)
		var malformed *Error
		if !errors.As(err, &malformed) || malformed.Code != c.code || malformed.Entry != 2 || malformed.Offset != first || n != 1 {
			t.Errorf("%s: %v after %d entries", c.code, err, n)
		}
		if errors.Is(err, ErrShort) != (c.code == CodeShort) {
			t.Errorf("%s: is short: %v", c.code, errors.Is(err, ErrShort))
		}
		if !bytes.Equal(r.Rest(), c.list[first:]) {
			t.Errorf("%s: %d bytes left, want %d", c.code, len(r.Rest()), len(c.list)-int(first))
		}
	}
	if _, _, err := drain(NewReader(iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken reader: %v", err)
	}
	if _, _, err := drain(NewReader(stuck{})); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// endless gives the same entries again and again, n times.
type endless struct {
	list []byte
	n    int
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.n == 0 {
			return 0, io.EOF
		}
		e.n--
		e.rest = e.list
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// TestMemory: a list of a million entries and more than 100 MB goes through a
// few hundred kilobytes.
func TestMemory(t *testing.T) {
	list := long(1000)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	debug.SetMemoryLimit(int64(before.Sys) + 16<<20)
	r, replay := NewReader(&endless{list: list, n: 1000}), NewReplay(10, 0)
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := e.File(); !ok {
			t.Fatal("no file")
		}
		replay.Add(e)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 || replay.Count != 1_000_000 || r.Offset() != 1000*uint64(len(list)) {
		t.Errorf("%d bytes allocated for %d entries of %d bytes", got, replay.Count, r.Offset())
	}
}

// TestText: what the kernel's ASCII form says of the sample, and what it loses.
func TestText(t *testing.T) {
	d := func(i int) string { return hexOf(sum(i)) }
	text := "10 " + strings.Repeat("ab", 20) + " ima-ng sha256:" + d(1) + " /a\n" +
		" 9 " + strings.Repeat("00", 20) + " ima-ng sha256:" + strings.Repeat("00", 20) + " /b\n" +
		"10 " + strings.Repeat("cd", 32) + " of-tomorrow x y z\n" +
		"10 " + strings.Repeat("cd", 20) + " ima-sig sha256:" + d(3) + " /has space 0302\n" +
		"10 " + strings.Repeat("cd", 20) + " ima-ng sha256:" + d(4) + "\n" +
		"10 " + strings.Repeat("cd", 20) + " ima zz /e"
	r := NewTextReader(iotest.OneByteReader(strings.NewReader(text)))
	want := []struct {
		pcr       uint32
		name      string
		violation bool
	}{{10, "/a", false}, {9, "/b", true}, {10, "", false}, {10, "", false}, {10, "", false}, {10, "", false}}
	for i, w := range want {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if e.PCR != w.pcr || string(e.Name()) != w.name || e.Violation() != w.violation || e.CheckTemplateDigest() != w.violation {
			t.Errorf("line %d: PCR %d, name %q, violation %v, exact %v", i+1, e.PCR, e.Name(), e.Violation(), e.CheckTemplateDigest())
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for what, line := range map[string]string{
		"empty": "", "no PCR": "x", "PCR 32": "32 " + strings.Repeat("00", 20) + " ima-ng", "negative": "-1 00",
		"odd digest": "10 " + strings.Repeat("0", 39) + " ima-ng", "short digest": "10 0011 ima-ng", "no digest": "10",
		"not hexadecimal": "10 " + strings.Repeat("zz", 20) + " ima-ng", "no template": "10 " + strings.Repeat("00", 20),
		"long template": "10 " + strings.Repeat("00", 20) + " " + strings.Repeat("d", 256), "template with a tab": "10 " + strings.Repeat("00", 20) + " a\tb x",
	} {
		good := "10 " + strings.Repeat("ab", 20) + " ima-ng sha256:" + d(1) + " /a\n"
		_, n, err := drain(NewTextReader(strings.NewReader(good + line + "\n")))
		var malformed *Error
		if !errors.As(err, &malformed) || malformed.Code != CodeText || malformed.Entry != 2 || malformed.Offset != uint64(len(good)) || n != 1 {
			t.Errorf("%s: %v after %d entries", what, err, n)
		}
	}
	endless := io.MultiReader(strings.NewReader("10 "), &endless{list: []byte("0000000000000000"), n: 1 << 20})
	if _, _, err := drain(NewTextReader(endless)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a line of 16 MB: %v", err)
	}
}

// TestTextSample: where every field survives, the text gives the list back.
func TestTextSample(t *testing.T) {
	w := newWriter() // first of a file without extended attributes
	w.add(10, "evm-sig", ng("sha256", sum(20)), name("/usr/bin/k"), nil, nil, nil, nil, w.u32(nil, 0), w.u32(nil, 0), []byte{0, 1})
	sample(w)
	entries := all(t, Format{}, w.list)
	var text strings.Builder
	for _, e := range entries {
		text.WriteString(asKernel(&e))
	}
	r := NewTextReader(strings.NewReader(text.String()))
	for i, want := range entries {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if i == len(entries)-1 { // of an unknown template
			if e.CheckTemplateDigest() || !e.Opaque() {
				t.Error("the data of an unknown template are made up")
			}
		} else if !bytes.Equal(e.Raw, want.Raw) {
			t.Errorf("line %d: %x\nwant %x", i+1, e.Raw, want.Raw)
		}
	}
}
