// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/ima"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// imaEntry is an entry of template ima-ng for a file of that path, and what the
// kernel hashes of it.
func imaEntry(path string) (entry, data []byte) {
	digest := sha256.Sum256([]byte(path))
	field := append([]byte("sha256:\x00"), digest[:]...)
	data = append(binary.LittleEndian.AppendUint32(nil, uint32(len(field))), field...)
	data = append(append(binary.LittleEndian.AppendUint32(data, uint32(len(path)+1)), path...), 0)
	hashed := sha1.Sum(data)
	entry = binary.LittleEndian.AppendUint32(nil, 10)
	entry = append(entry, hashed[:]...)
	entry = append(binary.LittleEndian.AppendUint32(entry, 6), "ima-ng"...)
	return append(binary.LittleEndian.AppendUint32(entry, uint32(len(data))), data...), data
}

// measured is a kernel that measures files: it lists them and then extends PCR
// 10.
type measured struct {
	t      testing.TB
	path   string
	device *softtpm.TPM // nil: none
	count  int
}

func (m *measured) write(b []byte) {
	m.t.Helper()
	f, err := os.OpenFile(m.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// add has files measured whose paths have about size bytes.
func (m *measured) add(n, size int) {
	m.t.Helper()
	for range n {
		m.count++
		entry, data := imaEntry(fmt.Sprintf("/%0*d", size, m.count))
		m.write(entry)
		if m.device != nil {
			if err := m.device.Measure(10, sha256.Sum256(data)); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// whole is the list, and the digest over it.
func (m *measured) whole() ([]byte, evidence.Hash) {
	m.t.Helper()
	data, err := os.ReadFile(m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	return data, sha256.Sum256(data)
}

func advanced(t *testing.T, l *imaList, count uint64, digest evidence.Hash) {
	t.Helper()
	n, d := l.advance()
	if got, known := d.Get(); !known || got != digest || n != count {
		t.Fatalf("%d entries with %s, want %d with %s", n, d, count, digest)
	}
}

// TestIMAListGrows: entries count when they are whole.
func TestIMAListGrows(t *testing.T) {
	m := &measured{t: t, path: filepath.Join(t.TempDir(), "list")}
	l := newIMAList(m.path)
	if n, d := l.advance(); n != 0 || d.Reason() != "no-ima" {
		t.Errorf("no list: %d, %s", n, d)
	}
	m.write(nil)
	advanced(t, l, 0, sha256.Sum256(nil))
	for round := range uint64(5) {
		m.add(3, 100)
		_, digest := m.whole()
		advanced(t, l, 4*round+3, digest)
		// The next one comes byte by byte.
		m.count++
		entry, _ := imaEntry(fmt.Sprintf("/torn %d", m.count))
		for i := range len(entry) - 1 {
			m.write(entry[i : i+1])
			if i%40 == 0 {
				advanced(t, l, 4*round+3, digest)
			}
		}
		advanced(t, l, 4*round+3, digest)
		m.write(entry[len(entry)-1:])
		_, digest = m.whole()
		advanced(t, l, 4*round+4, digest)
	}
	// An entry as large as any may be, between others.
	entry, _ := imaEntry(string(bytes.Repeat([]byte{'x'}, ima.MaxData-64)))
	m.write(entry)
	m.add(1, 100)
	_, digest := m.whole()
	advanced(t, l, 22, digest)
	l.restart()
	advanced(t, l, 22, digest)
}

func TestIMAListThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if n, d := newIMAList(dir).advance(); n != 0 || d.Reason() != "unreadable" {
		t.Errorf("a directory: %d, %s", n, d)
	}
	m := &measured{t: t, path: filepath.Join(dir, "list")}
	m.add(2, 10)
	m.write(bytes.Repeat([]byte{0xff}, 100))
	l := newIMAList(m.path)
	for range 2 {
		if n, d := l.advance(); n != 0 || d.Reason() != "unreadable" {
			t.Errorf("malformed: %d, %s", n, d)
		}
	}
}

// TestIMATailPieces: whatever the size of the pieces, together they are the list.
func TestIMATailPieces(t *testing.T) {
	m := &measured{t: t, path: filepath.Join(t.TempDir(), "list")}
	m.add(300, 90)
	want, _ := m.whole()
	m.write([]byte{10, 0, 0}) // torn
	for _, limit := range []int{200, 201, 1000, 60000, 1 << 20} {
		l := newIMAList(m.path)
		var all []byte
		var at imaPlace
		for more := true; more; {
			found, ok, err := l.find(at.count)
			if err != nil || !ok || found != at {
				t.Fatalf("entry %d is at %+v, %v, want %+v", at.count, found, err, at)
			}
			var piece []byte
			if piece, at, more, err = l.tail(nil, found, limit); err != nil || len(piece) > limit || more && len(piece) == 0 {
				t.Fatalf("limit %d: %d bytes, %v", limit, len(piece), err)
			}
			all = append(all, piece...)
		}
		if !bytes.Equal(all, want) || at.count != 300 || at.offset != int64(len(want)) {
			t.Errorf("limit %d: %d bytes up to %+v", limit, len(all), at)
		}
		// Also backwards.
		for _, count := range []uint64{299, 0, 1, 150, 7} {
			if found, ok, err := l.find(count); err != nil || !ok || found.count != count || found.offset != int64(len(want)/300)*int64(count) {
				t.Errorf("entry %d: %+v, %v, %v", count, found, ok, err)
			}
		}
		if _, ok, err := l.find(301); ok || err != nil {
			t.Errorf("entry 301 of 300: %v, %v", ok, err)
		}
	}
	if _, _, more, err := newIMAList(m.path).tail(nil, imaPlace{}, 10); !more || err != nil {
		t.Errorf("no entry fits: %v, %v", more, err)
	}
}

// TestIMAListMemory: a list of 200,000 entries is read in bounded memory.
func TestIMAListMemory(t *testing.T) {
	const entries = 200_000
	path := filepath.Join(t.TempDir(), "list")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for i := range entries {
		entry, _ := imaEntry(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i))
		h.Write(entry)
		if _, err := f.Write(entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l := newIMAList(path)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, d := l.advance()
	_, found, err := l.find(entries - 1)
	again, _ := l.advance()
	runtime.ReadMemStats(&after)
	if sum, _ := d.Get(); n != entries || again != n || sum != evidence.Hash(h.Sum(nil)) || !found || err != nil {
		t.Errorf("%d entries, %s, %v", n, d, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated for %d entries", grown, entries)
	}
}

// FuzzIMAList: in whatever pieces a list comes, what is taken are the entries
// that package ima reads from the whole.
func FuzzIMAList(f *testing.F) {
	one, _ := imaEntry("/bin/sh")
	f.Add(append(bytes.Clone(one), one...), 7)
	f.Add(one[:len(one)-1], 1)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var got []byte
		rest, err := scanIMA(&trickle{data, max(1, size%300)}, func(entry []byte) bool {
			got = append(got, entry...)
			return true
		})
		want := data
		for {
			_, next, bad := ima.Next(want)
			if bad != nil {
				if (err == nil) != (bad == ima.ErrShort) {
					t.Fatalf("%v, package ima says %v", err, bad)
				}
				break
			}
			want = next
		}
		if !bytes.Equal(got, data[:len(data)-len(want)]) || err == nil && rest != len(want) {
			t.Fatalf("took %d of %d bytes, %d left over, want %d", len(got), len(data), rest, len(want))
		}
	})
}
