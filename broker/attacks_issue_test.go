// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
)

// TestChangedRegistration: a reference value that is withdrawn between the
// evidence and the token counts.
func TestChangedRegistration(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	nonce, a := w.evidence(w.wish(d))
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", w.yaml(workloadID, false, "/usr/bin/other")))
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "evidence_stale")
	nonce, a = w.evidence(w.wish(d))
	e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "")
	if got := e.failed(); len(got) != 2 || got[0] != "code/exe-digest" || got[1] != "provenance/exe" {
		t.Errorf("failed %q", got)
	}
}

// TestLifetime: never longer than anybody allows.
func TestLifetime(t *testing.T) {
	w := ready(t)
	for name, c := range map[string]struct {
		change object
		want   float64
	}{
		"as it is":                 {nil, 300},
		"the delegation ends soon": {object{"expires_in": 42}, 42},
		"the human said less":      {object{"lifetime": 30}, 30},
	} {
		d := w.approved(c.change)
		a := w.ok(w.token(d))
		claims := w.claims(a.str("access_token"))
		if a.body["expires_in"] != c.want || claims["exp"].(float64)-claims["iat"].(float64) != c.want {
			t.Errorf("%s: %s", name, a.raw)
		}
		if end := claims["delegation"].(object)["exp"].(float64); claims["exp"].(float64) > end {
			t.Errorf("%s: the token outlives its delegation", name)
		}
	}
}

// TestPairwise: one human, two audiences, two names, the same each time.
func TestPairwise(t *testing.T) {
	w := ready(t)
	p := delegation.Person{Issuer: w.url, Subject: approver}
	one, again := w.b.pairwiseName(p, audience), w.b.pairwiseName(p, audience)
	if one != again || one == w.b.pairwiseName(p, "https://other.example") {
		t.Error("names are not pairwise")
	}
	q := delegation.Person{Issuer: w.url, Subject: "bob@example.test"}
	if w.b.pairwiseName(p, audience) == w.b.pairwiseName(q, audience) {
		t.Error("two humans, one name")
	}
}

// TestUnwritableLog: when the log cannot be written there is no credential and
// no refusal either, only 503.
func TestUnwritableLog(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	nonce, a := w.evidence(w.wish(d))
	w.must(w.store.Close())
	e := w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce}))
	if e.status != http.StatusServiceUnavailable || e.str("error") != oauth.Unavailable || e.header.Get("Retry-After") == "" || e.str("access_token") != "" {
		t.Errorf("%d %s", e.status, e.raw)
	}
	if e := w.get(w.url + "/readyz"); e.status != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d", e.status)
	}
	if e := w.get(w.url + "/healthz"); e.status != http.StatusOK {
		t.Errorf("healthz: %d", e.status)
	}
}

// TestRollback: if anything in the transaction fails, nothing of it stays:
// here the token record is there already.
func TestRollback(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, a := w.evidence(w.wish(d))
	x := &exchange{now: w.clock.now(), asked: &oauth.Exchange{D: hashOf(t, d), Ref: ref(a, 0), Audience: audience, Task: oauth.Task{Actions: []string{"invoice.read"}}}}
	x.proof = &oauth.Proof{Thumbprint: [32]byte(thumbprint(t, w.key)), ID: "j", URL: w.url}
	nonce, _, _ := w.challenge(w.hostID())
	x.proof.Nonce = nonce
	if fault := w.b.prepare(context.Background(), x); fault != nil {
		t.Fatal(fault)
	}
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.AddToken(store.Token{JTI: secretDigest(x.jti), Txn: "T", Delegation: d["id"].(string), Workload: workloadID, Host: w.hostID(), Audience: audience, Issued: x.now, Expires: x.now})
	}))
	before := len(w.entries())
	if fault := w.b.decide(context.Background(), x); fault == nil || fault.Status != http.StatusServiceUnavailable {
		t.Fatalf("decided: %v", fault)
	}
	if left := w.ok(w.get(w.url + "/v1/delegations/" + d["id"].(string))).body["uses_left"]; left != 20.0 || len(w.entries()) != before {
		t.Errorf("%v uses left, %d new entries", left, len(w.entries())-before)
	}
	w.ok(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})))
}

func b64json(v object) string {
	parts := []string{}
	for k, x := range v {
		parts = append(parts, fmt.Sprintf("%q:%q", k, x))
	}
	return base64.RawURLEncoding.EncodeToString([]byte("{" + strings.Join(parts, ",") + "}"))
}
