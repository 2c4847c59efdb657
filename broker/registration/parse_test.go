// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package registration

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/verify"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 5, time.UTC)

const (
	digest = "sha-256:1111111111111111111111111111111111111111111111111111111111111111"
	pcr    = "0000000000000000000000000000000000000000000000000000000000000007"
)

const workload = `kind: Workload
id: spiffe://example.test/agents/invoice
machines: [demo]
minimum: {ek: ek-pin, anchor: none, tier: tracepoint, provenance: pinned, ima: none}
code:
  executables:
    - {digest: "` + digest + `", label: invoice-agent 1.4.2}
  loaders: any
  libraries: any
context:
  units: [invoice.service]
  uids: [990]
  gids: [990]
  cgroups: any
  containers: [none]
  ancestors: any
`

const all = workload + `---
kind: Machine
name: demo
boot:
  pcrs:
    7: [` + pcr + `]
---
kind: Approver
name: alice@example.test
keys: ["ssh-ed25519 AAAA"]
---
kind: Resource
name: payments
audience: https://payments.example
`

func parse(text string) ([]Object, error) {
	return Parse([]byte(text), "example.test", "operator", now)
}

func TestParse(t *testing.T) {
	objects, err := parse(all)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 4 {
		t.Fatalf("%d objects", len(objects))
	}
	w, m := objects[0].(*Workload), objects[1].(*Machine)
	v := w.Code.Executables[0]
	if v.Provenance != verify.Pinned || v.By != "operator" || !v.At.Equal(now.Truncate(time.Second)) || v.Label != "invoice-agent 1.4.2" {
		t.Errorf("digest completed to %+v", v)
	}
	ref := w.Reference(m)
	if err := ref.Check(); err != nil {
		t.Error(err)
	}
	if len(ref.Boot.PCRs[7]) != 1 || ref.Boot.PCRs[7][0].String() != pcr || !ref.Code.Loaders.Any || ref.Context.UIDs.Of[0] != 990 {
		t.Errorf("reference %+v", ref)
	}
	if boot := w.Reference(nil).Boot; len(boot.PCRs) != 0 {
		t.Errorf("boot values from nowhere: %v", boot)
	}
	body, err := Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseWorkload(body)
	if err != nil {
		t.Fatal(err)
	}
	if body2, err := Marshal(again); err != nil || !bytes.Equal(body, body2) {
		t.Errorf("stored and read again:\n%s\n%s (%v)", body, body2, err)
	}
	if r := objects[3].(*Resource); r.Audience != "https://payments.example" {
		t.Errorf("%+v", r)
	}
}

// TestParseBoot: a class as it is written by hand, learned, and read again.
func TestParseBoot(t *testing.T) {
	objects, err := parse(`kind: Machine
name: demo
boot:
  pcrs: {0: [` + pcr + `]}
  events: {4: [{digest: ` + pcr + `, text: GRUB, required: true}]}
  secure_boot: [on, off]
  command_lines: any
  findings: [ebs-missing]
---
kind: Machine
name: nothing
boot: {pcrs: {}}
`)
	if err != nil {
		t.Fatal(err)
	}
	b := objects[0].(*Machine).Boot
	if len(b.PCRs[0]) != 1 || len(b.Events[4]) != 1 || !b.Events[4][0].Required || b.Events[4][0].Text != "GRUB" || b.Events[4][0].Digest.String() != pcr ||
		!slices.Equal(b.SecureBoot.Of, []string{"on", "off"}) || b.SecureBoot.Any || !b.CommandLines.Any || !slices.Equal(b.Findings, []string{"ebs-missing"}) {
		t.Errorf("%+v", b)
	}
	for _, o := range objects {
		body, err := Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseMachine(body)
		if err != nil {
			t.Fatal(err)
		}
		if body2, err := Marshal(again); err != nil || !bytes.Equal(body, body2) {
			t.Errorf("stored and read again:\n%s\n%s (%v)", body, body2, err)
		}
	}
	if n := objects[1].(*Machine).Boot; n.SecureBoot.Any || len(n.SecureBoot.Of) != 0 {
		t.Errorf("what is left out accepts something: %+v", n)
	}
}

// TestKeep: applying the same file tomorrow is no change.
func TestKeep(t *testing.T) {
	first, err := parse(workload)
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(24 * time.Hour)
	second, err := Parse([]byte(workload), "example.test", "operator", later)
	if err != nil {
		t.Fatal(err)
	}
	old, again := first[0].(*Workload), second[0].(*Workload)
	again.Code.Executables = append(again.Code.Executables, verify.Value{Digest: strings.Replace(digest, "1", "2", 1), By: "operator", At: later})
	again.Keep(old, later)
	if !again.Code.Executables[0].At.Equal(old.Code.Executables[0].At) {
		t.Error("the time of a known digest moved")
	}
	if !again.Code.Executables[1].At.Equal(later) {
		t.Error("a new digest is older than it is")
	}
}

func TestParseRefuses(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(all, old) {
			t.Fatalf("%q is not in the sample", old)
		}
		return strings.Replace(all, old, new, 1)
	}
	cases := []struct{ name, want, text string }{
		{"empty", "no registration", ""},
		{"not YAML", "line 1", "a: [b"},
		{"list", "cannot unmarshal", "- a"},
		{"long", "at most", strings.Repeat(" ", MaxInput+1)},
		{"unknown kind", `kind "Workloads"`, replace("kind: Workload\n", "kind: Workloads\n")},
		{"no kind", `kind ""`, replace("kind: Workload\n", "")},
		{"unknown member", "line 3: field machine not found", replace("machines: [demo]", "machine: [demo]")},
		{"unknown member deep down", "line 7: field lable not found", replace("label:", "lable:")},
		{"unknown member in a set", "line 8", replace("loaders: any", "loaders: [{digset: x}]")},
		{"member in capitals", "not found", replace("machines:", "Machines:")},
		{"member twice", "already", replace("machines: [demo]", "machines: [demo]\nmachines: [other]")},
		{"other word than any", `"all" is neither`, replace("loaders: any", "loaders: all")},
		{"no machines", "may run nowhere", replace("machines: [demo]", "machines: []")},
		{"another trust domain", "want spiffe://example.test", replace("spiffe://example.test/", "spiffe://other.test/")},
		{"a host's name", "names below /host/", replace("agents/invoice", "host/h1")},
		{"dots in the path", "path segment", replace("agents/invoice", "agents/../invoice")},
		{"proved by a file", `only "pinned"`, replace("label: invoice-agent 1.4.2", "label: x, provenance: proved")},
		{"no minimum", "minimum.ek", replace("ek: ek-pin, ", "")},
		{"odd level", "minimum.tier", replace("tier: tracepoint", "tier: best")},
		{"odd digest", "64 hexadecimal digits", replace("sha-256:1", "md5:1")},
		{"long lifetime", "lifetime", replace("machines: [demo]", "machines: [demo]\nlifetime: 301")},
		{"negative lifetime", "lifetime", replace("machines: [demo]", "machines: [demo]\nlifetime: -1")},
		{"PCR 16", "PCR 16 never counts", replace("    7: [", "    16: [")},
		{"PCR without value", "no accepted value", replace("["+pcr+"]", "[]")},
		{"no IMA minimum", "minimum.ima", replace(", ima: none", "")},
		{"event of PCR 23", "PCR 23 never counts", replace("  pcrs:\n", "  events: {23: [{digest: "+pcr+"}]}\n  pcrs:\n")},
		{"PCR without event", "no accepted event", replace("  pcrs:\n", "  events: {4: []}\n  pcrs:\n")},
		{"member of an event", "field digset not found", replace("  pcrs:\n", "  events: {4: [{digset: "+pcr+"}]}\n  pcrs:\n")},
		{"state of Secure Boot", `"On" is not on`, replace("  pcrs:\n", "  secure_boot: [On]\n  pcrs:\n")},
		{"states as one word", `"on" is neither`, replace("  pcrs:\n", "  secure_boot: on\n  pcrs:\n")},
		{"short PCR", "malformed hash", replace(pcr, "00")},
		{"machine name", "lower-case", replace("name: demo", "name: Demo")},
		{"approver name", "letters, digits", replace("alice@example.test", "alice <a@b>")},
		{"plain http", "want https", replace("https://payments.example", "http://payments.example")},
		{"slash at the end", "plain form", replace("https://payments.example", "https://payments.example/")},
		{"capitals in the host", "plain form", replace("https://payments.example", "https://Payments.example")},
		{"query", "only scheme", replace("https://payments.example", "https://payments.example?a")},
		{"twice", "is there twice", all + "---\n" + workload},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "-a", "a/b", "A", "ä", "a b", strings.Repeat("a", 129)} {
		if CheckName(bad) == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	for _, bad := range []string{"", "A", "a/b", "a b"} {
		if CheckTrustDomain(bad) == nil {
			t.Errorf("accepted trust domain %q", bad)
		}
	}
	if err := CheckURL("http://127.0.0.1:8080/x"); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(all)
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := parse(text)
		if err != nil {
			return
		}
		for _, o := range objects {
			if w, ok := o.(*Workload); ok {
				body, err := Marshal(w)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ParseWorkload(body); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
