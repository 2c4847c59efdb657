// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/jurat-dev/jurat/eventlog"
)

// serialise writes a parsed log back, from its events alone.
func serialise(l *eventlog.Log) []byte {
	var out []byte
	agile := false
	for i := range l.Events {
		e := &l.Events[i]
		out = binary.LittleEndian.AppendUint32(out, e.PCR)
		out = binary.LittleEndian.AppendUint32(out, uint32(e.Type))
		if i > 0 && agile {
			count := len(out)
			out = append(out, 0, 0, 0, 0)
			for _, bank := range l.Banks() {
				if d, ok := e.Digest(bank); ok {
					out[count]++
					out = binary.LittleEndian.AppendUint16(out, uint16(bank))
					out = append(out, d...)
				}
			}
		} else {
			d, _ := e.Digest(eventlog.SHA1)
			out = append(out, d...)
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(e.Data)))
		out = append(out, e.Data...)
		agile = agile || i == 0 && e.Type == eventlog.NoAction && bytes.HasPrefix(e.Data, []byte("Spec ID Event03\x00"))
	}
	return out
}

// naive replays without any of the code under test but its events.
func naive(l *eventlog.Log, bank eventlog.Algorithm, first byte) map[uint32][]byte {
	out := make(map[uint32][]byte)
	for i := range l.Events {
		e := &l.Events[i]
		d, ok := e.Digest(bank)
		if e.Type == eventlog.NoAction || !ok {
			continue
		}
		if out[e.PCR] == nil {
			out[e.PCR] = make([]byte, bank.Size())
			if e.PCR == 0 {
				out[0][bank.Size()-1] = first
			}
		}
		if bank == eventlog.SHA1 {
			sum := sha1.Sum(append(out[e.PCR], d...))
			out[e.PCR] = sum[:]
		} else {
			sum := sha256.Sum256(append(out[e.PCR], d...))
			out[e.PCR] = sum[:]
		}
	}
	return out
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != unicode.ReplacementChar })
}

// FuzzParse: no panic; one error with a place, or a log that says what its bytes
// say: written back it is the input, less padding and the order of digests in an
// event, and its replay is that of the definition.
func FuzzParse(f *testing.F) {
	f.Add(goodBoot().bytes())
	old := goodBoot()
	old.banks = nil
	f.Add(old.bytes())
	strange := goodBoot().insert(0, locality(3))
	strange.banks, strange.sizes, strange.vendor = []eventlog.Algorithm{0x9999, eventlog.SM3, eventlog.SHA384}, map[eventlog.Algorithm]int{0x9999: 3}, []byte("v")
	f.Add(append(strange.bytes(), make([]byte, 64)...))
	words := &builder{banks: []eventlog.Algorithm{eventlog.SHA256}}
	for _, x := range described {
		words.add(x.e)
	}
	f.Add(words.bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := eventlog.Parse(raw)
		if err != nil {
			var e *eventlog.Error
			if !errors.As(err, &e) || l != nil || !printable(err.Error()) || e.Offset < 0 || e.Offset > len(raw) {
				t.Fatalf("%q", err)
			}
			return
		}
		back := serialise(l)
		if len(back) > len(raw) || len(bytes.Trim(raw[len(back):], "\x00")) > 0 {
			t.Fatalf("%d bytes are %d when written back", len(raw), len(back))
		}
		for i := range l.Events {
			e := &l.Events[i]
			if !bytes.HasPrefix(raw[e.Offset:], back[e.Offset:e.Offset+8]) || !printable(e.Describe()) {
				t.Fatalf("event %d: %q", i, e.Describe())
			}
		}
		if len(l.Banks()) == 1 && !bytes.HasPrefix(raw, back) {
			t.Fatal("written back it is another log")
		}
		locality, _ := l.Locality()
		for _, bank := range []eventlog.Algorithm{eventlog.SHA1, eventlog.SHA256} {
			v, want := l.Replay(bank), naive(l, bank, byte(locality))
			if len(want) != len(v.Indexes()) {
				t.Fatalf("PCRs %v, want %d of them", v.Indexes(), len(want))
			}
			for pcr, value := range want {
				if got, ok := v.At(int(pcr)); !ok || !bytes.Equal(got, value) {
					t.Fatalf("bank %v, PCR %d: %x, want %x", bank, pcr, got, value)
				}
			}
		}
		state, _ := l.SecureBoot()
		for _, f := range l.Findings() {
			if !printable(f.Text) || f.Event >= len(l.Events) || f.Code == "" || f.Code == "secure-boot-unknown" && state != eventlog.SecureBootUnknown {
				t.Fatalf("%+v", f)
			}
		}
		l.KernelCommandLines()
		l.KernelMeasured()
		l.Authorities()
		l.Against(eventlog.SHA256, 4, nil)
	})
}

// FuzzUserspace: no panic; the records lie in the input where they say.
func FuzzUserspace(f *testing.F) {
	f.Add([]byte(sampleUserspace))
	f.Add([]byte("\x1e{\"rtmr\":2,\"mapped_pcr\":11,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"" + strings.Repeat("ab", 48) + "\"}]}\n\x1e{\"pcr\":1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := eventlog.ParseUserspace(raw)
		if err != nil {
			var e *eventlog.Error
			if !errors.As(err, &e) || u != nil || !printable(err.Error()) {
				t.Fatalf("%q", err)
			}
			return
		}
		end := len(raw) - u.Torn
		for i := range u.Records {
			r := &u.Records[i]
			if r.Number != i || raw[r.Offset] != 0x1e || r.Offset >= end || !printable(r.Describe()) || r.PCR >= 24 {
				t.Fatalf("%+v", r)
			}
		}
		u.Replay(eventlog.Values{})
		again, err := eventlog.ParseUserspace(raw[:end])
		if err != nil || len(again.Records) != len(u.Records) {
			t.Fatalf("without the torn record: %v", err)
		}
	})
}

// bench is a log of about 160 events with certificates and a dbx of real size.
func bench(b *testing.B) []byte {
	dbx := signatureList(hashType, make([]byte, 32))
	log := goodBoot()
	log.change(6, func(e *entry) { e.data = variable(security, "dbx", bytes.Repeat(dbx, 200)) })
	for range 136 {
		log.add(entry{pcr: 8, kind: eventlog.IPL, data: text("grub_cmd: search --no-floppy --fs-uuid --set=root 09e13685\x00"), of: text("search --no-floppy --fs-uuid --set=root 09e13685")})
	}
	raw := log.bytes()
	if l, err := eventlog.Parse(raw); err != nil || len(l.Events) != 160 {
		b.Fatalf("%d events, %v", len(l.Events), err)
	}
	return raw
}

// BenchmarkBootLog reads a log of 160 events and makes its PCR values; and then
// asks everything of it that there is to ask.
func BenchmarkBootLog(b *testing.B) {
	raw := bench(b)
	for name, ask := range map[string]func(*eventlog.Log){
		"160_events_parsed_and_replayed": func(l *eventlog.Log) { l.Replay(eventlog.SHA256) },
		"160_events_with_all_findings": func(l *eventlog.Log) {
			l.Replay(eventlog.SHA256)
			l.Findings()
			l.SecureBoot()
			l.KernelCommandLines()
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				l, err := eventlog.Parse(raw)
				if err != nil {
					b.Fatal(err)
				}
				ask(l)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/log")
		})
	}
}
