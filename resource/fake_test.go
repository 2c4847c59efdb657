// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const audienceURL = "https://invoices.example/api"

var start = time.Unix(1795435200, 0)

// broker answers what a Checker asks of one, and counts how often.
type fakeBroker struct {
	*httptest.Server
	mu     sync.Mutex
	keys   []jose.JSONWebKey
	meta   map[string]any
	active map[string]any // introspection answer
	asked  map[string]int
	down   bool
}

func newBroker(t *testing.T) *fakeBroker {
	b := &fakeBroker{asked: map[string]int{}}
	mux := http.NewServeMux()
	serve := func(path string, what func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked[path]++
			if b.down {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if id, secret, _ := r.BasicAuth(); path == "/oauth/introspect" && (id != "invoices" || secret != "s3cret%2B") {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			json.NewEncoder(w).Encode(what())
		})
	}
	serve("/.well-known/oauth-authorization-server", func() any { return b.meta })
	serve("/oauth/jwks", func() any { return jose.JSONWebKeySet{Keys: b.keys} })
	serve("/oauth/introspect", func() any { return b.active })
	b.Server = httptest.NewServer(mux)
	t.Cleanup(b.Close)
	b.meta = map[string]any{"issuer": b.URL, "jwks_uri": b.URL + "/oauth/jwks", "introspection_endpoint": b.URL + "/oauth/introspect",
		"jurat_minimum_key_epoch": 3}
	return b
}

func (b *fakeBroker) count(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[path]
}

func (b *fakeBroker) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// call is one call to a protected service, before it is signed: a test bends
// one part of it.
type call struct {
	broker          *fakeBroker
	signer          crypto.Signer // of the token
	key             crypto.Signer // of the proof
	head, proofHead map[string]any
	claims, proof   map[string]any
	bindAth         bool // ath is computed from the final token
	request         func(r *http.Request)
	rewrite         func(token, proof string) (string, string)
	method, path    string
	now             time.Time
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCall(t *testing.T, b *fakeBroker, signer, key crypto.Signer) *call {
	jwk := jose.JSONWebKey{Key: key.Public()}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	c := &call{broker: b, signer: signer, key: key, now: start, method: "GET", path: "/api/invoices/7?all=1", bindAth: true}
	c.head = map[string]any{"typ": "at+jwt", "alg": "ES256", "kid": "k1"}
	c.claims = map[string]any{
		"iss": b.URL, "aud": audienceURL, "sub": "p_7Qm", "client_id": "spiffe://example/agents/invoice", "jti": "t1", "txn": "01JD", "ke": 3,
		"iat": start.Unix() - 10, "exp": start.Unix() + 290,
		"act": map[string]any{"iss": b.URL, "sub": "spiffe://example/agents/invoice", "instance": "b1c2:4711:99812:3", "host": "spiffe://example/host/h17"},
		"cnf": map[string]any{"jkt": base64.RawURLEncoding.EncodeToString(sum)},
		"authorization_details": []any{map[string]any{
			"type": taskType, "purpose": "Close October invoices", "actions": []any{"invoice.read"}, "locations": []any{audienceURL},
		}},
		"delegation": map[string]any{"id": "dlg_1", "d": "sha-256:00", "uses_left": 19, "exp": 1795440000},
		"evidence": map[string]any{
			"digest": "sha-256:00", "age": 2, "level": map[string]any{"ek": "ek-cert"},
			"status": map[string]any{"hardware": 2, "boot": 2, "code": 2, "provenance": 2, "context": 2},
		},
		"log": map[string]any{"origin": "jurat.dev/log/x", "index": 48213, "leaf": "sha-256:00"},
	}
	c.proofHead = map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
	if _, ed := key.(ed25519.PrivateKey); ed {
		c.proofHead["alg"] = "EdDSA"
	}
	c.proof = map[string]any{"jti": "p1", "htm": "GET", "htu": "https://invoices.example/api/invoices/7", "iat": start.Unix() - 1}
	return c
}

func (c *call) in(path string) map[string]any { return c.claims[path].(map[string]any) }

func (c *call) task() map[string]any {
	return c.claims["authorization_details"].([]any)[0].(map[string]any)
}

// sign makes a compact JWS by hand, so that a test can make a bad one.
func sign(head, payload any, key any) string {
	enc := func(v any) string {
		raw, ok := v.(json.RawMessage)
		if !ok {
			var err error
			if raw, err = json.Marshal(v); err != nil {
				panic(err)
			}
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := enc(head) + "." + enc(payload)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			panic(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(text))
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(text))
		sig = m.Sum(nil)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (c *call) build() *http.Request {
	token := sign(c.head, c.claims, c.signer)
	if c.bindAth {
		c.proof["ath"] = tokenHash(token)
	}
	proof := sign(c.proofHead, c.proof, c.key)
	if c.rewrite != nil {
		token, proof = c.rewrite(token, proof)
	}
	r := httptest.NewRequest(c.method, c.path, nil)
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", proof)
	if c.request != nil {
		c.request(r)
	}
	return r
}

func newChecker(t *testing.T, b *fakeBroker, now *time.Time, bend func(*Config)) *Checker {
	t.Helper()
	c := Config{Issuer: b.URL, Audience: audienceURL, Now: func() time.Time { return *now }}
	if bend != nil {
		bend(&c)
	}
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
