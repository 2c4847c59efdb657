// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestAccepted(t *testing.T) {
	b := newBroker(t)
	signer := newKey(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.keys = []jose.JSONWebKey{{Key: signer.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}, {Key: ed.Public(), KeyID: "k2"}}
	bend := map[string]func(c *call){
		"plain":             func(c *call) {},
		"audience list":     func(c *call) { c.claims["aud"] = []string{audienceURL} },
		"expired 4 s ago":   func(c *call) { c.claims["exp"] = start.Unix() - 4 },
		"lower case scheme": func(c *call) { c.request = func(r *http.Request) { lower(r) } },
		"htu normal form":   func(c *call) { c.proof["htu"] = "HTTPS://Invoices.example:443/%61pi/invoices/7?x=1#y" },
		"ed25519 issuer":    func(c *call) { c.signer, c.head["alg"], c.head["kid"] = ed, "EdDSA", "k2" },
		"jku is not looked at": func(c *call) {
			c.head["jku"] = "http://127.0.0.1:1/evil"
		},
	}
	for name, f := range bend {
		t.Run(name, func(t *testing.T) {
			c := newCall(t, b, signer, newKey(t))
			f(c)
			g, err := newChecker(t, b, &c.now, nil).Check(c.build())
			if err != nil {
				t.Fatal(err)
			}
			if g.Actor.Subject != "spiffe://example/agents/invoice" || g.Txn != "01JD" || g.Log.Index != 48213 || g.Evidence != 12*time.Second {
				t.Errorf("grant %+v", g)
			}
			if err := g.Covers("invoice.read"); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("ed25519 workload", func(t *testing.T) {
		c := newCall(t, b, signer, ed)
		if _, err := newChecker(t, b, &c.now, nil).Check(c.build()); err != nil {
			t.Fatal(err)
		}
	})
}

func lower(r *http.Request) {
	r.Header.Set("Authorization", "dpop"+strings.TrimPrefix(r.Header.Get("Authorization"), "DPoP"))
}

// refusals is one fault per row: everything else about the call is right.
var refusals = []struct {
	name   string
	rule   Rule
	status int
	bend   func(t *testing.T, c *call)
}{
	{"token too long", RuleSize, 400, func(t *testing.T, c *call) { c.claims["pad"] = strings.Repeat("x", maxAuthorization) }},
	{"proof too long", RuleSize, 400, func(t *testing.T, c *call) { c.proof["pad"] = strings.Repeat("x", maxProof) }},
	{"no token", RuleAuthorization, 401, header1(func(h http.Header) { h.Del("Authorization") })},
	{"two tokens", RuleAuthorization, 400, header1(func(h http.Header) { h.Add("Authorization", h.Get("Authorization")) })},
	{"bearer", RuleAuthorization, 401, header1(func(h http.Header) {
		h.Set("Authorization", "Bearer "+strings.TrimPrefix(h.Get("Authorization"), "DPoP "))
		h.Del("DPoP")
	})},
	{"no proof", RuleProofHeader, 401, header1(func(h http.Header) { h.Del("DPoP") })},
	{"two proofs", RuleProofHeader, 401, header1(func(h http.Header) { h.Add("DPoP", h.Get("DPoP")) })},
	{"token of four parts", RuleTokenForm, 401, header1(func(h http.Header) { h.Set("Authorization", h.Get("Authorization")+".AA") })},
	{"two spaces", RuleTokenForm, 401, header1(func(h http.Header) { h.Set("Authorization", "DPoP  "+h.Get("Authorization")[5:]) })},
	{"padding", RuleTokenForm, 401, header1(func(h http.Header) { h.Set("Authorization", h.Get("Authorization")+"==") })},
	{"critical header", RuleTokenForm, 401, func(t *testing.T, c *call) { c.head["crit"] = []string{"b64"}; c.head["b64"] = true }},
	{"typ missing", RuleTokenType, 401, func(t *testing.T, c *call) { delete(c.head, "typ") }},
	{"typ JWT", RuleTokenType, 401, func(t *testing.T, c *call) { c.head["typ"] = "JWT" }},
	{"a proof as token", RuleTokenType, 401, func(t *testing.T, c *call) { c.head["typ"] = "dpop+jwt" }},
	{"kid missing", RuleTokenKey, 401, func(t *testing.T, c *call) { delete(c.head, "kid") }},
	{"kid unknown", RuleTokenKey, 401, func(t *testing.T, c *call) { c.head["kid"] = "k9" }},
	{"kid is a path", RuleTokenKey, 401, func(t *testing.T, c *call) { c.head["kid"] = "../../../../dev/null" }},
	{"kid is SQL", RuleTokenKey, 401, func(t *testing.T, c *call) { c.head["kid"] = "x' UNION SELECT 'k1" }},
	{"alg none", RuleTokenAlgorithm, 401, func(t *testing.T, c *call) {
		c.head["alg"] = "none"
		c.rewrite = func(token, proof string) (string, string) {
			return token[:strings.LastIndexByte(token, '.')] + ".AA", proof
		}
	}},
	{"alg none without signature", RuleTokenForm, 401, func(t *testing.T, c *call) {
		c.head["alg"] = "none"
		c.rewrite = func(token, proof string) (string, string) { return token[:strings.LastIndexByte(token, '.')+1], proof }
	}},
	{"HS256 with the public key", RuleTokenAlgorithm, 401, func(t *testing.T, c *call) {
		der, err := x509.MarshalPKIXPublicKey(c.signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		c.head["alg"] = "HS256"
		resign(c, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}},
	{"EdDSA under an ES256 key", RuleTokenAlgorithm, 401, func(t *testing.T, c *call) { c.head["alg"] = "EdDSA" }},
	{"record says another alg", RuleTokenKey, 401, func(t *testing.T, c *call) { c.broker.keys[0].Algorithm = "ES384" }},
	{"signed by a stranger", RuleTokenSignature, 401, func(t *testing.T, c *call) { c.signer = newKey(t) }},
	{"jwk of a stranger in the header", RuleTokenSignature, 401, func(t *testing.T, c *call) {
		k := newKey(t)
		c.signer, c.head["jwk"] = k, jose.JSONWebKey{Key: k.Public(), KeyID: "k1"}
	}},
	{"claims altered", RuleTokenSignature, 401, func(t *testing.T, c *call) {
		c.rewrite = func(token, proof string) (string, string) {
			p := strings.Split(token, ".")
			p[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"p_other"}`))
			token = strings.Join(p, ".")
			c.proof["ath"] = tokenHash(token)
			return token, sign(c.proofHead, c.proof, c.key)
		}
	}},
	{"duplicate claim", RuleTokenForm, 401, func(t *testing.T, c *call) { twice(c, `"aud":"https://other.example",`) }},
	{"claims are no object", RuleTokenForm, 401, func(t *testing.T, c *call) { resignWith(c, json.RawMessage(`[1]`)) }},
	{"issuer", RuleIssuer, 401, func(t *testing.T, c *call) { c.claims["iss"] = "https://other.example" }},
	{"audience", RuleAudience, 401, func(t *testing.T, c *call) { c.claims["aud"] = "https://payments.example" }},
	{"audience is a prefix", RuleAudience, 401, func(t *testing.T, c *call) { c.claims["aud"] = audienceURL + "/x" }},
	{"two audiences", RuleTokenForm, 401, func(t *testing.T, c *call) { c.claims["aud"] = []string{audienceURL, "https://payments.example"} }},
	{"expired", RuleExpiry, 401, func(t *testing.T, c *call) { c.claims["exp"] = start.Unix() - 6 }},
	{"no expiry", RuleExpiry, 401, func(t *testing.T, c *call) { delete(c.claims, "exp") }},
	{"issued in the future", RuleNotYet, 401, func(t *testing.T, c *call) { c.claims["iat"] = start.Unix() + 6 }},
	{"not yet", RuleNotYet, 401, func(t *testing.T, c *call) { c.claims["nbf"] = start.Unix() + 6 }},
	{"key epoch below the minimum", RuleKeyEpoch, 401, func(t *testing.T, c *call) { c.claims["ke"] = 2 }},
	{"no key epoch", RuleKeyEpoch, 401, func(t *testing.T, c *call) { delete(c.claims, "ke") }},
	{"bearer token as DPoP", RuleBinding, 401, func(t *testing.T, c *call) { delete(c.claims, "cnf") }},
	{"proof of two parts", RuleProofForm, 401, header1(func(h http.Header) { h.Set("DPoP", "e30.e30") })},
	{"proof critical", RuleProofForm, 401, func(t *testing.T, c *call) { c.proofHead["crit"] = []string{"exp"} }},
	{"proof typ", RuleProofType, 401, func(t *testing.T, c *call) { c.proofHead["typ"] = "JWT" }},
	{"proof alg none", RuleProofAlgorithm, 401, func(t *testing.T, c *call) { c.proofHead["alg"] = "none" }},
	{"proof alg HS256", RuleProofAlgorithm, 401, func(t *testing.T, c *call) { c.proofHead["alg"] = "HS256" }},
	{"proof alg and key differ", RuleProofAlgorithm, 401, func(t *testing.T, c *call) { c.proofHead["alg"] = "EdDSA" }},
	{"proof key of P-384", RuleProofAlgorithm, 401, func(t *testing.T, c *call) {
		k, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		c.proofHead["jwk"] = jose.JSONWebKey{Key: k.Public()}
	}},
	{"proof without key", RuleProofKey, 401, func(t *testing.T, c *call) { delete(c.proofHead, "jwk") }},
	{"proof with the private key", RuleProofKey, 401, func(t *testing.T, c *call) { c.proofHead["jwk"] = jose.JSONWebKey{Key: c.key} }},
	{"proof with a secret key", RuleProofKey, 401, func(t *testing.T, c *call) {
		c.proofHead["jwk"] = map[string]any{"kty": "oct", "k": "AAAA"}
	}},
	{"proof signed by another key", RuleProofSignature, 401, func(t *testing.T, c *call) { c.key = newKey(t) }},
	{"token without its key", RuleThumbprint, 401, func(t *testing.T, c *call) {
		k := newKey(t)
		c.key, c.proofHead["jwk"] = k, jose.JSONWebKey{Key: k.Public()}
	}},
	{"duplicate proof claim", RuleProofForm, 401, func(t *testing.T, c *call) {
		c.rewrite = func(token, proof string) (string, string) {
			return token, sign(c.proofHead, json.RawMessage(`{"htm":"GET","htm":"POST"}`), c.key)
		}
	}},
	{"htm", RuleMethod, 401, func(t *testing.T, c *call) { c.proof["htm"] = "POST" }},
	{"htm lower case", RuleMethod, 401, func(t *testing.T, c *call) { c.proof["htm"] = "get" }},
	{"htu path", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "https://invoices.example/api/invoices/8" }},
	{"htu host", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "https://evil.example/api/invoices/7" }},
	{"htu scheme", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "http://invoices.example/api/invoices/7" }},
	{"htu port", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "https://invoices.example:8443/api/invoices/7" }},
	{"htu user", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "https://a@invoices.example/api/invoices/7" }},
	{"htu escaped slash", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "https://invoices.example/api/invoices%2f7" }},
	{"htu relative", RuleURL, 401, func(t *testing.T, c *call) { c.proof["htu"] = "/api/invoices/7" }},
	{"Host header does not choose", RuleURL, 401, func(t *testing.T, c *call) {
		c.proof["htu"] = "https://evil.example/api/invoices/7"
		c.request = func(r *http.Request) { r.Host = "evil.example" }
	}},
	{"iat old", RuleProofTime, 401, func(t *testing.T, c *call) { c.proof["iat"] = start.Unix() - 61 }},
	{"iat future", RuleProofTime, 401, func(t *testing.T, c *call) { c.proof["iat"] = start.Unix() + 6 }},
	{"iat missing", RuleProofTime, 401, func(t *testing.T, c *call) { delete(c.proof, "iat") }},
	{"ath of another token", RuleTokenHash, 401, func(t *testing.T, c *call) { c.bindAth, c.proof["ath"] = false, tokenHash("x") }},
	{"ath missing", RuleTokenHash, 401, func(t *testing.T, c *call) { c.bindAth = false }},
	{"jti missing", RuleReplay, 401, func(t *testing.T, c *call) { delete(c.proof, "jti") }},
	{"jti long", RuleReplay, 401, func(t *testing.T, c *call) { c.proof["jti"] = strings.Repeat("x", maxProofID+1) }},
	{"no actor", RuleActor, 401, func(t *testing.T, c *call) { delete(c.claims, "act") }},
	{"no human", RuleActor, 401, func(t *testing.T, c *call) { c.claims["sub"] = "" }},
	{"client is not the actor", RuleActor, 401, func(t *testing.T, c *call) { c.claims["client_id"] = "spiffe://example/agents/other" }},
	{"an attestor warns", RuleStatus, 401, func(t *testing.T, c *call) { c.in("evidence")["status"].(map[string]any)["boot"] = 32 }},
	{"an attestor is silent", RuleStatus, 401, func(t *testing.T, c *call) { delete(c.in("evidence")["status"].(map[string]any), "code") }},
	{"a sixth attestor says no", RuleStatus, 401, func(t *testing.T, c *call) { c.in("evidence")["status"].(map[string]any)["x"] = 96 }},
	{"no evidence", RuleStatus, 401, func(t *testing.T, c *call) { delete(c.claims, "evidence") }},
	{"evidence old", RuleAge, 401, func(t *testing.T, c *call) { c.in("evidence")["age"] = 351 }},
	{"evidence of no age", RuleAge, 401, func(t *testing.T, c *call) { delete(c.in("evidence"), "age") }},
	{"evidence of the future", RuleAge, 401, func(t *testing.T, c *call) { c.in("evidence")["age"] = -1 }},
	{"evidence age overflows", RuleAge, 401, func(t *testing.T, c *call) { c.in("evidence")["age"] = int64(1) << 62 }},
	{"token of the year dot", RuleAge, 401, func(t *testing.T, c *call) { c.claims["iat"] = int64(-1) << 60 }},
	{"no task", RuleTask, 401, func(t *testing.T, c *call) { delete(c.claims, "authorization_details") }},
	{"two tasks", RuleTask, 401, func(t *testing.T, c *call) { c.claims["authorization_details"] = []any{c.task(), c.task()} }},
	{"task type", RuleTask, 401, func(t *testing.T, c *call) { c.task()["type"] = "payment" }},
	{"task elsewhere", RuleTask, 401, func(t *testing.T, c *call) { c.task()["locations"] = []any{"https://payments.example"} }},
	{"task of no action", RuleTask, 401, func(t *testing.T, c *call) { c.task()["actions"] = []any{} }},
}

func header1(f func(h http.Header)) func(*testing.T, *call) {
	return func(_ *testing.T, c *call) { c.request = func(r *http.Request) { f(r.Header) } }
}

func resign(c *call, key any) {
	c.rewrite = func(string, string) (string, string) {
		token := sign(c.head, c.claims, key)
		c.proof["ath"] = tokenHash(token)
		return token, sign(c.proofHead, c.proof, c.key)
	}
}

func resignWith(c *call, payload json.RawMessage) {
	c.rewrite = func(string, string) (string, string) {
		token := sign(c.head, payload, c.signer)
		c.proof["ath"] = tokenHash(token)
		return token, sign(c.proofHead, c.proof, c.key)
	}
}

func twice(c *call, member string) {
	raw, _ := json.Marshal(c.claims)
	resignWith(c, json.RawMessage("{"+member+string(raw[1:])))
}

func TestRefused(t *testing.T) {
	covered := map[Rule]bool{RuleAction: true, RuleRevoked: true} // tested on their own
	for _, row := range refusals {
		t.Run(row.name, func(t *testing.T) {
			b := newBroker(t)
			signer := newKey(t)
			b.keys = []jose.JSONWebKey{{Key: signer.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}
			c := newCall(t, b, signer, newKey(t))
			row.bend(t, c)
			k := newChecker(t, b, &c.now, nil)
			reached := false
			w := httptest.NewRecorder()
			k.Require("invoice.read", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })).ServeHTTP(w, c.build())
			if reached {
				t.Fatal("the call reached the service")
			}
			_, err := newChecker(t, b, &c.now, nil).Check(c.build())
			var no *Refusal
			if !errors.As(err, &no) || no.Rule != row.rule {
				t.Fatalf("got %v, want rule %s", err, row.rule)
			}
			if proofs := strings.HasPrefix(string(row.rule), "proof-") || strings.Contains(" htm htu iat ath jti ", " "+string(row.rule)+" "); proofs != (no.Code == codeProof) {
				t.Errorf("error code %q", no.Code)
			}
			if no.Status != row.status || w.Code != row.status {
				t.Errorf("status %d, answered %d, want %d", no.Status, w.Code, row.status)
			}
			if got := w.Header().Get("WWW-Authenticate"); got != no.Challenge() || !strings.HasPrefix(got, "DPoP ") {
				t.Errorf("challenge %q", got)
			}
		})
		covered[row.rule] = true
	}
	for _, r := range []Rule{
		RuleSize, RuleAuthorization, RuleProofHeader, RuleTokenForm, RuleTokenType, RuleTokenKey, RuleTokenAlgorithm, RuleTokenSignature,
		RuleIssuer, RuleAudience, RuleExpiry, RuleNotYet, RuleKeyEpoch, RuleBinding, RuleProofForm, RuleProofType, RuleProofAlgorithm, RuleProofKey,
		RuleProofSignature, RuleThumbprint, RuleMethod, RuleURL, RuleProofTime, RuleTokenHash, RuleReplay, RuleActor, RuleStatus, RuleAge,
		RuleTask, RuleRevoked, RuleAction,
	} {
		if !covered[r] {
			t.Errorf("no test for rule %s", r)
		}
	}
}

func TestHeaderDuplicate(t *testing.T) {
	b := newBroker(t)
	signer := newKey(t)
	b.keys = []jose.JSONWebKey{{Key: signer.Public(), KeyID: "k1"}}
	c := newCall(t, b, signer, newKey(t))
	c.rewrite = func(string, string) (string, string) {
		token := sign(json.RawMessage(`{"typ":"JWT","typ":"at+jwt","alg":"ES256","kid":"k1"}`), c.claims, c.signer)
		return token, sign(c.proofHead, c.proof, c.key)
	}
	var no *Refusal
	if _, err := newChecker(t, b, &c.now, nil).Check(c.build()); !errors.As(err, &no) || no.Rule != RuleTokenForm {
		t.Errorf("got %v, want rule %s", err, RuleTokenForm)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("DPoP a.b.c", "a.b.c")
	e := base64.RawURLEncoding.EncodeToString
	f.Add("DPoP "+e([]byte(`{"typ":"at+jwt","alg":"ES256","kid":"k1"}`))+".e30.AA", e([]byte(`{"typ":"dpop+jwt","jwk":{}}`))+".e30.AA")
	f.Fuzz(func(t *testing.T, auth, proof string) {
		k := &Checker{now: func() time.Time { return start }, proofs: newReplay(8, 8)}
		k.keys = &keyring{issuer: "x", fetched: start, next: start.Add(time.Hour), keys: map[string]jose.JSONWebKey{"k1": {}}}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"], r.Header["Dpop"] = []string{auth}, []string{proof}
		if _, err := k.Check(r); err == nil {
			t.Fatal("accepted")
		}
		if _, err := verifyProof(proof, "x"); err == nil {
			t.Fatal("accepted")
		}
	})
}
