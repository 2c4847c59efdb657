// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// TestShown: what comes from the host is cleaned and cut before it is shown.
func TestShown(t *testing.T) {
	a := appraise(t, func(s scene) {
		var maps []evidence.File
		for i := range 40 {
			maps = append(maps, testbundle.File(fmt.Sprintf("/lib/\x1b[31m\u202e%02d\n%s", i, strings.Repeat("x", 300))))
		}
		s.p.Maps = known(append(maps, testbundle.File("/usr/bin/invoice-agent")))
	})
	for _, c := range a.Failed() {
		if c.Check != "libraries" {
			continue
		}
		if len(c.Observed) > 17 && c.Attestor == verify.AttestorCode || !slices.IsSortedFunc(c.Observed[:len(c.Observed)-1], strings.Compare) {
			t.Errorf("%d values shown, or not sorted", len(c.Observed))
		}
		for _, o := range c.Observed {
			if len(o) > 260 || strings.ContainsAny(o, "\x1b\n\u202e") {
				t.Errorf("shown as %q", o)
			}
		}
		if c.Attestor == verify.AttestorCode && (c.Observed[16] != "and 24 more" || !strings.HasPrefix(c.Hint, "if this file is right: jurat refs add invoice-agent sha-256:")) {
			t.Errorf("%q, hint %q", c.Observed[16], c.Hint)
		}
	}
}

// TestEAR writes an appraisal as the draft's JSON.
func TestEAR(t *testing.T) {
	a := appraise(t, func(s scene) { s.p.Unit = known("ssh.service") })
	got, err := json.MarshalIndent(a.EAR(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	policy := `"ear_appraisal_policy_ids": [
    "` + testbundle.Reference().ID + `"
   ]`
	sub := func(name, status, vector string) string {
		return `"` + name + `": {
   "ear_status": "` + status + `",
   "ear_trustworthiness_vector": {
    ` + vector + `
   },
   ` + policy + `
  }`
	}
	want := `{
 "eat_profile": "tag:ietf.org,2026:rats/ear#03",
 "ear_status": "contraindicated",
 "iat": 1795435200,
 "ear_verifier_id": {
  "developer": "https://jurat.dev",
  "build": "verify/1"
 },
 "submods": {
  ` + sub("boot", "affirming", `"configuration": 2`) + `,
  ` + sub("code", "affirming", `"executables": 2`) + `,
  ` + sub("context", "contraindicated", `"runtime-opaque": 96`) + `,
  ` + sub("hardware", "affirming", `"hardware": 2,
    "instance-identity": 2`) + `,
  ` + sub("provenance", "affirming", `"sourced-data": 2`) + `
 }
}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWords reads what a person reads of some checks: expected and observed.
func TestWords(t *testing.T) {
	exe := testbundle.Digest("/usr/bin/invoice-agent").String()
	cases := []struct {
		check, expected, observed, hint string
		change                          func(scene)
	}{
		{"code/exe-digest", exe + " (/usr/bin/invoice-agent)", exe + " /usr/bin/invoice-agent", "", nil},
		{"code/exe-digest", exe, exe + " /usr/bin/invoice-agent", "", func(s scene) { s.ref.Code.Executables[0].Label = "" }},
		{"code/exe-digest", "nothing: the reference values list none", exe + " /usr/bin/invoice-agent", "if this file is right: jurat refs add WORKLOAD " + exe + " --label … --reason …",
			func(s scene) { s.ref.Code.Executables, s.ref.Workload = nil, "" }},
		{"code/loader", "any measured value", testbundle.Digest("/lib64/ld-linux-x86-64.so.2").String() + " /lib64/ld-linux-x86-64.so.2", "",
			func(s scene) { s.ref.Code.Loaders = verify.Set[verify.Value]{Any: true} }},
		{"code/loader", "nothing: the reference values list none", testbundle.Digest("/lib64/ld-linux-x86-64.so.2").String() + " /lib64/ld-linux-x86-64.so.2",
			"if this file is right: jurat refs add WORKLOAD " + testbundle.Digest("/lib64/ld-linux-x86-64.so.2").String() + " --group loaders --label … --reason …",
			func(s scene) { s.ref.Code.Loaders, s.ref.Workload = verify.Set[verify.Value]{}, "" }},
		{"code/libraries", testbundle.Digest("/lib/x86_64-linux-gnu/libc.so.6").String() + " (/lib/x86_64-linux-gnu/libc.so.6)", "3 files mapped executable, all accepted", "", nil},
		{"code/script", "none", "none", "", nil},
		{"code/script", "nothing: the reference values list none", "none", "this interpreter may only run a listed script, started by its file",
			func(s scene) { s.ref.Code.Executables[0].Interpreter = true }},
		{"provenance/exe", `at least "pinned"`, exe + " pinned by operator@example on 2026-11-01", "", nil},
		{"provenance/exe", `at least "pinned"`, exe + ` "pinned" by nobody`, "the reference value " + exe + " has to say by whom and when it was accepted",
			func(s scene) { s.ref.Code.Executables[0].By = "" }},
		{"provenance/exe", `at least "pinned"`, exe + ` "pinned" by nobody`, "the reference value " + exe + " has to say by whom and when it was accepted",
			func(s scene) { s.ref.Code.Executables[0].At = time.Time{} }},
		{"provenance/loader", `at least "pinned"`, "any, by the reference values", "", func(s scene) { s.ref.Code.Loaders = verify.Set[verify.Value]{Any: true} }},
		{"provenance/libraries", `at least "pinned"`, "nothing but the program and its loader", "", func(s scene) {
			maps, _ := s.p.Maps.Get()
			s.p.Maps = known([]evidence.File{maps[0], maps[2]})
		}},
		{"provenance/exe", `at least "pinned"`, "no reference value, so nobody vouches for it", "", func(s scene) { s.p.Exe = file("evil") }},
		{"context/unit", `"invoice-agent.service"`, "tainted (ptrace)", "", func(s scene) { s.p.Unit = tainted("invoice-agent.service") }},
		{"context/unit", `"invoice-agent.service"`, "unknown (raced)", "", func(s scene) { s.p.Unit = unknown("") }},
		{"context/unit", `"invoice-agent.service"`, `"ssh.service"`, "start it by its unit, or: context.units of invoice-agent is set by: jurat apply -f FILE", func(s scene) { s.p.Unit = known("ssh.service") }},
		{"context/user-namespace", "any measured value", "initial", "", func(s scene) { s.ref.Context.UserNamespace = "any" }},
		{"context/environment", `LANG="C"|LANG="C.UTF-8"`, "LANG not set", "context.environment of invoice-agent is set by: jurat apply -f FILE", func(s scene) { s.p.Environment = known(map[string]string{}) }},
		{"context/window", "measured, looked at, quoted, looked at again, in this order", "window of 250ms", "", nil},
	}
	for _, c := range cases {
		for _, got := range appraise(t, c.change).Checks() {
			if string(got.Attestor)+"/"+got.Check != c.check {
				continue
			}
			if e, o := strings.Join(got.Expected, "|"), strings.Join(got.Observed, "|"); e != c.expected || o != c.observed || got.Hint != c.hint {
				t.Errorf("%s: expected %q, observed %q, hint %q\nwant %q, %q, %q", c.check, e, o, got.Hint, c.expected, c.observed, c.hint)
			}
		}
	}
}
