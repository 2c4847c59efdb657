// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const target = "https://broker.example/oauth/token"

var now = time.Unix(1795435200, 0)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(t testing.TB, v any) string {
	t.Helper()
	if raw, ok := v.(string); ok {
		return b64([]byte(raw))
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b64(out)
}

// ecJWK is the public key as a JWK, written without go-jose.
func ecJWK(t testing.TB, key *ecdsa.PublicKey, crv string) map[string]any {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	return map[string]any{"kty": "EC", "crv": crv, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
}

// jws signs as JOSE says, without go-jose: a second opinion.
func jws(t testing.TB, header, claims any, sign func(input []byte) []byte) string {
	t.Helper()
	input := encode(t, header) + "." + encode(t, claims)
	return input + "." + b64(sign([]byte(input)))
}

func es256(t testing.TB, key *ecdsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		sum := sha256.Sum256(input)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
}

type object = map[string]any

func goodClaims() object {
	return object{"jti": "j1", "htm": "POST", "htu": target, "iat": now.Unix(), "nonce": "n1", "ath": "h1"}
}

func with(base object, name string, value any) object {
	out := object{}
	for k, v := range base {
		out[k] = v
	}
	if value == nil {
		delete(out, name)
	} else {
		out[name] = value
	}
	return out
}

func TestProofAccepted(t *testing.T) {
	key := newKey(t, elliptic.P256())
	header := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(t, &key.PublicKey, "P-256")}
	p, fault := ParseProof([]string{jws(t, header, goodClaims(), es256(t, key))}, "POST", target, now)
	if fault != nil {
		t.Fatal(fault)
	}
	jwk := header["jwk"].(map[string]any)
	want := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + jwk["x"].(string) + `","y":"` + jwk["y"].(string) + `"}`))
	if p.Thumbprint != want || p.ID != "j1" || p.Nonce != "n1" || p.TokenHash != "h1" {
		t.Errorf("got %+v, want thumbprint %x", p, want)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	header = object{"typ": "dpop+jwt", "alg": "EdDSA", "jwk": object{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}}
	other, fault := ParseProof([]string{jws(t, header, goodClaims(), func(in []byte) []byte { return ed25519.Sign(private, in) })}, "POST", target, now)
	if fault != nil {
		t.Fatal(fault)
	}
	if other.Thumbprint == p.Thumbprint || other.Key() == p.Key() {
		t.Error("two keys, one thumbprint")
	}
	for _, same := range []string{"HTTPS://Broker.Example:443/oauth/token", target + "?a=b", target + "#f"} {
		header := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(t, &key.PublicKey, "P-256")}
		again, fault := ParseProof([]string{jws(t, header, with(goodClaims(), "htu", same), es256(t, key))}, "POST", target, now)
		if fault != nil {
			t.Errorf("htu %s: %v", same, fault)
		} else if again.Key() != p.Key() {
			t.Errorf("htu %s: the same jti is remembered under another key", same)
		}
	}
}

// TestProofRefused is attacks 12 to 15 at the door of DPoP proofs.
func TestProofRefused(t *testing.T) {
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	p384 := newKey(t, elliptic.P384())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk := ecJWK(t, &key.PublicKey, "P-256")
	header := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
	good := es256(t, key)
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	private := with(jwk, "d", b64(scalar))
	ok := jws(t, header, goodClaims(), good)
	doubled := `{"jti":"j1","htm":"POST","htu":"` + target + `","iat":1795435200,"iat":1795435200}`
	cases := []struct {
		name, want string
		headers    []string
	}{
		{"none", "0 DPoP headers", nil},
		{"two", "2 DPoP headers", []string{ok, ok}},
		{"garbage", "not a JWS", []string{"a.b.c"}},
		{"long", "at most", []string{strings.Repeat("a", MaxProof+1)}},
		{"JSON form", "not a JWS", []string{`{"payload":"","protected":"","signature":""}`}},
		{"alg none", "not a JWS", []string{jws(t, with(header, "alg", "none"), goodClaims(), func([]byte) []byte { return nil })}},
		{"alg HS256 with the public key", "not a JWS", []string{jws(t, with(header, "alg", "HS256"), goodClaims(), func(in []byte) []byte {
			point, err := key.PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			m := hmac.New(sha256.New, point)
			m.Write(in)
			return m.Sum(nil)
		})}},
		{"alg RS256", "not a JWS", []string{jws(t, object{"typ": "dpop+jwt", "alg": "RS256", "jwk": object{"kty": "RSA", "n": b64(rsaKey.N.Bytes()), "e": "AQAB"}}, goodClaims(), func(in []byte) []byte {
			sum := sha256.Sum256(in)
			sig, err := rsa.SignPKCS1v15(nil, rsaKey, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		})}},
		{"ES256 with a P-384 key", "do not fit", []string{jws(t, with(header, "jwk", ecJWK(t, &p384.PublicKey, "P-384")), goodClaims(), es256(t, p384))}},
		{"EdDSA with a P-256 key", "do not fit", []string{jws(t, with(header, "alg", "EdDSA"), goodClaims(), good)}},
		{"typ missing", "typ", []string{jws(t, with(header, "typ", nil), goodClaims(), good)}},
		{"typ at+jwt", "typ", []string{jws(t, with(header, "typ", "at+jwt"), goodClaims(), good)}},
		{"typ JWT", "typ", []string{jws(t, with(header, "typ", "JWT"), goodClaims(), good)}},
		{"jwk missing", "jwk", []string{jws(t, with(header, "jwk", nil), goodClaims(), good)}},
		{"jwk private", "not a JWS", []string{jws(t, with(header, "jwk", private), goodClaims(), good)}},
		{"jwk of another", "own key", []string{jws(t, with(header, "jwk", ecJWK(t, &other.PublicKey, "P-256")), goodClaims(), good)}},
		{"crit", "own key", []string{jws(t, with(header, "crit", []string{"x"}), goodClaims(), good)}},
		{"claims doubled", "malformed claims", []string{jws(t, header, doubled, good)}},
		{"jti missing", "jti", []string{jws(t, header, with(goodClaims(), "jti", nil), good)}},
		{"jti long", "jti", []string{jws(t, header, with(goodClaims(), "jti", strings.Repeat("j", MaxJTI+1)), good)}},
		{"htm", "htm", []string{jws(t, header, with(goodClaims(), "htm", "GET"), good)}},
		{"htm in small letters", "htm", []string{jws(t, header, with(goodClaims(), "htm", "post"), good)}},
		{"htu of another broker", "htu", []string{jws(t, header, with(goodClaims(), "htu", "https://other.example/oauth/token"), good)}},
		{"htu of another endpoint", "htu", []string{jws(t, header, with(goodClaims(), "htu", "https://broker.example/oauth/revoke"), good)}},
		{"htu over http", "htu", []string{jws(t, header, with(goodClaims(), "htu", "http://broker.example/oauth/token"), good)}},
		{"htu at another port", "htu", []string{jws(t, header, with(goodClaims(), "htu", "https://broker.example:8443/oauth/token"), good)}},
		{"htu with a user", "htu", []string{jws(t, header, with(goodClaims(), "htu", "https://a@broker.example/oauth/token"), good)}},
		{"iat missing", "iat", []string{jws(t, header, with(goodClaims(), "iat", nil), good)}},
		{"iat old", "check the host's clock", []string{jws(t, header, with(goodClaims(), "iat", now.Add(-61*time.Second).Unix()), good)}},
		{"iat ahead", "check the host's clock", []string{jws(t, header, with(goodClaims(), "iat", now.Add(11*time.Second).Unix()), good)}},
		{"iat an hour ahead", "check the host's clock", []string{jws(t, header, with(goodClaims(), "iat", now.Add(time.Hour).Unix()), good)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, fault := ParseProof(c.headers, "POST", target, now)
			if fault == nil {
				t.Fatal("accepted")
			}
			if fault.Code != InvalidProof || fault.Status != 400 || fault.Retry != RetryNever || !strings.Contains(fault.Description, c.want) {
				t.Errorf("got %+v, want %s with %q", fault, InvalidProof, c.want)
			}
		})
	}
	if _, fault := ParseProof([]string{ok}, "POST", target, now); fault != nil {
		t.Fatalf("the good proof, on which the cases stand: %v", fault)
	}
	// One changed bit anywhere in the signature.
	cut := strings.LastIndexByte(ok, '.') + 1
	sig, err := base64.RawURLEncoding.DecodeString(ok[cut:])
	if err != nil {
		t.Fatal(err)
	}
	sig[20] ^= 1
	if _, fault := ParseProof([]string{ok[:cut] + b64(sig)}, "POST", target, now); fault == nil {
		t.Error("accepted a changed signature")
	}
}

// TestHeaderInjection is attack 14: no header but jwk names a key, and no URL
// in a header is ever fetched (nothing here can dial: the package has no door).
func TestHeaderInjection(t *testing.T) {
	key, thief := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	for _, name := range []string{"jku", "x5u", "kid"} {
		header := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(t, &key.PublicKey, "P-256"), name: "https://thief.example/keys"}
		if _, fault := ParseProof([]string{jws(t, header, goodClaims(), es256(t, thief))}, "POST", target, now); fault == nil {
			t.Errorf("%s: a proof signed by another key was accepted", name)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	key := newKey(f, elliptic.P256())
	header := object{"typ": "dpop+jwt", "alg": "ES256", "jwk": ecJWK(f, &key.PublicKey, "P-256")}
	f.Add(jws(f, header, goodClaims(), es256(f, key)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if p, fault := ParseProof([]string{raw}, "POST", target, now); fault == nil && p.ID == "" {
			t.Error("accepted a proof without jti")
		}
	})
}
