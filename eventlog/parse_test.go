// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
)

// refusal is what is not a log, and how it is refused.
type refusal struct {
	name  string
	raw   []byte
	code  eventlog.Code
	event int
	text  string
}

func refusals() []refusal {
	good := goodBoot().bytes()
	header := func(f func(b *builder)) []byte {
		b := goodBoot()
		f(b)
		return b.bytes()
	}
	const first = 32 + 28 + 8 + 1 // where event 1 begins: two banks
	patch := func(at int, with ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], with)
		return out
	}
	return []refusal{
		{"nothing", nil, eventlog.CodeEmpty, -1, "empty"},
		{"zeros", make([]byte, 4096), eventlog.CodeEmpty, -1, "zeros"},
		{"too large", make([]byte, eventlog.MaxLog+1), eventlog.CodeTooLarge, -1, "at most"},
		{"text", []byte("not\na\nlog\nfile\nat all, whatever it calls itself\n"), eventlog.CodePCR, 0, "PCR"},
		{"one byte", []byte{1}, eventlog.CodeTruncated, 0, "PCR index"},
		{"cut in the header", good[:40], eventlog.CodeTruncated, 0, "event data"},
		{"cut in the last event", good[:len(good)-1], eventlog.CodeTruncated, 23, "event data"},
		{"trailing garbage", append(bytes.Clone(good), 'x'), eventlog.CodeTruncated, 24, "PCR index"},
		{"trailing garbage after zeros", append(append(bytes.Clone(good), make([]byte, 64)...), 'x'), eventlog.CodeTruncated, 28, ""},
		{"huge event", patch(first+8+4+2+20+2+32, 0xff, 0xff, 0xff, 0xff), eventlog.CodeTooLarge, 1, "4294967295"},
		{"PCR 24", patch(first, 24), eventlog.CodePCR, 1, "PCR 24"},
		{"PCR 4294967295", patch(first, 0xff, 0xff, 0xff, 0xff), eventlog.CodePCR, 1, "PCR 4294967295"},
		{"three digests of two", patch(first+8, 3), eventlog.CodeDigest, 1, "3 digests"},
		{"4294967295 digests", patch(first+8, 0xff, 0xff, 0xff, 0xff), eventlog.CodeDigest, 1, "digests"},
		{"digest that is not announced", patch(first+12, 0x0d), eventlog.CodeDigest, 1, "sha512"},
		{"same digest twice", patch(first+12+2+20, 4, 0), eventlog.CodeDigest, 1, "two digests"},
		{"no algorithms", header(func(b *builder) { b.banks = []eventlog.Algorithm{} }), eventlog.CodeHeader, 0, "0 algorithms"},
		{"17 algorithms", header(func(b *builder) { b.banks = make([]eventlog.Algorithm, 17) }), eventlog.CodeHeader, 0, "17 algorithms"},
		{"4294967295 algorithms", patch(32+24, 0xff, 0xff, 0xff, 0xff), eventlog.CodeHeader, 0, "algorithms"},
		{"16 algorithms in the room of two", patch(32+24, 16), eventlog.CodeHeader, 0, "16 algorithms in"},
		{"SHA-256 of 20 bytes", header(func(b *builder) { b.sizes = map[eventlog.Algorithm]int{eventlog.SHA256: 20} }), eventlog.CodeHeader, 0, "sha256 have 20"},
		{"unknown of no bytes", header(func(b *builder) { b.banks = []eventlog.Algorithm{0x99} }), eventlog.CodeHeader, 0, "0x0099 have 0"},
		{"unknown of 65535 bytes", header(func(b *builder) {
			b.banks, b.sizes = []eventlog.Algorithm{0x99}, map[eventlog.Algorithm]int{0x99: 65535}
		}), eventlog.CodeHeader, 0, "65535"},
		{"algorithm twice", header(func(b *builder) { b.banks = []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA256} }), eventlog.CodeHeader, 0, "twice"},
		{"vendor information cut", patch(first-1, 9), eventlog.CodeHeader, 0, "vendor"},
		{"header in PCR 1", patch(0, 1), eventlog.CodeHeader, 0, "PCR 1"},
	}
}

// TestMalformed: what is not a log is refused with one error that says where.
func TestMalformed(t *testing.T) {
	for _, x := range refusals() {
		t.Run(x.name, func(t *testing.T) {
			l, err := eventlog.Parse(x.raw)
			var e *eventlog.Error
			if !errors.As(err, &e) || l != nil {
				t.Fatalf("log %v, error %v", l != nil, err)
			}
			if e.Code != x.code || e.Event != x.event || !strings.Contains(e.Error(), x.text) {
				t.Errorf("%s, event %d: %v", e.Code, e.Event, e)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one clean line: %q", err.Error())
			}
		})
	}
}

// TestTruncatedEverywhere: a log cut anywhere is refused, except between events.
func TestTruncatedEverywhere(t *testing.T) {
	good := goodBoot().bytes()
	l := goodBoot().parse(t)
	ends := []int{len(good)}
	for _, e := range l.Events {
		ends = append(ends, e.Offset)
	}
	for n := range len(good) {
		_, err := eventlog.Parse(good[:n])
		if ok := slices.Contains(ends, n) && n > 0; ok != (err == nil) {
			t.Fatalf("%d bytes of %d: %v", n, len(good), err)
		}
	}
}

func TestTooManyEvents(t *testing.T) {
	b := &builder{banks: []eventlog.Algorithm{eventlog.SHA1}}
	one := (&builder{entries: []entry{separator(0)}}).bytes()
	raw := b.bytes()
	agile := len(raw)
	_ = one
	event := join(le32(0), le32(4), le32(0), le32(0)) // no digests, no data
	raw = append(raw, bytes.Repeat(event, eventlog.MaxEvents)...)
	_, err := eventlog.Parse(raw)
	var e *eventlog.Error
	if !errors.As(err, &e) || e.Code != eventlog.CodeTooLarge || e.Event != eventlog.MaxEvents {
		t.Errorf("%v", err)
	}
	if _, err := eventlog.Parse(raw[:agile+16*(eventlog.MaxEvents-1)]); err != nil {
		t.Error(err)
	}
}

func TestHeader(t *testing.T) {
	b := goodBoot()
	b.banks, b.vendor = []eventlog.Algorithm{eventlog.SHA384, 0x4321, eventlog.SHA256, eventlog.SM3}, []byte("ACME 7")
	b.sizes = map[eventlog.Algorithm]int{0x4321: 17}
	l := b.parse(t)
	if !slices.Equal(l.Banks(), b.banks) || string(l.VendorInfo()) != "ACME 7" {
		t.Errorf("banks %v, vendor %q", l.Banks(), l.VendorInfo())
	}
	e := &l.Events[1]
	for bank, size := range map[eventlog.Algorithm]int{eventlog.SHA384: 48, 0x4321: 17, eventlog.SHA256: 32, eventlog.SM3: 32} {
		if d, ok := e.Digest(bank); !ok || len(d) != size {
			t.Errorf("bank %v: %x, %v", bank, d, ok)
		}
	}
	if _, ok := e.Digest(eventlog.SHA1); ok {
		t.Error("a digest of a bank that the log does not have")
	}
	if d := l.Events[0].Describe(); d != "log header, banks sha384, 0x4321, sha256, sm3_256, vendor information \"ACME 7\"" {
		t.Error(d)
	}
}

func TestAlgorithm(t *testing.T) {
	for a, want := range map[eventlog.Algorithm]struct {
		name string
		size int
		can  bool
	}{
		eventlog.SHA1: {"sha1", 20, true}, eventlog.SHA256: {"sha256", 32, true}, eventlog.SHA384: {"sha384", 48, true}, eventlog.SHA512: {"sha512", 64, true},
		eventlog.SM3: {"sm3_256", 32, false}, eventlog.SHA3_256: {"sha3_256", 32, true}, eventlog.SHA3_384: {"sha3_384", 48, true},
		eventlog.SHA3_512: {"sha3_512", 64, true}, 0x1234: {"0x1234", 0, false},
	} {
		if a.String() != want.name || a.Size() != want.size || a.Computable() != want.can {
			t.Errorf("%v: %d bytes, computable %v", a, a.Size(), a.Computable())
		}
	}
}
