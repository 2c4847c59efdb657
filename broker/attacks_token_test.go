// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
)

func (w *world) inactive(a answer) {
	w.t.Helper()
	if a.status != http.StatusOK || strings.TrimSpace(string(a.raw)) != `{"active":false}` {
		w.t.Errorf("%d %s, want only that it is not active", a.status, a.raw)
	}
}

// TestIntrospection: a good token is answered with all its claims, act, cnf
// and authorization_details among them (keycloak#53029).
func TestIntrospection(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	d := w.approved(object{"uses": 1})
	token := w.ok(w.token(d)).str("access_token")
	a := w.ok(w.introspect(secret, token))
	want := w.claims(token)
	if a.body["active"] != true || a.body["token_type"] != "DPoP" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s", a.raw)
	}
	for name, value := range want {
		if fmt.Sprint(a.body[name]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, in the token %v", name, a.body[name], value)
		}
	}
	for _, name := range []string{"act", "cnf", "authorization_details", "delegation", "evidence"} {
		if a.body[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// TestWrongAudience is attack 9: a token is for one system, and no other
// system hears anything about it.
func TestWrongAudience(t *testing.T) {
	w := ready(t)
	token := w.ok(w.token(w.approved(nil))).str("access_token")
	if aud, one := w.claims(token)["aud"].(string); !one || aud != audience {
		t.Errorf("aud %v", w.claims(token)["aud"])
	}
	other := w.ok(w.post(w.operator+"/v1/resources", object{"name": "other", "audience": "https://other.example"})).str("secret")
	w.inactive(w.send(http.MethodPost, w.url+"/oauth/introspect", "application/x-www-form-urlencoded", "token="+token,
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("other:"+other))))
}

// TestIntrospectionOracle is attack 18: without the right secret nothing, and
// one answer for everything that is not good.
func TestIntrospectionOracle(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	d := w.approved(nil)
	token := w.ok(w.token(d)).str("access_token")
	for name, header := range map[string]string{
		"none": "", "wrong secret": "payments:x", "empty secret": "payments:", "unknown": "x:" + secret, "SQL": "' or 1=1 --:" + secret,
		"resource without a secret": "registered:",
	} {
		var headers []string
		if header != "" {
			headers = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(header))}
		}
		a := w.send(http.MethodPost, w.url+"/oauth/introspect", "application/x-www-form-urlencoded", "token="+token, headers...)
		if a.status != 401 || a.str("error") != oauth.InvalidClient || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	parts := strings.Split(token, ".")
	for name, text := range map[string]string{
		"garbage": "x", "dots": "..", "signature cut": token[:len(token)-2], "claims changed": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"`+audience+`"}`)) + "." + parts[2],
		"alg none": "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJub25lIn0." + parts[1] + ".", "long": strings.Repeat("a", 9000),
		"a DPoP proof": w.proof(w.key, object{}),
	} {
		t.Run(name, func(t *testing.T) { w.inactive(w.introspect(secret, text)) })
	}
	// Signed with the right key, but never logged (attack 27).
	forged, err := w.b.signer.Sign(&oauth.Claims{Issuer: w.url, Audience: audience, ID: "made up", IssuedAt: w.clock.now().Unix(), Expires: w.clock.now().Add(time.Minute).Unix(), KeyEpoch: oauth.KeyEpoch})
	w.must(err)
	w.inactive(w.introspect(secret, forged))
	w.clock.add(299 * time.Second)
	w.ok(w.introspect(secret, token))
	w.clock.add(time.Second)
	w.inactive(w.introspect(secret, token))
	for _, body := range []string{"", "token=", "token=a&token=b"} {
		a := w.send(http.MethodPost, w.url+"/oauth/introspect", "application/x-www-form-urlencoded", body, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("payments:"+secret)))
		if a.status != 400 {
			t.Errorf("%q: %d", body, a.status)
		}
	}
	// A new secret makes the old one void.
	w.resourceSecret()
	if a := w.introspect(secret, token); a.status != 401 {
		t.Errorf("the old secret: %d", a.status)
	}
}

// TestWhatEndsAToken: its own key, the human, the operator.
func TestWhatEndsAToken(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	d := w.approved(nil)
	issue := func() string { return w.ok(w.token(d)).str("access_token") }
	revoke := func(token string, proofs ...string) answer {
		var header []string
		for _, p := range proofs {
			header = append(header, "DPoP", p)
		}
		return w.send(http.MethodPost, w.url+"/oauth/revoke", "application/x-www-form-urlencoded", url.Values{"token": {token}}.Encode(), header...)
	}
	at := func(claims object) object { claims["htu"] = w.url + "/oauth/revoke"; return claims }
	// Attack 10: whoever has the token, but not its key, can do nothing with it.
	token := issue()
	for name, proofs := range map[string][]string{
		"no proof": nil, "another key": {w.proof(newKey(t), at(object{}))}, "for the token endpoint": {w.proof(w.key, object{})},
		"for another token": {w.proof(w.key, at(object{"ath": oauth.TokenHash("x")}))},
	} {
		if a := revoke(token, proofs...); a.status != 400 || a.str("error") != oauth.InvalidProof {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if w.introspect(secret, token).body["active"] != true {
		t.Fatal("ended by somebody who may not")
	}
	proof := w.proof(w.key, at(object{"ath": oauth.TokenHash(token)}))
	w.ok(revoke(token, proof))
	w.inactive(w.introspect(secret, token))
	if e := w.lastEntry(); e["type"] != "revocation" || e["decision"] != "token" || e["agent"] != workloadID {
		t.Errorf("log entry %v", e)
	}
	if a := revoke(token, proof); a.status != 400 {
		t.Errorf("the same proof again: %d", a.status)
	}
	w.ok(revoke(token, w.proof(w.key, at(object{"jti": "2"})))) // RFC 7009: gone is gone
	w.ok(revoke("unknown"))
	if a := revoke(""); a.status != 400 {
		t.Errorf("no token: %d", a.status)
	}
	token = issue()
	w.ok(w.say(d, delegation.Revocation, w.alice))
	w.inactive(w.introspect(secret, token))
	d = w.approved(nil)
	token = issue()
	w.tamper(`UPDATE delegation SET state = 'expired' WHERE id = ?`, d["id"])
	w.inactive(w.introspect(secret, token))
	d = w.approved(nil)
	token = issue()
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	w.inactive(w.introspect(secret, token))
}

// TestRestart: keys, log, uses and references survive; what was issued before
// is known after.
func TestRestart(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	d := w.approved(object{"uses": 2})
	token := w.ok(w.token(d)).str("access_token")
	nonce, a := w.evidence(w.wish(d))
	w.must(w.store.Close())
	w.open()
	if w.introspect(secret, token).body["active"] != true {
		t.Error("a token of before the restart is unknown")
	}
	w.ok(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})))
	w.refused(w.tryToken(d), 400, oauth.InvalidRequest, "delegation_used_up")
}

// TestNoSecretIsLogged is attack 49: after everything that can happen, no
// token, reference, challenge, secret or key is in the program's log or in the
// audit log.
func TestNoSecretIsLogged(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	d := w.approved(nil)
	token := w.ok(w.token(d)).str("access_token")
	w.introspect(secret, token)
	w.introspect("wrong", token)
	nonce, a := w.evidence(w.wish(d))
	w.exchange(w.form(d, ref(a, 0)), w.proof(newKey(t), object{"nonce": nonce}))
	w.exchange(w.form(d, token), w.proof(w.key, object{"nonce": nonce}))
	w.submit([]byte("x"))
	w.must(w.b.Sweep(t.Context()))
	w.must(w.store.Close())
	w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce}))
	w.open()
	for _, name := range []string{keys.TokenFile, keys.LogFile, keys.ChallengeFile, keys.PairwiseFile} {
		raw, err := os.ReadFile(filepath.Join(w.data, name))
		w.must(err)
		w.secrets = append(w.secrets, strings.Split(string(raw), "\n")[1])
	}
	logged := w.logs.String()
	if !strings.Contains(logged, "issued") || !strings.Contains(logged, "refused") {
		t.Fatalf("the log says too little for this test: %s", logged)
	}
	database := databaseBytes(t, w.data)
	for _, s := range w.secrets {
		if len(s) < 16 {
			t.Fatalf("%q is no secret to look for", s)
		}
		if strings.Contains(logged, s) {
			t.Errorf("%q is in the program's log", s)
		}
		if bytes.Contains(database, []byte(s)) {
			t.Errorf("%q is in the store", s)
		}
	}
	if strings.Contains(logged, "eyJ") {
		t.Error("something that looks like a JWT is in the program's log")
	}
}

// databaseBytes returns the store's files as they are.
func databaseBytes(t *testing.T, dir string) []byte {
	t.Helper()
	var out []byte
	files, err := filepath.Glob(filepath.Join(dir, "broker.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw...)
	}
	return out
}
