// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

func (w *world) apply(yaml string) answer {
	w.t.Helper()
	return w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", yaml)
}

func results(a answer) string {
	var out []string
	list, _ := a.body["applied"].([]any)
	for _, x := range list {
		out = append(out, x.(object)["result"].(string))
	}
	return strings.Join(out, " ")
}

// TestApply: created, then unchanged, then changed; all or nothing.
func TestApply(t *testing.T) {
	w := newWorld(t)
	yaml := w.yaml(workloadID, false, "/usr/bin/invoice-agent")
	if a := w.ok(w.apply(yaml)); results(a) != "created created created created" {
		t.Errorf("first: %s", a.raw)
	}
	entries := len(w.entries())
	w.clock.add(86400e9)
	if a := w.ok(w.apply(yaml)); results(a) != "unchanged unchanged unchanged unchanged" || len(w.entries()) != entries {
		t.Errorf("again: %s, %d new entries", a.raw, len(w.entries())-entries)
	}
	changed := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(yaml, "units: [invoice.service]", "units: [other.service]"),
		testbundleHex(), strings.Repeat("0", 64)), "audience: "+audience, "audience: https://other.example")
	if a := w.ok(w.apply(changed)); results(a) != "changed changed unchanged changed" {
		t.Errorf("changed: %s", a.raw)
	}
	before := len(w.entries())
	a := w.apply(yaml + "---\nkind: Approver\nname: bob@example.test\nkeys: [\"ssh-ed25519 AAAA\"]\n")
	if a.status != 400 || len(w.entries()) != before || !strings.Contains(a.str("error_description"), "bob@example.test") {
		t.Errorf("half of it is bad: %d %s", a.status, a.raw)
	}
	if a := w.apply("kind: Workload\nid: spiffe://example.test/x\nmachine: [a]\n"); a.status != 400 || !strings.Contains(a.str("error_description"), "line 3: field machine not found") {
		t.Errorf("unknown member: %d %s", a.status, a.raw)
	}
	for path, want := range map[string]string{"workloads": "other.service", "machines": strings.Repeat("0", 64), "approvers": "SHA256:", "resources": "https://other.example"} {
		if a := w.ok(w.get(w.operator + "/v1/" + path)); !bytes.Contains(a.raw, []byte(want)) || len(a.body[path].([]any)) != 1 {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
}

func testbundleHex() string { return fmt.Sprintf("%x", testbundle.PCR(7)) }

// TestRefs: one more digest, with a reason, in the log; the workload that was
// refused is accepted then.
func TestRefs(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.subject = w.host.Measure(t, 1, func(p *evidence.Process) {
		exe := testbundle.File("/usr/bin/invoice-agent-2")
		p.Exe, p.Maps = evidence.Known(exe), evidence.Known([]evidence.File{exe})
	})
	w.refused(w.tryToken(d), 400, "invalid_request", "")
	add := object{"workload": workloadID, "digest": testbundle.Digest("/usr/bin/invoice-agent-2").String(), "label": "invoice-agent 2", "reason": "release 2"}
	if a := w.ok(w.post(w.operator+"/v1/refs", add)); a.str("result") != "added" {
		t.Errorf("%s", a.raw)
	}
	if e := w.lastEntry(); e["type"] != "refs" || e["target"] != workloadID || w.explain(e["txn"].(string))["reason"] != "release 2" {
		t.Errorf("log entry %v", e)
	}
	if a := w.ok(w.post(w.operator+"/v1/refs", add)); a.str("result") != "unchanged" {
		t.Errorf("%s", a.raw)
	}
	w.ok(w.tryToken(d))
	for name, change := range map[string]object{
		"no reason": {"reason": ""}, "odd digest": {"digest": "sha-256:00"}, "odd group": {"group": "Executables"}, "long label": {"label": strings.Repeat("a", 201)},
	} {
		in := object{}
		for k, v := range add {
			in[k] = v
		}
		for k, v := range change {
			in[k] = v
		}
		if a := w.post(w.operator+"/v1/refs", in); a.status != 400 {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	add["workload"] = "spiffe://example.test/none"
	if a := w.post(w.operator+"/v1/refs", add); a.status != 404 {
		t.Errorf("unknown workload: %d %s", a.status, a.raw)
	}
}

// TestRefsOfData: each group of what a process is fed takes its digest, from the
// registration as from an addition, and only then the process is accepted.
func TestRefsOfData(t *testing.T) {
	manifest := evidence.NewManifest([]evidence.CodeFile{{Digest: testbundle.Text("file lib.py"), Path: "lib.py"}})
	for group, c := range map[string]struct {
		digest string
		change func(p *evidence.Process)
	}{
		"manifests": {"sha-256:" + manifest.Root.String(), func(p *evidence.Process) { p.Code = evidence.Known(manifest) }},
		"files":     {testbundle.Digest("lib.py").String(), func(p *evidence.Process) { p.Code = evidence.Known(manifest) }},
		"models":    {testbundle.Digest("m.gguf").String(), func(p *evidence.Process) { p.Models = evidence.Known([]evidence.File{testbundle.File("m.gguf")}) }},
		"inputs":    {testbundle.Digest("p.txt").String(), func(p *evidence.Process) { p.Inputs = evidence.Known([]evidence.File{testbundle.File("p.txt")}) }},
	} {
		w := ready(t)
		d := w.approved(nil)
		w.subject = w.host.Measure(t, 1, c.change)
		w.refused(w.tryToken(d), 400, "invalid_request", "")
		w.ok(w.post(w.operator+"/v1/refs", object{"workload": workloadID, "digest": c.digest, "group": group, "label": "x", "reason": "release 2"}))
		w.ok(w.tryToken(d))
	}
}

// TestHosts: invited, enrolled, seen.
func TestHosts(t *testing.T) {
	w := ready(t)
	w.ok(w.token(w.approved(nil)))
	w.invite("h2", nil)
	hosts := w.ok(w.get(w.operator + "/v1/hosts")).body["hosts"].([]any)
	if len(hosts) != 2 {
		t.Fatalf("%v", hosts)
	}
	h1, h2 := hosts[0].(object), hosts[1].(object)
	if h1["state"] != "enrolled" || h1["log_size"] != 2.0 || h1["epoch"] != 1.0 || h1["seen"] == nil || h1["machine"] != "demo" || h1["level"] != "ek-cert" || h2["state"] != "invited" {
		t.Errorf("%v", hosts)
	}
	for _, bad := range []string{"", "A", "a/b", "../x", strings.Repeat("a", 129)} {
		if a := w.post(w.operator+"/v1/hosts", object{"name": bad}); a.status != 400 {
			t.Errorf("name %q: %d", bad, a.status)
		}
	}
	if a := w.post(w.operator+"/v1/hosts", object{"name": "h9", "machine": "A B"}); a.status != 400 {
		t.Errorf("machine: %d", a.status)
	}
}

// TestLog: checkpoint, receipts of every entry, pages of the audit log.
func TestLog(t *testing.T) {
	w := ready(t)
	w.ok(w.token(w.approved(nil)))
	v, err := audit.NewVerifier(w.log.VerifierKey())
	w.must(err)
	head, err := v.Open(w.ok(w.get(w.url + "/log/checkpoint")).raw)
	w.must(err)
	all := w.ok(w.get(w.operator + "/v1/audit")).body
	if float64(head.Size) != all["size"] || all["next"] != all["size"] {
		t.Errorf("checkpoint of %d, log of %v", head.Size, all["size"])
	}
	for _, e := range all["entries"].([]any) {
		entry := e.(object)
		var leaf evidence.Hash
		w.must(leaf.UnmarshalText([]byte(entry["leaf"].(string))))
		receipt := w.ok(w.get(fmt.Sprintf("%s/log/proof?index=%v", w.url, entry["index"])))
		index, _, err := v.VerifyReceiptLeaf(receipt.raw, leaf)
		if err != nil || float64(index) != entry["index"] {
			t.Errorf("entry %v: %v", entry["index"], err)
		}
	}
	page := w.ok(w.get(w.operator + "/v1/audit?from=2&limit=3")).body
	if entries := page["entries"].([]any); len(entries) != 3 || entries[0].(object)["index"] != 2.0 || page["next"] != 5.0 {
		t.Errorf("page %v", page)
	}
	for path, status := range map[string]int{"/log/proof": 404, "/log/proof?index=999": 404, "/log/proof?index=x": 400, "/log/proof?index=1&index=2": 400, "/log/proof?index=-1": 400} {
		if a := w.get(w.url + path); a.status != status {
			t.Errorf("%s: %d %s", path, a.status, a.raw)
		}
	}
}

// TestHeaders: no browser makes anything of an answer.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/healthz", "/oauth/jwks", "/nothing", "/log/checkpoint"} {
		a := w.get(w.url + path)
		if !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	if a := w.get(w.url + "/oauth/jwks"); a.header.Get("Cache-Control") != "max-age=300" {
		t.Errorf("jwks: %v", a.header)
	}
	if a := w.get(w.url + "/oauth/token"); a.status != 404 || a.str("error") == "" {
		t.Errorf("GET of the token endpoint: %d %s", a.status, a.raw)
	}
	if a := w.send(http.MethodPost, w.url+"/oauth/token?grant_type=x", "application/x-www-form-urlencoded", "a=b"); a.status != 400 {
		t.Errorf("parameters in the URL: %d", a.status)
	}
}

// TestNew refuses a broker that could not be right.
func TestNew(t *testing.T) {
	w := newWorld(t)
	k, err := keys.Open(w.data, rand.Reader)
	w.must(err)
	good := w.b.Config
	for name, change := range map[string]func(*Config){
		"no issuer":       func(c *Config) { c.Issuer = "" },
		"plain issuer":    func(c *Config) { c.Issuer = "http://broker.example" },
		"other issuer":    func(c *Config) { c.Issuer = "https://broker.example" },
		"no trust domain": func(c *Config) { c.TrustDomain = "" },
		"no policy":       func(c *Config) { c.Policy = verify.Policy{} },
		"no authorities":  func(c *Config) { c.Authorities = nil },
		"no clock":        func(c *Config) { c.Now = nil },
		"no randomness":   func(c *Config) { c.Rand = nil },
		"no log":          func(c *Config) { c.Log = nil },
	} {
		c := good
		change(&c)
		if _, err := New(c, w.store, k, w.log); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	none, err := ek.Open(ek.BundleNone)
	w.must(err)
	good.Authorities, good.Log = none, slog.New(slog.DiscardHandler)
	lonely, err := New(good, w.store, k, w.log)
	w.must(err)
	w.b = lonely
	if a := w.post(w.operator+"/v1/hosts", object{"name": "h1"}); a.status != 400 || !strings.Contains(a.str("error_description"), "ek_pin") {
		t.Errorf("a host without pin at a broker without authorities: %d %s", a.status, a.raw)
	}
}

// TestSpec holds spec/broker-api.md to the code: every path that is served is
// there, and every word of the error table is one of ours.
func TestSpec(t *testing.T) {
	raw, err := os.ReadFile("../spec/broker-api.md")
	if err != nil {
		t.Fatal(err)
	}
	spec := string(raw)
	if lines := strings.Count(spec, "\n"); lines >= 300 {
		t.Errorf("%d lines, want under 300", lines)
	}
	code, err := os.ReadFile("http.go")
	if err != nil {
		t.Fatal(err)
	}
	paths := regexp.MustCompile(`"(GET|POST|DELETE) (/[^"]*)"`).FindAllStringSubmatch(string(code), -1)
	if len(paths) < 25 {
		t.Fatalf("only %d paths found in the code", len(paths))
	}
	for _, p := range paths {
		path := p[2]
		for _, tail := range []string{"/approve", "/refuse", "/revoke"} {
			path = strings.TrimSuffix(path, tail)
		}
		base := strings.TrimSuffix(strings.TrimSuffix(path, "/{id}"), "/learn-boot")
		if !strings.Contains(spec, path) && !strings.Contains(spec, strings.ReplaceAll(path, "{id}", "{id or d}")) && !strings.Contains(spec, "`"+strings.TrimPrefix(base, "/v1/")+"`") {
			t.Errorf("%s %s is not in the spec", p[1], p[2])
		}
	}
	words := []string{"delegation_not_approved", "delegation_unknown", "delegation_mismatch", "evidence_stale", "evidence_unknown", "use_dpop_nonce", "invalid_dpop_proof",
		"invalid_target", "invalid_authorization_details", "temporarily_unavailable", "request_too_large", "unsupported_media_type", "DPoP-Nonce", "_used_up", "_not_begun"}
	for _, word := range words {
		if !strings.Contains(spec, word) {
			t.Errorf("%s is not in the spec", word)
		}
	}
}
