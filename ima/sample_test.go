// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jurat-dev/jurat/internal/require"
)

// corpus returns the directory of recorded lists.
func corpus(t testing.TB) string {
	t.Helper()
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "corpus")
	}
	_, err := os.Stat(filepath.Join(root, "ima"))
	require.Need(t, "corpus", err)
	return root
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// writer writes lists as the kernel does, field by field; it shares no code with
// the package.
type writer struct {
	order binary.ByteOrder
	bank  int // bytes of a template digest
	list  []byte
}

func newWriter() *writer { return &writer{order: binary.LittleEndian, bank: 20} }

func (w *writer) u32(b []byte, n int) []byte {
	var raw [4]byte
	w.order.PutUint32(raw[:], uint32(n))
	return append(b, raw[:]...)
}

// data joins fields the way the kernel hashes them.
func (w *writer) data(fields ...[]byte) []byte {
	var out []byte
	for _, f := range fields {
		out = append(w.u32(out, len(f)), f...)
	}
	return out
}

func (w *writer) digest(data []byte) []byte {
	switch w.bank {
	case 32:
		d := sha256.Sum256(data)
		return d[:]
	case 48:
		d := sha512.Sum384(data)
		return d[:]
	case 64:
		d := sha512.Sum512(data)
		return d[:]
	}
	d := sha1.Sum(data)
	return d[:]
}

// entry adds an entry with any framing.
func (w *writer) entry(pcr int, digest []byte, template string, tail []byte) *writer {
	w.list = append(w.u32(w.list, pcr), digest...)
	w.list = append(w.u32(w.list, len(template)), template...)
	w.list = append(w.list, tail...)
	return w
}

// add adds a measurement.
func (w *writer) add(pcr int, template string, fields ...[]byte) *writer {
	data := w.data(fields...)
	return w.entry(pcr, w.digest(data), template, append(w.u32(nil, len(data)), data...))
}

// violation adds one.
func (w *writer) violation(pcr int, template string, fields ...[]byte) *writer {
	data := w.data(fields...)
	return w.entry(pcr, make([]byte, w.bank), template, append(w.u32(nil, len(data)), data...))
}

// legacy adds a measurement by the template "ima".
func (w *writer) legacy(pcr int, digest []byte, name string) *writer {
	hashed := append(bytes.Clone(digest), name...)
	hashed = append(hashed, make([]byte, 276-len(hashed))...)
	return w.entry(pcr, w.digest(hashed), "ima", append(w.u32(bytes.Clone(digest), len(name)), name...))
}

func ng(algorithm string, digest []byte) []byte {
	return append([]byte(algorithm+":\x00"), digest...)
}

func name(s string) []byte { return append([]byte(s), 0) }

// sum returns a digest that differs for each i.
func sum(i int) []byte {
	d := sha256.Sum256([]byte(fmt.Sprint(i)))
	return d[:]
}

// sample is a list of every template.
func sample(w *writer) *writer {
	w.add(10, "ima-ng", ng("sha256", sum(0)), name("boot_aggregate"))
	w.add(10, "ima-ng", ng("sha256", sum(1)), name("/usr/bin/a_b"))
	w.add(10, "ima-sig", ng("sha256", sum(2)), name("/usr/bin/c"), []byte{3, 2, 4, 9})
	w.add(10, "ima-sig", ng("sha1", sum(3)[:20]), name("/usr/bin/d"), nil)
	w.legacy(10, sum(4)[:20], "/bin/e")
	w.add(10, "ima-buf", ng("sha256", sum(5)), name(".ima"), []byte("certificate"))
	w.add(10, "ima-modsig", ng("sha256", sum(6)), name("/boot/f"), nil, ng("sha512", append(sum(7), sum(8)...)), []byte{0x30, 0x82})
	w.add(10, "ima-ngv2", ng("ima:sha256", sum(9)), name("/usr/bin/g"))
	w.add(10, "ima-sigv2", ng("verity:sha256", sum(10)), name("/usr/bin/h"), []byte{6})
	mode := make([]byte, 2)
	w.order.PutUint16(mode, 0o100755)
	w.add(10, "evm-sig", ng("sha256", sum(11)), name("/usr/bin/i"), []byte{5}, name("security.ima"), []byte{1, 0, 0, 0}, []byte{7},
		w.u32(nil, 1000), w.u32(nil, 100), mode)
	w.violation(10, "ima-ng", ng("sha256", make([]byte, 20)), name("/var/log/x"))
	w.add(11, "n-ng|d-ng", name("/usr/bin/j"), ng("sha384", append(sum(12), sum(13)[:16]...)))
	w.add(10, "of-tomorrow", []byte("anything"))
	return w
}

// all reads a whole list.
func all(t testing.TB, f Format, list []byte) []Entry {
	t.Helper()
	var out []Entry
	for len(list) > 0 {
		e, rest, err := f.Next(list)
		if err != nil {
			t.Fatalf("entry %d: %v", len(out)+1, err)
		}
		out = append(out, e)
		list = rest
	}
	return out
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// asKernel writes an entry as ima_ascii_measurements_show does.
func asKernel(e *Entry) string {
	line := fmt.Sprintf("%2d %x %s", e.PCR, e.TemplateDigest, e.Template)
	for _, f := range e.Fields() {
		line += " "
		switch f.ID {
		case "d", "sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues":
			line += hexOf(f.Value)
		case "n", "n-ng", "xattrnames":
			text, _, _ := bytes.Cut(f.Value, []byte{0})
			line += string(text)
		case "d-ng", "d-ngv2", "d-modsig":
			text, digest, _ := bytes.Cut(f.Value, []byte{0})
			line += string(text) + hexOf(digest)
		case "imode":
			line += fmt.Sprint(binary.LittleEndian.Uint16(f.Value))
		default:
			line += fmt.Sprint(binary.LittleEndian.Uint32(f.Value))
		}
	}
	return line + "\n"
}
