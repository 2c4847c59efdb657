// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/jurat-dev/jurat/eventlog"
)

// entry is one event of a log that a test builds.
type entry struct {
	pcr  uint32
	kind eventlog.Type
	data []byte
	of   []byte               // what the digest is of; nil: data
	only []eventlog.Algorithm // banks that have a digest; nil: all
}

// builder writes logs as firmware does.
type builder struct {
	banks   []eventlog.Algorithm       // in the header; nil: a log of SHA-1 only, without header
	sizes   map[eventlog.Algorithm]int // of banks that nobody knows
	vendor  []byte
	slack   []byte
	entries []entry
}

func le16(n int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(n)) }
func le32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
func le64(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func wide(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func (b *builder) digest(a eventlog.Algorithm, data []byte) []byte {
	switch a {
	case eventlog.SHA1:
		sum := sha1.Sum(data)
		return sum[:]
	case eventlog.SHA256:
		sum := sha256.Sum256(data)
		return sum[:]
	case eventlog.SHA384:
		sum := sha512.Sum384(data)
		return sum[:]
	case eventlog.SHA512:
		sum := sha512.Sum512(data)
		return sum[:]
	}
	return bytes.Repeat([]byte{0xab}, b.size(a))
}

func (b *builder) size(a eventlog.Algorithm) int {
	if n, ok := b.sizes[a]; ok {
		return n
	}
	return a.Size()
}

func (b *builder) bytes() []byte {
	var out []byte
	if b.banks != nil {
		head := join([]byte("Spec ID Event03\x00"), le32(0), []byte{0, 2, 0, 2}, le32(len(b.banks)))
		for _, a := range b.banks {
			head = join(head, le16(int(a)), le16(b.size(a)))
		}
		head = join(head, []byte{byte(len(b.vendor))}, b.vendor, b.slack)
		out = join(le32(0), le32(3), make([]byte, 20), le32(len(head)), head)
	}
	for _, e := range b.entries {
		of := e.of
		if of == nil {
			of = e.data
		}
		out = append(append(out, le32(int(e.pcr))...), le32(int(e.kind))...)
		if b.banks == nil {
			out = append(out, b.digest(eventlog.SHA1, of)...)
		} else {
			var digests []byte
			count := 0
			for _, a := range b.banks {
				if e.only != nil && !slices.Contains(e.only, a) {
					continue
				}
				d := b.digest(a, of)
				if e.kind == eventlog.NoAction {
					d = make([]byte, len(d))
				}
				digests = join(digests, le16(int(a)), d)
				count++
			}
			out = append(append(out, le32(count)...), digests...)
		}
		out = append(append(out, le32(len(e.data))...), e.data...)
	}
	return out
}

func (b *builder) parse(t testing.TB) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Parse(b.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var (
	global   = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	security = []byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	shim     = []byte{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	x509Type = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	hashType = []byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
)

func variable(owner []byte, name string, data []byte) []byte {
	return join(owner, le64(len([]rune(name))), le64(len(data)), wide(name), data)
}

// signatureList is an EFI_SIGNATURE_LIST of one signature.
func signatureList(kind, data []byte) []byte {
	return join(kind, le32(28+16+len(data)), le32(0), le32(16+len(data)), make([]byte, 16), data)
}

func text(s string) []byte { return []byte(s) }

func separator(pcr uint32) entry {
	return entry{pcr: pcr, kind: eventlog.Separator, data: make([]byte, 4)}
}

func image(path string) []byte {
	name := join(wide(path), []byte{0, 0})
	nodes := join([]byte{4, 4}, le16(4+len(name)), name, []byte{0x7f, 0xff, 4, 0})
	return join(le64(0x1000), le64(4096), le64(0), le64(len(nodes)), nodes)
}

// Positions of the parts of a good boot in its entries.
const (
	atSecureBoot = 2
	atDB         = 5
	atSeparator7 = 7
	atSeparator4 = 13
	atAuthority  = 16
	atImage      = 17
	atLine       = 20
	atExit       = 22
)

// goodBoot is a machine that boots GRUB and Linux with Secure Boot on.
func goodBoot() *builder {
	list := signatureList(x509Type, text("not really a certificate"))
	b := &builder{banks: []eventlog.Algorithm{eventlog.SHA1, eventlog.SHA256}, entries: []entry{
		{pcr: 0, kind: eventlog.SCRTMVersion, data: wide("firmware 1")},
		{pcr: 0, kind: eventlog.EFIPlatformFirmwareBlob, data: join(le64(0x800000), le64(0x1000)), of: text("code")},
		{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "SecureBoot", []byte{1})},
		{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "PK", list)},
		{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "KEK", list)},
		{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(security, "db", list)},
		{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(security, "dbx", signatureList(hashType, make([]byte, 32)))},
		separator(7),
		{pcr: 4, kind: eventlog.EFIAction, data: text("Calling EFI Application from Boot Option")},
		separator(0), separator(1), separator(2), separator(3), separator(4), separator(5), separator(6),
		{pcr: 7, kind: eventlog.EFIVariableAuthority, data: variable(security, "db", join(make([]byte, 16), text("not really a certificate")))},
		{pcr: 4, kind: eventlog.EFIBootServicesApplication, data: image(`\EFI\debian\grubx64.efi`), of: text("grub")},
		{pcr: 8, kind: eventlog.IPL, data: text("grub_cmd: linux /vmlinuz quiet\x00"), of: text("linux /vmlinuz quiet")},
		{pcr: 9, kind: eventlog.IPL, data: text("/vmlinuz\x00"), of: text("kernel")},
		{pcr: 8, kind: eventlog.IPL, data: text("kernel_cmdline: /vmlinuz quiet\x00"), of: text("/vmlinuz quiet")},
		{pcr: 5, kind: eventlog.EFIAction, data: text("Exit Boot Services Invocation")},
		{pcr: 5, kind: eventlog.EFIAction, data: text("Exit Boot Services Returned with Success")},
	}}
	return b
}

func (b *builder) insert(at int, all ...entry) *builder {
	b.entries = slices.Insert(b.entries, at, all...)
	return b
}

func (b *builder) remove(at int) *builder {
	b.entries = slices.Delete(b.entries, at, at+1)
	return b
}

func (b *builder) add(all ...entry) *builder { return b.insert(len(b.entries), all...) }

// change lets f alter one entry.
func (b *builder) change(at int, f func(e *entry)) *builder {
	f(&b.entries[at])
	return b
}
