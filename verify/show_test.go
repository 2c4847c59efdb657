// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

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
