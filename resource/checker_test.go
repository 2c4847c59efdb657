// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

func rule(t *testing.T, err error, want Rule) {
	t.Helper()
	var no *Refusal
	if !errors.As(err, &no) || no.Rule != want {
		t.Errorf("got %v, want rule %s", err, want)
	}
}

func unavailable(t *testing.T, err error) {
	t.Helper()
	var u *Unavailable
	if !errors.As(err, &u) {
		t.Errorf("got %v, want *Unavailable", err)
	}
}

func ready(t *testing.T) (*fakeBroker, *call) {
	b := newBroker(t)
	signer := newKey(t)
	b.keys = []jose.JSONWebKey{{Key: signer.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}
	return b, newCall(t, b, signer, newKey(t))
}

func TestReplayedProof(t *testing.T) {
	b, c := ready(t)
	k := newChecker(t, b, &c.now, nil)
	r := c.build()
	if _, err := k.Check(r); err != nil {
		t.Fatal(err)
	}
	_, err := k.Check(r)
	rule(t, err, RuleReplay)
	c.now = c.now.Add(proofAge - 2*time.Second)
	_, err = k.Check(r)
	rule(t, err, RuleReplay)
	c.now = c.now.Add(maxSkew)
	_, err = k.Check(r)
	rule(t, err, RuleProofTime)
}

func TestReplayForgetsNothingEarly(t *testing.T) {
	r := newReplay(4, 3)
	for i := range 3 {
		if got := r.add("a", fmt.Sprint(i), start); got != replayNew {
			t.Fatalf("proof %d: %v", i, got)
		}
	}
	if got := r.add("a", "3", start); got != replayFull {
		t.Errorf("a fourth proof by one key: %v", got)
	}
	if got := r.add("b", "0", start); got != replayNew {
		t.Errorf("another key: %v", got)
	}
	if got := r.add("c", "0", start); got != replayFull {
		t.Errorf("a fifth proof: %v", got)
	}
	// The last moment at which a proof dated maxSkew ahead is in its window.
	late := start.Add(proofAge + maxSkew)
	if got := r.add("a", "0", late); got != replaySeen {
		t.Errorf("at the end of its window: %v", got)
	}
	if got := r.add("a", "0", late.Add(2*time.Second)); got != replayNew {
		t.Errorf("after its window: %v", got)
	}
	if len(r.seen) != 1 || len(r.counts) != 1 || len(r.queue)-r.head != 1 {
		t.Errorf("remembers %d proofs, %d keys, %d in line, want 1 each", len(r.seen), len(r.counts), len(r.queue)-r.head)
	}
}

func TestReplayFullIsNotAccess(t *testing.T) {
	b, c := ready(t)
	k := newChecker(t, b, &c.now, nil)
	k.proofs = newReplay(0, 0)
	_, err := k.Check(c.build())
	unavailable(t, err)
}

func TestUnknownKeyAsksOnceAMinute(t *testing.T) {
	b, c := ready(t)
	k := newChecker(t, b, &c.now, nil)
	c.head["kid"] = "k9"
	for range 50 {
		_, err := k.Check(c.build())
		rule(t, err, RuleTokenKey)
	}
	if n := b.count("/oauth/jwks"); n != 1 {
		t.Errorf("keys fetched %d times, want once", n)
	}
	c.now = c.now.Add(refreshGap)
	b.set(func() { b.keys = append(b.keys, jose.JSONWebKey{Key: c.signer.Public(), KeyID: "k9"}) })
	if _, err := k.Check(c.build()); err == nil {
		t.Error("a proof of a minute ago was accepted")
	}
	c.proof["iat"] = c.now.Unix()
	if _, err := k.Check(c.build()); err != nil {
		t.Errorf("new key a minute later: %v", err)
	}
}

func TestKeysAge(t *testing.T) {
	b, c := ready(t)
	k := newChecker(t, b, &c.now, func(cfg *Config) { cfg.MaxEvidenceAge = 3 * time.Hour })
	c.claims["exp"] = start.Add(3 * time.Hour).Unix()
	check := func(jti string) error {
		c.proof["iat"], c.proof["jti"] = c.now.Unix(), jti
		_, err := k.Check(c.build())
		return err
	}
	if err := check("1"); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(keysFresh)
	b.set(func() { b.down = true })
	if err := check("2"); err != nil {
		t.Errorf("broker down, keys known: %v", err)
	}
	c.now = start.Add(keysLast)
	unavailable(t, check("3"))
	c.now = c.now.Add(retryGap)
	b.set(func() { b.down, b.keys = false, []jose.JSONWebKey{{Key: newKey(t).Public(), KeyID: "k2"}} })
	rule(t, check("4"), RuleTokenKey)
}

func TestBrokerAnswers(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a stranger was asked") }))
	defer evil.Close()
	for name, bend := range map[string]func(b *fakeBroker){
		"down":                    func(b *fakeBroker) { b.down = true },
		"another issuer":          func(b *fakeBroker) { b.meta["issuer"] = "https://other.example" },
		"keys elsewhere":          func(b *fakeBroker) { b.meta["jwks_uri"] = evil.URL + "/oauth/jwks" },
		"introspection elsewhere": func(b *fakeBroker) { b.meta["introspection_endpoint"] = evil.URL },
		"no keys":                 func(b *fakeBroker) { b.keys = nil },
		"two keys of one name":    func(b *fakeBroker) { b.keys = append(b.keys, b.keys[0]) },
		"too long":                func(b *fakeBroker) { b.meta["x"] = strings.Repeat("x", maxAnswer) },
	} {
		t.Run(name, func(t *testing.T) {
			b, c := ready(t)
			bend(b)
			k := newChecker(t, b, &c.now, nil)
			_, err := k.Check(c.build())
			unavailable(t, err)
			w := httptest.NewRecorder()
			k.Require("invoice.read", http.NotFoundHandler()).ServeHTTP(w, c.build())
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("answered %d", w.Code)
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		b, c := ready(t)
		front := httptest.NewServer(http.RedirectHandler(b.URL+"/.well-known/oauth-authorization-server", http.StatusFound))
		defer front.Close()
		k := newChecker(t, b, &c.now, func(cfg *Config) { cfg.Issuer = front.URL })
		_, err := k.Check(c.build())
		unavailable(t, err)
	})
}

func TestKeysOfOtherKindsAreNotUsed(t *testing.T) {
	b, c := ready(t)
	for name, bend := range map[string]func(k *jose.JSONWebKey){
		"for encryption": func(k *jose.JSONWebKey) { k.Use = "enc" },
		"private":        func(k *jose.JSONWebKey) { k.Key = c.signer },
		"without id":     func(k *jose.JSONWebKey) { k.KeyID = "" },
		"symmetric":      func(k *jose.JSONWebKey) { k.Key = []byte("0123456789abcdef0123456789abcdef") },
	} {
		t.Run(name, func(t *testing.T) {
			key := b.keys[0]
			bend(&key)
			raw, err := json.Marshal(key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := usable([]json.RawMessage{json.RawMessage(raw)})
			if err != nil || len(got) != 0 {
				t.Errorf("usable keys %v, %v", got, err)
			}
		})
	}
}

func TestIntrospection(t *testing.T) {
	with := func(secret string) func(*Config) {
		return func(c *Config) { c.IntrospectID, c.IntrospectSecret = "invoices", secret }
	}
	for name, row := range map[string]struct {
		answer map[string]any
		secret string
		want   func(*testing.T, error)
	}{
		"active": {map[string]any{"active": true, "jti": "t1"}, "s3cret+", func(t *testing.T, err error) {
			if err != nil {
				t.Error(err)
			}
		}},
		"revoked":       {map[string]any{"active": false}, "s3cret+", func(t *testing.T, err error) { rule(t, err, RuleRevoked) }},
		"empty answer":  {map[string]any{}, "s3cret+", func(t *testing.T, err error) { rule(t, err, RuleRevoked) }},
		"another token": {map[string]any{"active": true, "jti": "t2"}, "s3cret+", func(t *testing.T, err error) { rule(t, err, RuleRevoked) }},
		"expired":       {map[string]any{"active": true, "jti": "t1", "exp": 1}, "s3cret+", func(t *testing.T, err error) { rule(t, err, RuleRevoked) }},
		"wrong secret":  {map[string]any{"active": true, "jti": "t1"}, "wrong", unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b, c := ready(t)
			b.active = row.answer
			_, err := newChecker(t, b, &c.now, with(row.secret)).Check(c.build())
			row.want(t, err)
		})
	}
	t.Run("no endpoint", func(t *testing.T) {
		b, c := ready(t)
		delete(b.meta, "introspection_endpoint")
		_, err := newChecker(t, b, &c.now, with("s3cret+")).Check(c.build())
		unavailable(t, err)
	})
}

func TestRequire(t *testing.T) {
	b, c := ready(t)
	k := newChecker(t, b, &c.now, nil)
	var got Grant
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = FromContext(r.Context())
		if r.Header.Get("Authorization") != "" || r.Header.Get("DPoP") != "" {
			t.Error("the credential went on to the service")
		}
	})
	w := httptest.NewRecorder()
	k.Require("invoice.read", h).ServeHTTP(w, c.build())
	if w.Code != 200 || got.Delegation.ID != "dlg_1" {
		t.Fatalf("answered %d with grant %+v", w.Code, got)
	}
	for _, action := range []string{"invoice.write", "invoice", "invoice.read.all", ""} {
		c.proof["jti"] = "for " + action
		w = httptest.NewRecorder()
		k.Require(action, h).ServeHTTP(w, c.build())
		if w.Code != http.StatusForbidden || !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="insufficient_scope"`) {
			t.Errorf("action %q: answered %d, %q", action, w.Code, w.Header().Get("WWW-Authenticate"))
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, bend := range map[string]func(*Config){
		"no issuer":          func(c *Config) { c.Issuer = "" },
		"issuer over http":   func(c *Config) { c.Issuer = "http://broker.example" },
		"issuer with query":  func(c *Config) { c.Issuer = "https://broker.example?x" },
		"no audience":        func(c *Config) { c.Audience = "invoices" },
		"origin with a path": func(c *Config) { c.Origin = "https://x.example/api" },
		"half a secret":      func(c *Config) { c.IntrospectID = "x" },
		"negative age":       func(c *Config) { c.MaxEvidenceAge = -1 },
	} {
		c := Config{Issuer: "https://broker.example", Audience: audienceURL}
		if _, err := New(c); err != nil {
			t.Fatal(err)
		}
		bend(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestChallenge(t *testing.T) {
	r := badProof(RuleURL, "%q\n", `a"b\c`)
	want := `DPoP error="invalid_dpop_proof", error_description="htu: 'a''b''c'?", algs="ES256 EdDSA"`
	if got := r.Challenge(); got != want {
		t.Errorf("challenge %s, want %s", got, want)
	}
}

func ExampleChecker_Require() {
	checker, err := New(Config{Issuer: "https://broker.example", Audience: "https://invoices.example"})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /invoices", checker.Require("invoice.read", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := FromContext(r.Context())
		fmt.Fprintf(w, "for %s\n", grant.Actor.Subject)
	})))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/invoices", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output: 401 DPoP algs="ES256 EdDSA"
}
