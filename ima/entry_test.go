// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestSample: every template of the kernel, taken apart.
func TestSample(t *testing.T) {
	type file struct{ algorithm, path string }
	want := []struct {
		template string
		file     file // no path: no file
		fields   string
	}{
		{"ima-ng", file{"sha256", "boot_aggregate"}, "d-ng n-ng"},
		{"ima-ng", file{"sha256", "/usr/bin/a_b"}, "d-ng n-ng"},
		{"ima-sig", file{"sha256", "/usr/bin/c"}, "d-ng n-ng sig"},
		{"ima-sig", file{"sha1", "/usr/bin/d"}, "d-ng n-ng sig"},
		{"ima", file{"sha1", "/bin/e"}, "d n"},
		{"ima-buf", file{}, "d-ng n-ng buf"},
		{"ima-modsig", file{"sha256", "/boot/f"}, "d-ng n-ng sig d-modsig modsig"},
		{"ima-ngv2", file{"sha256", "/usr/bin/g"}, "d-ngv2 n-ng"},
		{"ima-sigv2", file{"verity:sha256", "/usr/bin/h"}, "d-ngv2 n-ng sig"},
		{"evm-sig", file{"sha256", "/usr/bin/i"}, "d-ng n-ng evmsig xattrnames xattrlengths xattrvalues iuid igid imode"},
		{"ima-ng", file{}, "d-ng n-ng"},
		{"n-ng|d-ng", file{"sha384", "/usr/bin/j"}, "n-ng d-ng"},
		{"of-tomorrow", file{}, ""},
	}
	for _, f := range []Format{{}, {DigestSize: 20, BigEndian: true}, {DigestSize: 32}, {DigestSize: 48}, {DigestSize: 64, BigEndian: true}} {
		w := &writer{order: binary.LittleEndian, bank: f.digestSize()}
		if f.BigEndian {
			w.order = binary.BigEndian
		}
		list := sample(w).list
		if got := Detect(list); got.digestSize() != f.digestSize() || got.BigEndian != f.BigEndian {
			t.Fatalf("a list of format %+v is detected as %+v", f, got)
		}
		entries := all(t, f, list)
		if len(entries) != len(want) {
			t.Fatalf("%d entries, want %d", len(entries), len(want))
		}
		for i, e := range entries {
			w := want[i]
			var ids []string
			for _, field := range e.Fields() {
				ids = append(ids, field.ID)
				if first, ok := e.Field(field.ID); !ok || !bytes.Equal(first, field.Value) {
					t.Errorf("entry %d: Field(%s) %x, Fields %x", i+1, field.ID, first, field.Value)
				}
			}
			if got := strings.Join(ids, " "); got != w.fields || e.Opaque() != (w.fields == "") {
				t.Errorf("entry %d: fields %q, opaque %v; want %q", i+1, got, e.Opaque(), w.fields)
			}
			digest, path, ok := e.File()
			if got := (file{digest.Algorithm, string(path)}); got != w.file || ok != (w.file.path != "") {
				t.Errorf("entry %d: file %v (%v), want %v", i+1, got, ok, w.file)
			}
			if _, ok := e.BootAggregate(); ok != (i == 0) {
				t.Errorf("entry %d: boot_aggregate is %v", i+1, ok)
			}
			if string(e.Template) != w.template || !e.CheckTemplateDigest() || e.Violation() != (i == 10) || (e.PCR == 11) != (i == 11) {
				t.Errorf("entry %d: PCR %d, template %q, digest agrees: %v, violation %v", i+1, e.PCR, e.Template, e.CheckTemplateDigest(), e.Violation())
			}
		}
	}
}

// TestFileRefuses: what is no measurement of a file with a digest.
func TestFileRefuses(t *testing.T) {
	for what, w := range map[string]*writer{
		"violation":              newWriter().violation(10, "ima-ng", ng("sha256", sum(1)), name("/a")),
		"buffer":                 newWriter().add(10, "ima-buf", ng("sha256", sum(1)), name("kexec-cmdline"), nil),
		"buffer by fields":       newWriter().add(10, "d-ng|n-ng|buf", ng("sha256", sum(1)), name("kexec-cmdline"), []byte("x")),
		"short digest":           newWriter().add(10, "ima-ng", ng("sha256", sum(1)[:31]), name("/a")),
		"zero digest of 20":      newWriter().add(10, "ima-ng", ng("sha256", make([]byte, 20)), name("/a")),
		"unknown algorithm":      newWriter().add(10, "ima-ng", ng("sha257", sum(1)), name("/a")),
		"no algorithm":           newWriter().add(10, "ima-ng", ng("", sum(1)), name("/a")),
		"no separator":           newWriter().add(10, "ima-ng", sum(1), name("/a")),
		"type of v2 in v1":       newWriter().add(10, "ima-ng", ng("ima:sha256", sum(1)), name("/a")),
		"no type in v2":          newWriter().add(10, "ima-ngv2", ng("sha256", sum(1)), name("/a")),
		"two names in one":       newWriter().add(10, "ima-ng", ng("sha256", sum(1)), name("/a\x00/b")),
		"field too many":         newWriter().add(10, "ima-ng", ng("sha256", sum(1)), name("/a"), nil),
		"field too few":          newWriter().add(10, "ima-sig", ng("sha256", sum(1)), name("/a")),
		"unknown template":       newWriter().add(10, "ima-xx", ng("sha256", sum(1)), name("/a")),
		"unknown field":          newWriter().add(10, "d-ng|n-ng|x", ng("sha256", sum(1)), name("/a"), nil),
		"no digest":              newWriter().add(10, "n-ng|sig", name("/a"), nil),
		"digest of 21, template": newWriter().add(10, "d|n", sum(1)[:21], name("/a")),
	} {
		e, _, err := Next(w.list)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if digest, path, ok := e.File(); ok || digest.Digest != nil || path != nil {
			t.Errorf("%s: taken for a file, %v at %q", what, digest, path)
		} else if e.Opaque() {
			if value, ok := e.Field("d-ng"); ok || e.Fields() != nil || e.Name() != nil {
				t.Errorf("%s: opaque, with a digest %x", what, value)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	for template, want := range map[string]bool{
		"ima": true, "evm-sig": true, "d-ng": true, "n-ng|d-ng|iuid": true, strings.TrimSuffix(strings.Repeat("d|", 15), "|"): true,
		strings.TrimSuffix(strings.Repeat("d|", 16), "|"): false, "d-ng|": false, "|d-ng": false, "d-ng||n-ng": false, "ima-": false, "|": false,
	} {
		if got := layout([]byte(template)) != nil; got != want {
			t.Errorf("%q is a template with known fields: %v, want %v", template, got, want)
		}
	}
}

func TestMalformed(t *testing.T) {
	digest := sum(1)[:20]
	u32 := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for what, c := range map[string]struct {
		list []byte
		code Code
	}{
		"PCR 32":              {newWriter().entry(32, digest, "ima-ng", u32(0)).list, CodePCR},
		"PCR of 4 GiB":        {newWriter().entry(-1, digest, "ima-ng", u32(0)).list, CodePCR},
		"no name":             {newWriter().entry(10, digest, "", u32(0)).list, CodeName},
		"long name":           {newWriter().entry(10, digest, strings.Repeat("d", 256), u32(0)).list, CodeName},
		"name with a space":   {newWriter().entry(10, digest, "ima ng", u32(0)).list, CodeName},
		"name with a zero":    {newWriter().entry(10, digest, "ima-ng\x00", u32(0)).list, CodeName},
		"name with a high":    {newWriter().entry(10, digest, "ima-\xe9", u32(0)).list, CodeName},
		"long data":           {newWriter().entry(10, digest, "ima-ng", u32(MaxData+1)).list, CodeData},
		"data of 4 GiB":       {newWriter().entry(10, digest, "ima-ng", u32(1<<32-1)).list, CodeData},
		"long name of a file": {newWriter().entry(10, digest, "ima", append(digest, u32(257)...)).list, CodeData},
	} {
		_, rest, err := Next(c.list)
		var malformed *Error
		if !errors.As(err, &malformed) || malformed.Code != c.code || errors.Is(err, ErrShort) || !bytes.Equal(rest, c.list) {
			t.Errorf("%s: %v, want %s", what, err, c.code)
		}
	}
	// What is still allowed.
	for what, list := range map[string][]byte{
		"PCR 31":    newWriter().add(31, "ima-ng").list,
		"name":      newWriter().add(10, strings.Repeat("d", 255)).list,
		"data":      newWriter().entry(10, digest, "ima-buf", append(u32(MaxData), make([]byte, MaxData)...)).list,
		"file name": newWriter().legacy(10, digest, strings.Repeat("x", 256)).list,
	} {
		if e, rest, err := Next(list); err != nil || len(rest) != 0 || len(e.Raw) != len(list) {
			t.Errorf("largest %s: %v", what, err)
		}
	}
}

// TestShort: every prefix of an entry is short, whatever follows nothing.
func TestShort(t *testing.T) {
	for _, list := range [][]byte{newWriter().add(10, "ima-ng", ng("sha256", sum(1)), name("/a")).list, newWriter().legacy(10, sum(1)[:20], "/a").list} {
		for n := range len(list) {
			if _, _, err := Next(list[:n]); err != ErrShort {
				t.Fatalf("%d of %d bytes: %v", n, len(list), err)
			}
		}
		if _, rest, err := Next(slices.Concat(list, []byte{10})); err != nil || len(rest) != 1 {
			t.Errorf("one byte more: %v, %d bytes left", err, len(rest))
		}
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	list := sample(newWriter()).list
	got := testing.AllocsPerRun(100, func() {
		r := NewReplay(10, AllTracks)
		for rest := list; len(rest) > 0; {
			e, after, err := Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			r.Add(&e)
			e.File()
			e.Name()
			e.CheckTemplateDigest()
			rest = after
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for a list", got)
	}
}

// TestRawIsCapped: an entry cannot be appended into its neighbour.
func TestRawIsCapped(t *testing.T) {
	w := newWriter().add(10, "ima-ng", ng("sha256", sum(1)), name("/a")).add(10, "ima-ng", ng("sha256", sum(2)), name("/b"))
	list := bytes.Clone(w.list)
	e, _, err := Next(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{e.Raw, e.Data, e.Template, e.TemplateDigest} {
		_ = append(s, 'x')
	}
	if !bytes.Equal(list, w.list) {
		t.Error("appending to an entry changed the list")
	}
}
