// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

const referenceYAML = `
id: sha-256:1
workload: invoice-agent
minimum: {ek: ek-pin, anchor: none, tier: tracepoint, provenance: pinned, ima: none, signals: [ptrace, code-open]}
boot:
  pcrs:
    0: [7e2f809a933b7ad727a9c0ac98ce11ed2a211aa96fd7eb1ced82b10f89e87b93]
  events:
    4:
    - {digest: 7e2f809a933b7ad727a9c0ac98ce11ed2a211aa96fd7eb1ced82b10f89e87b93, text: shim, required: true}
  secure_boot: ["on"]
  command_lines: any
  findings: [ebs-missing]
code:
  executables:
  - digest: sha-256:2f5481b854cd5307372767f702293ebaa0b339c444eb3e5afc704242638bdcc8
    label: invoice-agent 1.4.2
    provenance: pinned
    by: operator@example
    at: 2026-11-01T00:00:00Z
    interpreter: true
  loaders: any
  libraries: any
  scripts:
  - {digest: "sha-256:281b49c2b1f7bff44b117fd6746401455c497d48278429e1ecbbb8237eb66b39", label: main.py, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}
  bound: gate
  manifests:
  - {digest: "sha-256:381b49c2b1f7bff44b117fd6746401455c497d48278429e1ecbbb8237eb66b39", provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}
  files: any
  models:
  - {digest: "sha-256:481b49c2b1f7bff44b117fd6746401455c497d48278429e1ecbbb8237eb66b39", required: true, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}
  inputs: any
  accepted_taints: [anonymous-exec]
context:
  units: [invoice-agent.service]
  uids: [990]
  gids: any
  cgroups: any
  containers: [none]
  ancestors: any
  origins: [exec]
  user_namespace: initial
  environment: {LANG: [C.UTF-8]}
`

func loadYAML(text string) (ref verify.Reference, err error) {
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	err = dec.Decode(&ref)
	return ref, err
}

// TestReferenceLoads reads a reference as people write it, and writes and reads
// it again in both forms.
func TestReferenceLoads(t *testing.T) {
	ref, err := loadYAML(referenceYAML)
	if err != nil {
		t.Fatal(err)
	}
	if err := ref.Check(); err != nil {
		t.Fatal(err)
	}
	if ref.Boot.PCRs[0][0] != testbundle.Text("PCR 0") || !ref.Code.Executables[0].Interpreter || !ref.Code.Libraries.Any || ref.Context.UIDs.Of[0] != 990 ||
		ref.Context.UIDs.Any || !ref.Context.GIDs.Any || !ref.Code.Executables[0].At.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", ref)
	}
	text, err := yaml.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := loadYAML(string(text)); err != nil || !reflect.DeepEqual(again, ref) {
		t.Errorf("YAML: %v\n%s", err, text)
	}
	data, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	var again verify.Reference
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&again); err != nil || !reflect.DeepEqual(again, ref) {
		t.Errorf("JSON: %v\n%s", err, data)
	}
}

// TestReferenceIsStrict changes one word each: not loaded, or refused by Check.
func TestReferenceIsStrict(t *testing.T) {
	digest := "sha-256:2f5481b854cd5307372767f702293ebaa0b339c444eb3e5afc704242638bdcc8"
	cases := map[string][2]string{
		"unknown member":           {"workload:", "workloads:"},
		"unknown member in a list": {"label: main.py", "lable: main.py"},
		"misspelt any":             {"libraries: any", "libraries: all"},
		"number for a list":        {"uids: [990]", "uids: 990"},
		"negative uid":             {"uids: [990]", "uids: [-1]"},
		"uid as text":              {"uids: [990]", "uids: [root]"},
		"short PCR value":          {"0: [7e2f80", "0: [7e2f"},
		"PCR 23":                   {"    0: [7e", "    23: [7e"},
		"PCR 16":                   {"    0: [7e", "    16: [7e"},
		"PCR 24":                   {"    0: [7e", "    24: [7e"},
		"negative PCR":             {"    0: [7e", "    -1: [7e"},
		"PCR without values":       {"0: [7e2f809a933b7ad727a9c0ac98ce11ed2a211aa96fd7eb1ced82b10f89e87b93]", "0: []"},
		"ek level":                 {"ek: ek-pin", "ek: tofu"},
		"anchor":                   {"anchor: none", "anchor: pcr-23"},
		"tier":                     {"tier: tracepoint", "tier: procfs"},
		"no tier":                  {"tier: tracepoint", "tier: ''"},
		"provenance minimum":       {"provenance: pinned, ima", "provenance: hoped, ima"},
		"IMA minimum":              {"ima: none", "ima: appraised"},
		"PCR without events":       {"    - {digest: 7e2f809a933b7ad727a9c0ac98ce11ed2a211aa96fd7eb1ced82b10f89e87b93, text: shim, required: true}\n", "    []\n"},
		"events of PCR 16":         {"    4:\n", "    16:\n"},
		"state of Secure Boot":     {"secure_boot: [\"on\"]", "secure_boot: [maybe]"},
		"Secure Boot as a boolean": {"secure_boot: [\"on\"]", "secure_boot: on"},
		"provenance of a value":    {"    provenance: pinned\n", "    provenance: hoped\n"},
		"digest algorithm":         {digest, "sha1:" + digest[8:]},
		"digest in upper case":     {digest, "sha-256:" + strings.ToUpper(digest[8:])},
		"short digest":             {digest, digest[:70]},
		"long digest":              {digest, digest + "0"},
		"digest not hexadecimal":   {digest, digest[:71] + "x"},
		"pinned by nobody":         {"    by: operator@example\n", ""},
		"pinned at no time":        {"    at: 2026-11-01T00:00:00Z\n", ""},
		"interpreting script":      {"by: op,", "by: op, interpreter: true,"},
		"digest twice":             {"  scripts:\n", "  scripts:\n  - {digest: \"sha-256:281b49c2b1f7bff44b117fd6746401455c497d48278429e1ecbbb8237eb66b39\", provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}\n"},
		"bad library":              {"libraries: any", "libraries: [{digest: libc, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}]"},
		"bad loader":               {"loaders: any", "loaders: [{digest: ld.so, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}]"},
		"ancestor by name":         {"ancestors: any", "ancestors: [systemd]"},
		"origin":                   {"origins: [exec]", "origins: [born]"},
		"signal":                   {"signals: [ptrace", "signals: [gossip"},
		"bound":                    {"bound: gate", "bound: strong"},
		"bound by a name":          {"bound: gate", "bound: module"},
		"bad manifest":             {"sha-256:381b", "sha-256:38"},
		"bad file":                 {"files: any", "files: [{digest: lib.py, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}]"},
		"bad model":                {"sha-256:481b", "sha-256:48"},
		"bad input":                {"inputs: any", "inputs: [{digest: prompt, provenance: pinned, by: op, at: 2026-11-01T00:00:00Z}]"},
		"required script":          {"label: main.py,", "label: main.py, required: true,"},
		"unknown taint":            {"accepted_taints: [anonymous-exec]", "accepted_taints: [weird]"},
		"taint never accepted":     {"accepted_taints: [anonymous-exec]", "accepted_taints: [event-loss]"},
		"user namespace":           {"user_namespace: initial", "user_namespace: host"},
	}
	for name, c := range cases {
		text := strings.Replace(referenceYAML, c[0], c[1], 1)
		if text == referenceYAML {
			t.Fatalf("%s: the case changes nothing", name)
		}
		ref, err := loadYAML(text)
		if err == nil {
			err = ref.Check()
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSetJSON: the same strictness in JSON.
func TestSetJSON(t *testing.T) {
	for _, bad := range []string{`"all"`, `1`, `{"any":true}`, `[1]`, `["x"`, `true`} {
		var s verify.Set[string]
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s: accepted as %+v", bad, s)
		}
	}
	var values verify.Set[verify.Value]
	if err := json.Unmarshal([]byte(`[{"digest":"x","trusted":true}]`), &values); err == nil {
		t.Error("an unknown member was accepted")
	}
	for text, want := range map[string]verify.Set[string]{
		`"any"`: {Any: true}, `[]`: {Of: []string{}}, `["a","any"]`: {Of: []string{"a", "any"}}, `null`: {},
	} {
		s := verify.Set[string]{Any: true, Of: []string{"left over"}}
		if err := json.Unmarshal([]byte(text), &s); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("%s: %+v (%v)", text, s, err)
		}
	}
	if data, err := json.Marshal(verify.Set[string]{}); err != nil || string(data) != "[]" {
		t.Errorf("empty set: %s (%v)", data, err)
	}
}
