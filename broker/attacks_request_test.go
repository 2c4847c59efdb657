// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// TestPromised: what the human signed about the workload holds, whatever the
// registration says later.
func TestPromised(t *testing.T) {
	w := ready(t)
	pinned := w.approved(object{"pin_code": true})
	w.ok(w.tryToken(pinned))
	strict := w.approved(nil) // min_levels: ek-cert, as registered now
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml",
		strings.Replace(w.yaml(workloadID, false, "/usr/bin/other"), "ek: ek-cert", "ek: ek-pin", 1)))
	w.subject = w.host.Measure(t, 1, func(p *evidence.Process) {
		exe := testbundle.File("/usr/bin/other")
		p.Exe, p.Maps = evidence.Known(exe), evidence.Known([]evidence.File{exe})
	})
	w.ok(w.tryToken(strict))
	e := w.refused(w.tryToken(pinned), 400, oauth.InvalidRequest, "")
	if !slices.Equal(e.failed(), []string{"delegation/code-ref"}) {
		t.Errorf("another program: failed %q", e.failed())
	}
	w.tamper(`UPDATE host SET level = 'ek-pin' WHERE name = 'h1'`)
	e = w.refused(w.tryToken(strict), 400, oauth.InvalidRequest, "")
	if !slices.Equal(e.failed(), []string{"delegation/min-levels"}) {
		t.Errorf("a weaker host: failed %q", e.failed())
	}
}

// TestModelsApproved: a person who named the models is held to them.
func TestModelsApproved(t *testing.T) {
	w := ready(t)
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml",
		strings.Replace(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "libraries: any", "libraries: any\n  models: any", 1)))
	named := w.plant(func(o *delegation.Delegation) { o.Workload.Models = []evidence.Hash{testbundle.Text("file good.gguf")} })
	for name, c := range map[string]struct {
		models []evidence.File
		ok     bool
	}{
		"the named one": {[]evidence.File{testbundle.File("good.gguf")}, true},
		"one more":      {[]evidence.File{testbundle.File("good.gguf"), testbundle.File("evil.gguf")}, false},
		"another one":   {[]evidence.File{testbundle.File("evil.gguf")}, false},
		"none":          {[]evidence.File{}, false},
	} {
		w.subject = w.host.Measure(t, 1, func(p *evidence.Process) { p.Models = evidence.Known(c.models) })
		if a := w.tryToken(named); c.ok {
			w.ok(a)
		} else if e := w.refused(a, 400, oauth.InvalidRequest, ""); !slices.Equal(e.failed(), []string{"delegation/model-ref"}) {
			t.Errorf("%s: failed %q", name, e.failed())
		}
	}
}

// TestDelegationRequestRefused: what cannot be asked of a person.
func TestDelegationRequestRefused(t *testing.T) {
	w := ready(t)
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", "kind: Approver\nname: nokey@example.test\nkeys: []\n"))
	for name, change := range map[string]object{
		"unknown workload":       {"workload": "spiffe://example.test/agents/other"},
		"unknown approver":       {"approver": "mallory@example.test"},
		"approver without a key": {"approver": "nokey@example.test"},
		"no action":              {"actions": []string{}},
		"no uses":                {"uses": 0},
		"no end":                 {"expires_in": 0},
		"too long":               {"expires_in": 367 * 24 * 3600},
		"begins after its end":   {"starts_in": 3600},
		"bidi in the purpose":    {"purpose": "pay \u202eevil"},
		"long purpose":           {"purpose": strings.Repeat("a", 201)},
		"no purpose":             {"purpose": ""},
		"plain http audience":    {"audience": "http://payments.example"},
		"odd per":                {"per": "week"},
		"long credential":        {"lifetime": 100000},
		"nine persons":           {"four_eyes": 9},
	} {
		in := object{"workload": workloadID, "approver": approver, "purpose": "p", "actions": []string{"a"}, "audience": audience, "uses": 1, "expires_in": 60}
		for k, v := range change {
			in[k] = v
		}
		if a := w.post(w.operator+"/v1/delegations", in); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	for range maxOpenRequests {
		w.request(nil)
	}
	in := object{"workload": workloadID, "approver": approver, "purpose": "p", "actions": []string{"a"}, "audience": audience, "uses": 1, "expires_in": 60}
	if a := w.post(w.operator+"/v1/delegations", in); a.status != 429 {
		t.Errorf("one request too many: %d %s", a.status, a.raw)
	}
}

// TestEnumeration is attack 19: what is not there and what one may not see get
// the same answer.
func TestEnumeration(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	id := d["id"].(string)
	near := id[:4] + map[bool]string{true: "1", false: "0"}[id[4] == '0'] + id[5:]
	var bodies []string
	for _, name := range []string{"dlg_00000000000000000000000000", near, "x", strings.Repeat("A", 43), "' or 1=1 --"} {
		a := w.get(w.url + "/v1/delegations/" + strings.ReplaceAll(name, " ", "%20"))
		if a.status != 404 {
			t.Errorf("%s: %d", name, a.status)
		}
		bodies = append(bodies, string(a.raw))
	}
	for _, body := range bodies[1:] {
		if body != bodies[0] {
			t.Errorf("answers differ: %s, %s", bodies[0], body)
		}
	}
	byD := w.ok(w.get(w.url + "/v1/delegations/" + d["d"].(string)))
	if byD.str("id") != id {
		t.Errorf("by d: %s", byD.raw)
	}
	for _, txn := range []string{"x", strings.Repeat("0", 26), "' or 1=1 --"} {
		if a := w.get(w.url + "/v1/explain/" + strings.ReplaceAll(txn, " ", "%20")); a.status != 404 {
			t.Errorf("explain %s: %d", txn, a.status)
		}
	}
	// No list is public.
	for _, path := range []string{"/v1/delegations", "/v1/hosts", "/v1/workloads", "/v1/audit", "/v1/approvers", "/v1/resources", "/v1/apply", "/v1/refs"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if a := w.send(method, w.url+path, "application/json", "{}"); a.status != 404 {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		txn, err := w.b.newTxn()
		w.must(err)
		if seen[txn] || !isTxn(txn) {
			t.Fatalf("txn %q", txn)
		}
		seen[txn] = true
	}
}
