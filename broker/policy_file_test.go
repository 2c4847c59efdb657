// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

func TestParsePolicy(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}"} {
		if got, err := ParsePolicy([]byte(text)); err != nil || !reflect.DeepEqual(got, verify.DefaultPolicy()) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	got, err := ParsePolicy([]byte(`measured: [0, 7]
anchors: [nv-latch]
latches: [12, 13]
nvpcrs: ["000b11"]
tiers: [lsm]
ima_violations: true
denied_firmware: [{maker: "id:49465800", from: 0x0007000000000000, to: 0xffffffffffffffff, why: CVE-2017-15361}, {from: 1, to: 2, why: test}]
unsafe_clock_grace: 10m
`))
	want := verify.DefaultPolicy()
	want.Measured, want.Anchors, want.Latches, want.NvPCRs = []int{0, 7}, []string{"nv-latch"}, []int{12, 13}, []evidence.Bytes{{0, 0x0b, 0x11}}
	want.Tiers, want.IMAViolations, want.UnsafeClockGrace = []string{"lsm"}, true, 10*time.Minute
	want.Firmware = []verify.FirmwareRange{{Maker: "IFX", From: 7 << 48, To: 1<<64 - 1, Why: "CVE-2017-15361"}, {From: 1, To: 2, Why: "test"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := ParsePolicy([]byte("measured: []")); err != nil || len(got.Measured) != 0 {
		t.Errorf("no log: %+v, %v", got.Measured, err)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"pcrs: [0]":                         "not for an operator",
		"measure: [0]":                      "field measure not found",
		"measured:":                         "line 1: measured has no value",
		"anchors: ~":                        "has no value",
		"measured: [0, 20]":                 "policy measured",
		"anchors: []":                       "policy anchors",
		"anchors: [tpm]":                    "policy anchors",
		"tiers: [procfs]":                   "policy tiers",
		"latches: [16]":                     "policy latches",
		"unsafe_clock_grace: 25h":           "policy unsafe_clock_grace",
		"unsafe_clock_grace: soon":          "cannot unmarshal",
		"nvpcrs: [xyz]":                     "malformed",
		"ima_violations: maybe":             "cannot unmarshal",
		"measured: [0]\n---\nmeasured: [1]": "more than one document",
		"measured: [0]\nmeasured: [1]":      "already defined",
		"- measured":                        "want a mapping",
		"measured":                          "want a mapping",
		"measured: [":                       "yaml",
		"denied_firmware: [{from: 2, to: 1, why: x}]":                "want from, to, and why",
		"denied_firmware: [{from: 1, to: 2}]":                        "want from, to, and why",
		"denied_firmware: [{maker: nobody, from: 1, to: 2, why: x}]": "manufacturer",
		"denied_firmware: [{vendor: IFX, from: 1, to: 2, why: x}]":   "field vendor not found",
		strings.Repeat("#", MaxPolicy+1):                             "at most",
	} {
		if _, err := ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

// TestDocumentedPolicy: what the manual shows as the default is the default.
func TestDocumentedPolicy(t *testing.T) {
	manual, err := os.ReadFile("../cmd/jurat-broker/README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(manual)
	if shown == nil {
		t.Fatal("no example")
	}
	got, err := ParsePolicy(shown[1])
	got.Firmware, got.NvPCRs = nil, nil // empty lists
	if err != nil || !reflect.DeepEqual(got, verify.DefaultPolicy()) {
		t.Errorf("%+v, %v", got, err)
	}
	typ := reflect.TypeFor[verify.Policy]()
	for i := range typ.NumField() {
		if name := typ.Field(i).Tag.Get("yaml"); name != "pcrs" && !strings.Contains(string(shown[1]), "\n"+name+":") && !strings.HasPrefix(string(shown[1]), name+":") {
			t.Errorf("%s is not documented", name)
		}
	}
}

func TestMakerID(t *testing.T) {
	for want, m := range map[string]ek.Manufacturer{"IFX": {'I', 'F', 'X', 0}, "STM": {'S', 'T', 'M', ' '}, "INTC": {'I', 'N', 'T', 'C'}, "id:00001014": {0, 0, 0x10, 0x14}, "id:00000000": {}} {
		if got := MakerID(m); got != want {
			t.Errorf("%v is %q, want %q", m, got, want)
		}
	}
}

// FuzzParsePolicy: what is accepted is sound, and quotes the PCRs it must.
func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{"", "measured: [0]", "anchors: [none]\nnvpcrs: [\"000b\"]", "denied_firmware: [{maker: IFX, from: 0x1, to: 2, why: x}]", "a: &a [*a]", "measured: ~"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if err := p.Check(); err != nil || !reflect.DeepEqual(p.PCRs, verify.DefaultPolicy().PCRs) || p.Measured == nil || p.Anchors == nil || p.Tiers == nil {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	})
}
