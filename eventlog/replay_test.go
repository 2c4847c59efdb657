// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
)

func extend(value []byte, of string) []byte {
	digest := sha256.Sum256([]byte(of))
	sum := sha256.Sum256(append(bytes.Clone(value), digest[:]...))
	return sum[:]
}

func at(t *testing.T, v eventlog.Values, pcr int) []byte {
	t.Helper()
	value, ok := v.At(pcr)
	if !ok {
		t.Fatalf("PCR %d has no value", pcr)
	}
	return value
}

func TestReplay(t *testing.T) {
	l := goodBoot().parse(t)
	v := l.Replay(eventlog.SHA256)
	want := extend(extend(make([]byte, 32), "linux /vmlinuz quiet"), "/vmlinuz quiet")
	if got := at(t, v, 8); !bytes.Equal(got, want) {
		t.Errorf("PCR 8 is %x, want %x", got, want)
	}
	if !slices.Equal(v.Indexes(), []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) || v.Algorithm() != eventlog.SHA256 {
		t.Errorf("%v %v", v.Indexes(), v.Algorithm())
	}
	for _, pcr := range []int{-1, 10, 23, 24, 1 << 40} {
		if value, ok := v.At(pcr); ok || value != nil {
			t.Errorf("PCR %d, which has no events, is %x", pcr, value)
		}
	}
	got := at(t, v, 8)
	got[0]++
	if !bytes.Equal(at(t, v, 8), want) {
		t.Error("a caller can change the values")
	}
	if n := l.Replay(eventlog.SHA512).Indexes(); len(n) > 0 {
		t.Errorf("values %v of a bank the log does not have", n)
	}
	if n := (eventlog.Values{}).Indexes(); len(n) > 0 {
		t.Errorf("the zero value has %v", n)
	}
}

// TestDroppedPCR: a log from which all events of a PCR were taken has no value
// for it, so that nothing can be compared with the genuine one by mistake.
func TestDroppedPCR(t *testing.T) {
	b := goodBoot()
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.pcr == 7 })
	if value, ok := b.parse(t).Replay(eventlog.SHA256).At(7); ok {
		t.Errorf("PCR 7 is %x", value)
	}
}

// TestUnknownBank: the bank is skipped by the size the header declares, and has
// no values, and the others have theirs.
func TestUnknownBank(t *testing.T) {
	want := goodBoot().parse(t).Replay(eventlog.SHA256)
	for _, size := range []int{1, 32, 33, 512} {
		b := goodBoot()
		b.banks, b.sizes = []eventlog.Algorithm{0x7777, eventlog.SM3, eventlog.SHA256}, map[eventlog.Algorithm]int{0x7777: size}
		l := b.parse(t)
		if v := l.Replay(eventlog.SHA256); !bytes.Equal(at(t, v, 4), at(t, want, 4)) {
			t.Errorf("size %d: PCR 4 is %x", size, at(t, v, 4))
		}
		for _, bank := range b.banks[:2] {
			if n := l.Replay(bank).Indexes(); len(n) > 0 {
				t.Errorf("bank %v has values %v", bank, n)
			}
		}
	}
}

func TestNoActionIsNotExtended(t *testing.T) {
	note := entry{pcr: 4, kind: eventlog.NoAction, data: text("a note")}
	a, b := goodBoot().parse(t).Replay(eventlog.SHA256), goodBoot().add(note).parse(t).Replay(eventlog.SHA256)
	if !bytes.Equal(at(t, a, 4), at(t, b, 4)) {
		t.Error("EV_NO_ACTION was extended")
	}
	far := entry{pcr: 0xffffffff, kind: eventlog.NoAction, data: text("Windows puts it there")}
	goodBoot().add(far).parse(t).Replay(eventlog.SHA256)
}

func TestStartup(t *testing.T) {
	hcrtm := entry{pcr: 0, kind: eventlog.EFIHCRTMEvent, data: text("HCRTM"), of: text("code")}
	for _, x := range []struct {
		name  string
		first []entry
		want  byte // the locality that counts
		said  bool
	}{
		{"none", nil, 0, false},
		{"0", []entry{locality(0)}, 0, true},
		{"3", []entry{locality(3)}, 3, true},
		{"4", []entry{locality(4)}, 4, true},
		{"5 does not exist", []entry{locality(5)}, 0, false},
		{"the first of two", []entry{locality(3), locality(4)}, 3, true},
		{"a wrong one does not take the place of the right one", []entry{locality(7), locality(3)}, 3, true},
		{"too late", []entry{{pcr: 0, kind: eventlog.SCRTMContents, data: text("x")}, locality(3)}, 0, false},
		{"after another PCR", []entry{separator(1), locality(3)}, 3, true},
		{"H-CRTM", []entry{hcrtm}, 4, true},
		{"H-CRTM and 4", []entry{locality(4), hcrtm}, 4, true},
		{"H-CRTM and 0", []entry{locality(0), hcrtm}, 4, true},
		{"H-CRTM too late", []entry{{pcr: 0, kind: eventlog.SCRTMContents, data: text("x")}, hcrtm}, 0, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := &builder{banks: []eventlog.Algorithm{eventlog.SHA256}, entries: append(x.first, entry{pcr: 0, kind: eventlog.SCRTMVersion, data: text("v")})}
			l := b.parse(t)
			want := make([]byte, 32)
			want[31] = x.want
			for _, e := range b.entries {
				if e.pcr == 0 && e.kind != eventlog.NoAction {
					of := e.of
					if of == nil {
						of = e.data
					}
					want = extend(want, string(of))
				}
			}
			if got := at(t, l.Replay(eventlog.SHA256), 0); !bytes.Equal(got, want) {
				t.Errorf("PCR 0 is %x, want %x", got, want)
			}
			if n, said := l.Locality(); n != int(x.want) || said != x.said {
				t.Errorf("locality %d, said %v", n, said)
			}
		})
	}
}

func TestExtend(t *testing.T) {
	v := goodBoot().parse(t).Replay(eventlog.SHA256)
	digest := sha256.Sum256([]byte("enter-initrd"))
	next := v.Extend(eventlog.Measurement{PCR: 11, Digest: digest[:]}, eventlog.Measurement{PCR: 4, Digest: digest[:]},
		eventlog.Measurement{PCR: 24, Digest: digest[:]}, eventlog.Measurement{PCR: -1, Digest: digest[:]}, eventlog.Measurement{PCR: 12, Digest: digest[:20]})
	if got := at(t, next, 11); !bytes.Equal(got, extend(make([]byte, 32), "enter-initrd")) {
		t.Errorf("PCR 11 is %x", got)
	}
	if bytes.Equal(at(t, next, 4), at(t, v, 4)) || slices.Contains(v.Indexes(), 11) || slices.Contains(next.Indexes(), 12) {
		t.Error("the replay was not continued beside the first")
	}
}

func TestCompletions(t *testing.T) {
	whole := at(t, goodBoot().parse(t).Replay(eventlog.SHA256), 5)
	for name, b := range map[string]*builder{"both": goodBoot().remove(atExit).remove(atExit - 1), "one": goodBoot().remove(atExit)} {
		found := slices.ContainsFunc(b.parse(t).Completions(eventlog.SHA256), func(c eventlog.Completion) bool { return bytes.Equal(c.Value, whole) })
		if !found {
			t.Errorf("%s missing: no completion is %s", name, hex.EncodeToString(whole))
		}
	}
	if c := goodBoot().parse(t).Completions(eventlog.SHA256); len(c) > 0 {
		t.Errorf("completions %v of a whole log", c)
	}
	if c := goodBoot().parse(t).Completions(eventlog.SM3); len(c) > 0 {
		t.Errorf("completions %v of a bank that cannot be computed", c)
	}
}
