// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var cddlBlock = regexp.MustCompile("(?s)```cddl\n(.*?)```")

// cddlRules returns the member names of every array rule in spec/evidence.md.
func cddlRules(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../spec/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string][]string)
	comment := regexp.MustCompile(`;.*`)
	rule := regexp.MustCompile(`(?s)([a-z-]+) = \[(.*?)\n?\](?:\n|$)`)
	member := regexp.MustCompile(`(?:^|,)\s*([a-z_0-9]+):`)
	for _, block := range cddlBlock.FindAllSubmatch(text, -1) {
		body := comment.ReplaceAllString(string(block[1]), "")
		body = regexp.MustCompile(`[ \t]+\n`).ReplaceAllString(body, "\n")
		for _, r := range rule.FindAllStringSubmatch(body, -1) {
			for _, m := range member.FindAllStringSubmatch(r[2], -1) {
				rules[r[1]] = append(rules[r[1]], m[1])
			}
		}
	}
	return rules
}

// TestSpecListsEveryField holds the arrays of spec/evidence.md against the Go
// types: same members, same order.
func TestSpecListsEveryField(t *testing.T) {
	rules := cddlRules(t)
	types := map[string]any{
		"consistency": Consistency{}, "ima-tail": IMATail{}, "closing": Closing{}, "file": File{}, "file-id": FileID{},
		"digest": Digest{}, "entry": Entry{}, "instance": Instance{}, "start": Start{}, "program": Program{}, "exec": Exec{},
		"process": Process{}, "script": Script{}, "manifest": Manifest{}, "code-file": CodeFile{}, "signal": Signal{}, "credentials": Credentials{}, "namespaces": Namespaces{},
		"container": Container{}, "ancestor": Ancestor{}, "exit": Exit{}, "loss": Loss{}, "taint": Taint{}, "release": Release{},
		"checkpoint": Checkpoint{}, "header": Header{}, "quote": Quote{}, "pcr": PCR{}, "certification": Certification{}, "register": Register{}, "banks": Banks{},
		"request": Request{}, "confirm": Confirm{}, "subject": Subject{}, "state": State{}, "leaf": wireLeaf{},
	}
	for name, v := range types {
		var want []string
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				if f.Tag.Get("cbor") != ",toarray" {
					t.Errorf("%s: not encoded as an array", name)
				}
				continue
			}
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if tag == "" {
				tag = strings.ToLower(f.Name)
			}
			want = append(want, tag)
		}
		if !slices.Equal(rules[name], want) {
			t.Errorf("spec/evidence.md: %s = %v, the code has %v", name, rules[name], want)
		}
		delete(rules, name)
	}
	for name := range rules {
		t.Errorf("spec/evidence.md: no type behind %s", name)
	}
}

// TestSpecListsEveryClaim does the same for the bundle's keys.
func TestSpecListsEveryClaim(t *testing.T) {
	text, err := os.ReadFile("../spec/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	typ := reflect.TypeOf(wire{})
	for i := range typ.NumField() {
		key, _, _ := strings.Cut(typ.Field(i).Tag.Get("cbor"), ",")
		if !strings.Contains(string(text), fmt.Sprintf("\n  %s => ", key)) {
			t.Errorf("spec/evidence.md: claim %s (%s) is missing", key, typ.Field(i).Name)
		}
	}
	if n := strings.Count(string(text), " => "); n != typ.NumField()+1 { // and the text-map
		t.Errorf("spec/evidence.md: %d keys, the code has %d", n-1, typ.NumField())
	}
}

// TestSpecStatesLimits looks for the numbers of section 8.
func TestSpecStatesLimits(t *testing.T) {
	text, err := os.ReadFile("../spec/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## 8. Limits")
	section = strings.Join(strings.Fields(section), " ")
	for _, want := range []string{
		fmt.Sprintf("Bundle %d MiB", MaxBundle>>20), fmt.Sprintf("header %d KiB", MaxHeader>>10), fmt.Sprintf("checkpoint %d KiB", MaxCheckpoint>>10),
		fmt.Sprintf("request %d KiB", MaxRequest>>10), fmt.Sprintf("entry %d KiB", MaxEntry>>10),
		fmt.Sprintf("boot log %d MiB", MaxBootLog>>20), fmt.Sprintf("operating system's log %d KiB", MaxOSLog>>10), fmt.Sprintf("register's tail %d hashes", MaxRegister),
		fmt.Sprintf("TPMS_ATTEST and TPMT_SIGNATURE %d KiB each", MaxAttest>>10), fmt.Sprintf("proofs %d hashes", MaxProof),
		fmt.Sprintf("nesting %d", MaxDepth), fmt.Sprintf("arrays %d elements", MaxElements), fmt.Sprintf("unknown field %d bytes", MaxText),
	} {
		if !strings.Contains(section, want) {
			t.Errorf("spec/evidence.md section 8 does not say %q", want)
		}
	}
}
