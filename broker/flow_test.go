// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/evidence"
)

// TestFlow is the main job: enrol, register, approve, attest, exchange; then
// the token as a stock library reads it, its receipt as an auditor does, and
// the entries in the log.
func TestFlow(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	a := w.ok(w.token(d))
	if a.body["token_type"] != "DPoP" || a.body["expires_in"] != 300.0 || a.body["refresh_after"] != 240.0 || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer %s, %v", a.raw, a.header)
	}
	var set jose.JSONWebKeySet
	w.must(json.Unmarshal(w.ok(w.get(w.url+"/oauth/jwks")).raw, &set))
	parsed, err := jwt.ParseSigned(a.str("access_token"), []jose.SignatureAlgorithm{jose.ES256})
	w.must(err)
	var std jwt.Claims
	var c object
	w.must(parsed.Claims(set.Keys[0].Public(), &std, &c))
	w.must(std.ValidateWithLeeway(jwt.Expected{Issuer: w.url, AnyAudience: jwt.Audience{audience}, Time: w.clock.now()}, 0))
	act, ev, dl := c["act"].(object), c["evidence"].(object), c["delegation"].(object)
	status := ev["status"].(object)
	for _, attestor := range []string{"hardware", "boot", "code", "provenance", "context"} {
		if status[attestor] != 2.0 {
			t.Errorf("%s is %v", attestor, status[attestor])
		}
	}
	if c["client_id"] != workloadID || act["sub"] != workloadID || act["host"] != w.hostID() || act["iss"] != w.url || !strings.HasSuffix(act["instance"].(string), ":4711:99000:2") {
		t.Errorf("actor %v, client %v", act, c["client_id"])
	}
	if !strings.HasPrefix(c["sub"].(string), "p_") || strings.Contains(string(a.raw), approver) {
		t.Errorf("the human is %v", c["sub"])
	}
	if dl["uses_left"] != 19.0 || dl["id"] != d["id"] || c["acr"] != "https://jurat.dev/acr/ssh-key" || c["exp"].(float64)-c["iat"].(float64) != 300 || len(status) != 5 {
		t.Errorf("claims %v", c)
	}
	if level := ev["level"].(object); level["ek"] != "ek-cert" || level["anchor"] != "none" || level["tier"] != "tracepoint" {
		t.Errorf("level %v", level)
	}
	log := c["log"].(object)
	var leaf evidence.Hash
	w.must(leaf.UnmarshalText([]byte(strings.TrimPrefix(log["leaf"].(string), "sha-256:"))))
	v, err := audit.NewVerifier(w.log.VerifierKey())
	w.must(err)
	index, _, err := v.VerifyReceiptLeaf([]byte(a.str("receipt")), leaf)
	if err != nil || float64(index) != log["index"] {
		t.Errorf("receipt for %d, token says %v: %v", index, log["index"], err)
	}
	var kinds []string
	for _, e := range w.entries() {
		kinds = append(kinds, e["type"].(string)+" "+e["decision"].(string))
	}
	want := "policy created, policy created, key added, policy created, host invited, host enrolled, delegation requested, approval approval, decision evidence, decision allow"
	if got := strings.Join(kinds, ", "); got != want {
		t.Errorf("log: %s\nwant %s", got, want)
	}
	why := w.explain(a.str("txn"))
	if why["decision"] != "allow" || len(why["stations"].([]any)) != 0 || len(why["checks"].([]any)) < 20 || len(why["passed"].([]any)) != 5 || why["log_index"] != log["index"] {
		t.Errorf("explanation %v", why)
	}
	// The next token needs new evidence, and says what the broker knows by then.
	if _, _, have := w.challenge(w.hostID()); have != 2 {
		t.Errorf("the broker knows %d entries, want 2", have)
	}
	second := w.ok(w.token(d))
	if left := w.claims(second.str("access_token"))["delegation"].(object)["uses_left"]; left != 18.0 {
		t.Errorf("%v uses left", left)
	}
}
