// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"testing"
)

// quotedPCRs reads what tpm2_quote wrote beside its quote: a TPML_PCR_SELECTION
// of one SHA-256 bank in 132 bytes, how many lists of digests follow, and the
// lists, each of room for 8 digests of 64 bytes.
func quotedPCRs(t *testing.T, file string) map[int][]byte {
	t.Helper()
	data := readFile(t, file)
	if binary.LittleEndian.Uint32(data) != 1 || binary.LittleEndian.Uint16(data[4:]) != 0x0b || data[6] != 3 {
		t.Fatalf("%s: not one SHA-256 bank of three bytes", file)
	}
	selected := uint32(data[7]) | uint32(data[8])<<8 | uint32(data[9])<<16
	var values [][]byte
	for list := data[136:]; len(list) >= 532; list = list[532:] {
		for i := range binary.LittleEndian.Uint32(list) {
			values = append(values, list[4+66*i+2:][:32])
		}
	}
	out := make(map[int][]byte)
	for i := range 24 {
		if selected&(1<<i) != 0 && len(values) > 0 {
			out[i], values = values[0], values[1:]
		}
	}
	return out
}

func machines(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(corpus(t), "vm", "*", "ima_binary_runtime_measurements"))
	if err != nil || len(dirs) < 3 {
		t.Fatalf("%d machines, %v", len(dirs), err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

// TestMachines: lists of real kernels lead to the PCR 10 that a TPM signed, and
// begin with the aggregate of the PCRs that it signed.
func TestMachines(t *testing.T) {
	for _, dir := range machines(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			pcrs := quotedPCRs(t, filepath.Join(dir, "quote.pcrs"))
			list := readFile(t, filepath.Join(dir, "ima_binary_runtime_measurements"))
			r, match, first := NewReplay(10, AllTracks), uint64(0), true
			for rest := list; len(rest) > 0; {
				e, after, err := Next(rest)
				if err != nil {
					t.Fatalf("entry %d: %v", r.Count+1, err)
				}
				if !e.CheckTemplateDigest() || e.Opaque() || e.Violation() {
					t.Errorf("entry %d: digest %v, opaque %v, violation %v", r.Count+1, e.CheckTemplateDigest(), e.Opaque(), e.Violation())
				}
				if r.Add(&e); first {
					checkAggregate(t, &e, pcrs)
				}
				if track, ok := r.Match(pcrs[10]); ok {
					match = r.Count
					if track != TrackSHA256 {
						t.Errorf("matches by track %d", track)
					}
				}
				rest, first = after, false
			}
			if match == 0 {
				t.Errorf("no prefix of %d entries makes PCR 10", r.Count)
			}
			t.Logf("prefix of %d entries out of %d", match, r.Count)
		})
	}
}

func checkAggregate(t *testing.T, e *Entry, pcrs map[int][]byte) {
	t.Helper()
	digest, ok := e.BootAggregate()
	if !ok {
		t.Errorf("the first entry is %q, no boot_aggregate", e.Name())
		return
	}
	all := BootAggregate(digest.Algorithm, func(i int) []byte { return pcrs[i] })
	if len(all) != 2 || all[0].PCRs != 10 || !bytes.Equal(all[0].Digest, digest.Digest) {
		t.Errorf("boot_aggregate %x, of the quoted PCRs %x", digest.Digest, all)
	}
}

// TestASCIILists: the text that a kernel writes of a list is that list.
func TestASCIILists(t *testing.T) {
	for _, dir := range machines(t) {
		binaryList := readFile(t, filepath.Join(dir, "ima_binary_runtime_measurements"))
		text := readFile(t, filepath.Join(dir, "ima_ascii_runtime_measurements"))
		var again []byte
		r := NewTextReader(bytes.NewReader(text))
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", dir, err)
			}
			again = append(again, e.Raw...)
		}
		if !IsText(text) || IsText(binaryList) {
			t.Errorf("%s: text is %v, binary is text %v", dir, IsText(text), IsText(binaryList))
		}
		if !bytes.Equal(again, binaryList) {
			t.Errorf("%s: the ASCII list gives %d bytes, the binary list has %d, or they differ", dir, len(again), len(binaryList))
		}
	}
}

// TestRustKeylimeList: a list of somebody else's machine, whole and exact.
func TestRustKeylimeList(t *testing.T) {
	r := NewTextReader(bytes.NewReader(readFile(t, filepath.Join(corpus(t), "ima", "rust-keylime-ascii_runtime_measurements"))))
	n, violations := 0, 0
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if e.Violation() {
			violations++
		} else if _, path, ok := e.File(); !ok || len(path) == 0 {
			t.Errorf("entry %d has no file", n)
		}
		if !e.CheckTemplateDigest() {
			t.Errorf("entry %d is not exact", n)
		}
	}
	if n != 826 {
		t.Errorf("%d entries, want 826", n)
	}
	t.Logf("%d violations", violations)
}

// TestTSSLists: the lists of tpm2-tss, with the violations it calls invalidated.
func TestTSSLists(t *testing.T) {
	for file, want := range map[string]struct {
		template   string
		pcr        uint32
		violations uint64
	}{
		"tss-sml-ima-sha1.bin":                {"ima", 10, 0},
		"tss-sml-ima-ng-sha1.bin":             {"ima-ng", 10, 0},
		"tss-sml-ima-sha1-invalidated.bin":    {"ima", 10, 1},
		"tss-sml-ima-ng-sha1-invalidated.bin": {"ima-ng", 13, 1},
	} {
		list := readFile(t, filepath.Join(corpus(t), "ima", file))
		if want.violations == 0 { // a line feed that is in no entry
			list = bytes.TrimSuffix(list, []byte("\n"))
		}
		if want.template == "ima-ng" && want.violations == 1 { // its last byte is lost
			if _, _, err := Next(list); !errors.Is(err, ErrShort) {
				t.Errorf("%s: %v, want it torn", file, err)
			}
			list = append(list, 0)
		}
		r := NewReplay(want.pcr, AllTracks)
		for i, e := range all(t, Detect(list), list) {
			if i == 0 && string(e.Name()) != "boot_aggregate" {
				t.Errorf("%s begins with %q", file, e.Name())
			}
			if string(e.Template) != want.template || !e.CheckTemplateDigest() || e.Opaque() {
				t.Errorf("%s: entry %d by %s, digest %v, opaque %v", file, i+1, e.Template, e.CheckTemplateDigest(), e.Opaque())
			}
			r.Add(&e)
		}
		if r.Followed == 0 || r.Followed != r.Count || r.Violations != want.violations {
			t.Errorf("%s: %d entries, %d of them of PCR %d, %d violations", file, r.Count, r.Followed, want.pcr, r.Violations)
		}
	}
}
