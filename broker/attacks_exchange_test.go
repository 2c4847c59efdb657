// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// parallel sends the same exchange n times at once, and counts the answers.
func (w *world) parallel(n int, form url.Values, proof string) (ok, replayed int) {
	w.t.Helper()
	var good, again atomic.Int64
	var all sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	begin := make(chan struct{})
	for range n {
		all.Go(func() {
			<-begin
			r, err := http.NewRequest(http.MethodPost, w.url+"/oauth/token", strings.NewReader(form.Encode()))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("DPoP", proof)
			resp, err := client.Do(r)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusOK:
				good.Add(1)
			case http.StatusBadRequest:
				again.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	return int(good.Load()), int(again.Load())
}

// TestReplayedExchange is attack 1: the same bytes again, and a hundred times
// at once: one token.
func TestReplayedExchange(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	nonce, a := w.evidence(w.wish(d))
	form, proof := w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})
	if ok, again := w.parallel(100, form, proof); ok != 1 || again != 99 {
		t.Errorf("%d tokens and %d refusals for the same bytes", ok, again)
	}
	w.refused(w.exchange(form, proof), 400, oauth.InvalidRequest, "evidence_unknown")
	if left := w.ok(w.get(w.url + "/v1/delegations/" + d["id"].(string))).body["uses_left"]; left != 19.0 {
		t.Errorf("%v uses left, want 19", left)
	}
	// A proof that was used is no good with other evidence either.
	nonce2, b := w.evidence(w.wish(d))
	once := w.proof(w.key, object{"nonce": nonce2, "jti": "same"})
	w.ok(w.exchange(w.form(d, ref(b, 0)), once))
	nonce3, c := w.evidence(w.wish(d))
	e := w.refused(w.exchange(w.form(d, ref(c, 0)), w.proof(w.key, object{"nonce": nonce3, "jti": "same"})), 400, oauth.InvalidProof, "")
	if got := e.failed(); len(got) != 1 || got[0] != "request/dpop-replay" {
		t.Errorf("failed %q", got)
	}
}

// TestLastUse is attack 39: many at once for the last use: one gets it.
func TestLastUse(t *testing.T) {
	w := ready(t)
	d := w.approved(object{"uses": 1})
	type try struct {
		form  url.Values
		proof string
	}
	var tries []try
	for range 32 {
		nonce, a := w.evidence(w.wish(d))
		tries = append(tries, try{w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})})
	}
	var good atomic.Int64
	var all sync.WaitGroup
	for _, x := range tries {
		all.Go(func() {
			ok, _ := w.parallel(1, x.form, x.proof)
			good.Add(int64(ok))
		})
	}
	all.Wait()
	if good.Load() != 1 {
		t.Errorf("%d tokens for one use", good.Load())
	}
	nonce, a := w.evidence(w.wish(d))
	e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "delegation_used_up")
	if e.str("retry") != oauth.RetryNewDelegation {
		t.Errorf("retry %q", e.str("retry"))
	}
}

// TestPerInstance: where a use is a process instance, its refreshes are free.
func TestPerInstance(t *testing.T) {
	w := ready(t)
	d := w.approved(object{"uses": 1, "per": delegation.PerInstance})
	w.ok(w.token(d))
	w.ok(w.token(d))
	w.subject = w.host.Measure(t, 4712, nil)
	nonce, a := w.evidence(w.wish(d))
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "delegation_used_up")
}

// TestEvidenceForAnother is attack 2: good evidence, but another key, audience,
// delegation or task in the exchange. Each spends the reference and is logged.
func TestEvidenceForAnother(t *testing.T) {
	w := ready(t)
	d, other := w.approved(nil), w.approved(object{"purpose": "Something else"})
	cases := []struct {
		name, code, reason, failed string
		change                     func(url.Values)
		key                        bool
	}{
		{"key", oauth.InvalidProof, "", "request/dpop-key", func(url.Values) {}, true},
		{"delegation", oauth.InvalidRequest, "delegation_mismatch", "request/delegation", func(v url.Values) { v.Set("subject_token", other["d"].(string)) }, false},
		{"audience", oauth.InvalidTarget, "", "request/audience", func(v url.Values) { v.Set("audience", "https://other.example") }, false},
		{"more actions", oauth.InvalidDetails, "", "request/task", func(v url.Values) {
			v.Set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["invoice.read","invoice.list"]}]`)
		}, false},
		{"other actions", oauth.InvalidDetails, "", "request/task", func(v url.Values) {
			v.Set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["invoice.list"]}]`)
		}, false},
		{"datatypes", oauth.InvalidDetails, "", "request/task", func(v url.Values) {
			v.Set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["invoice.read"],"datatypes":["iban"]}]`)
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			nonce, a := w.evidence(w.wish(d))
			form, key := w.form(d, ref(a, 0)), w.key
			c.change(form)
			if c.key {
				key = newKey(t)
			}
			e := w.refused(w.exchange(form, w.proof(key, object{"nonce": nonce})), 400, c.code, c.reason)
			if got := e.failed(); len(got) != 1 || got[0] != c.failed {
				t.Errorf("failed %q, want %s", got, c.failed)
			}
			if last := w.lastEntry(); last["txn"] != e.str("txn") || last["decision"] != "deny" || last["agent"] != workloadID || last["prev_txn"] != a.str("txn") {
				t.Errorf("log entry %v", last)
			}
			w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce, "jti": c.name})), 400, oauth.InvalidRequest, "evidence_unknown")
		})
	}
}

// TestNoActor is attacks 6 and 7 over HTTP: nothing but evidence for this very
// host makes a delegation worth anything, and no token is exchanged for another.
func TestNoActor(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	token := w.ok(w.token(d)).str("access_token")
	nonce, _, _ := w.challenge(w.hostID())
	cases := map[string]func(url.Values){
		"no actor_token":         func(v url.Values) { v.Del("actor_token") },
		"no actor at all":        func(v url.Values) { v.Del("actor_token"); v.Del("actor_token_type") },
		"empty actor_token":      func(v url.Values) { v.Set("actor_token", "") },
		"actor_token twice":      func(v url.Values) { v.Add("actor_token", "x") },
		"token as subject":       func(v url.Values) { v.Set("subject_token", token) },
		"token as subject, said": func(v url.Values) { v.Set("subject_token", token); v.Set("subject_token_type", oauth.TypeAccessToken) },
		"token as actor":         func(v url.Values) { v.Set("actor_token", token) },
		"token as actor, said":   func(v url.Values) { v.Set("actor_token", token); v.Set("actor_token_type", oauth.TypeAccessToken) },
		"delegation as actor":    func(v url.Values) { v.Set("actor_token", v.Get("subject_token")) },
		"another application's scope": func(v url.Values) { // ZITADEL's request
			v.Set("subject_token", token)
			v.Set("subject_token_type", oauth.TypeAccessToken)
			v.Del("actor_token")
			v.Del("actor_token_type")
			v.Set("scope", "urn:zitadel:iam:org:project:id:zitadel:aud")
		},
		"scope and id of the caller's choice": func(v url.Values) { // OpenCRVS's request
			v.Set("scope", "record.read")
			v.Set("record_id", "1")
		},
	}
	for name, change := range cases {
		form := w.form(d, "x")
		change(form)
		a := w.exchange(form, w.proof(w.key, object{"nonce": nonce}))
		if a.status != 400 || a.str("access_token") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
}

// TestNonce is attack 12: a proof without a live nonce of this host does not
// do, and does not cost the reference.
func TestNonce(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.enrol("h2")
	_, a := w.evidence(w.wish(d))
	foreign, _, _ := w.challenge(w.b.HostID("h2"))
	old, _, _ := w.challenge(w.hostID())
	w.clock.add(10 * time.Second)
	for name, claims := range map[string]object{"none": {}, "made up": {"nonce": "n"}, "another host's": {"nonce": foreign}, "changed": {"nonce": "A" + old[1:]}} {
		e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, claims)), 400, oauth.UseNonce, "")
		fresh := e.header.Get("DPoP-Nonce")
		if fresh == "" || e.header.Get("OAuth-Client-Attestation-Challenge") != fresh || e.str("retry") != "now" || e.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s, %v", name, e.raw, e.header)
		}
	}
	before := len(w.entries())
	e := w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{}))
	if len(w.entries()) != before {
		t.Error("asking for a nonce was logged")
	}
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": e.header.Get("DPoP-Nonce"), "iat": w.clock.now().Add(20 * time.Second).Unix()})), 400, oauth.InvalidProof, "")
	w.ok(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": e.header.Get("DPoP-Nonce")})))
}

// TestClocks is attack 22: the broker's clock alone decides.
func TestClocks(t *testing.T) {
	w := ready(t)
	d := w.approved(object{"expires_in": 7200})
	// The host's clock an hour off: no token, and the answer says why.
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		nonce, a := w.evidence(w.wish(d))
		e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce, "iat": w.clock.now().Add(off).Unix()})), 400, oauth.InvalidProof, "")
		if !strings.Contains(e.str("error_description"), "clock") {
			t.Errorf("%s", e.raw)
		}
	}
	// The broker's clock moves: challenge, reference, delegation follow it.
	_, nonce, have := w.challenge(w.hostID())
	bundle := w.host.Bundle(t, nonce, have, w.wish(d))
	w.clock.add(time.Hour)
	if e := w.refused(w.submit(bundle), 400, oauth.InvalidRequest, ""); e.str("code") != "E_NONCE_EXPIRED" || e.str("retry") != "now" {
		t.Errorf("late evidence: %s", e.raw)
	}
	_, nonce, have = w.challenge(w.hostID())
	bundle = w.host.Bundle(t, nonce, have, w.wish(d))
	w.clock.add(-time.Hour)
	if e := w.refused(w.submit(bundle), 400, oauth.InvalidRequest, ""); e.str("code") != "E_NONCE_EXPIRED" {
		t.Errorf("evidence from the future: %s", e.raw)
	}
	_, a := w.evidence(w.wish(d))
	w.clock.add(31 * time.Second)
	fresh, _, _ := w.challenge(w.hostID())
	e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": fresh})), 400, oauth.InvalidRequest, "evidence_stale")
	if w.lastEntry()["txn"] != e.str("txn") {
		t.Error("the refusal is not in the log")
	}
	nonce2, b := w.evidence(w.wish(d))
	w.ok(w.exchange(w.form(d, ref(b, 0)), w.proof(w.key, object{"nonce": nonce2})))
}

// TestForgedProofs is attacks 13 to 15 at the token endpoint; the whole corpus
// is in package oauth.
func TestForgedProofs(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	nonce, a := w.evidence(w.wish(d))
	var asked atomic.Int64
	listener := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer listener.Close()
	good := w.proof(w.key, object{"nonce": nonce})
	token := w.ok(w.token(d)).str("access_token")
	parts := strings.Split(good, ".")
	for name, proof := range map[string]string{
		"alg none":         "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6Im5vbmUifQ." + parts[1] + ".",
		"an access token":  token,
		"signature cut":    good[:len(good)-4],
		"other endpoint":   w.proof(w.key, object{"nonce": nonce, "htu": w.url + "/oauth/revoke"}),
		"other broker":     w.proof(w.key, object{"nonce": nonce, "htu": "https://other.example/oauth/token"}),
		"other method":     w.proof(w.key, object{"nonce": nonce, "htm": "GET"}),
		"jku to listener":  strings.Replace(good, parts[0], b64json(object{"typ": "dpop+jwt", "alg": "ES256", "jku": listener.URL}), 1),
		"x5u to listener":  strings.Replace(good, parts[0], b64json(object{"typ": "dpop+jwt", "alg": "ES256", "x5u": listener.URL}), 1),
		"payload replaced": parts[0] + "." + b64json(object{"jti": "x"}) + "." + parts[2],
	} {
		if e := w.exchange(w.form(d, ref(a, 0)), proof); e.status != 400 || e.body["error"] != oauth.InvalidProof {
			t.Errorf("%s: %d %s", name, e.status, e.raw)
		}
	}
	if e := w.exchange(w.form(d, ref(a, 0)), good, good); e.body["error"] != oauth.InvalidProof {
		t.Errorf("two proofs: %s", e.raw)
	}
	if asked.Load() != 0 {
		t.Errorf("%d requests went to a URL in a header", asked.Load())
	}
	// None of them cost the reference.
	w.ok(w.exchange(w.form(d, ref(a, 0)), good))
}

// TestBearer: no proof, no token; unless the registration says bearer: true,
// and then only for evidence that was made so.
func TestBearer(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, a := w.evidence(w.wish(d))
	e := w.refused(w.exchange(w.form(d, ref(a, 0))), 400, oauth.InvalidProof, "")
	if got := e.failed(); len(got) != 1 || got[0] != "request/dpop-proof" {
		t.Errorf("failed %q", got)
	}
	bearer := w.wish(d)
	bearer.Confirm = evidence.Confirm{Method: evidence.ConfirmBearer}
	_, a = w.evidence(bearer)
	e = w.refused(w.exchange(w.form(d, ref(a, 0))), 400, oauth.InvalidRequest, "")
	if got := e.failed(); len(got) != 1 || got[0] != "request/bearer" {
		t.Errorf("failed %q", got)
	}
	mtls := w.wish(d)
	mtls.Confirm.Method = evidence.ConfirmX5T
	_, a = w.evidence(mtls)
	w.refused(w.exchange(w.form(d, ref(a, 0))), 400, oauth.InvalidRequest, "")
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", w.yaml(workloadID, true, "/usr/bin/invoice-agent")))
	nonce, a := w.evidence(bearer)
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidProof, "")
	_, a = w.evidence(bearer)
	got := w.ok(w.exchange(w.form(d, ref(a, 0))))
	c := w.claims(got.str("access_token"))
	if got.str("token_type") != "Bearer" || got.body["expires_in"] != 60.0 || c["cnf"] != nil {
		t.Errorf("bearer token %s", got.raw)
	}
}
