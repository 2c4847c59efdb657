// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func sampleToken() *Claims {
	return &Claims{
		Issuer: "https://broker.example", Audience: "https://payments.example", Subject: "p_x",
		ClientID: "spiffe://example.test/agents/invoice", ID: "j", Txn: "T", IssuedAt: 10, Expires: 310,
		Actor:   Actor{Issuer: "https://broker.example", Subject: "spiffe://example.test/agents/invoice", Instance: "b:1:2:3", Host: "h"},
		Confirm: &Confirm{JKT: "k"}, Details: []Task{{Type: "t", Actions: []string{"invoice.read"}}},
		Evidence: Evidence{Status: map[string]int8{"boot": 2}},
	}
}

// TestTokenForOthers reads a token as a resource server with a stock library
// would, and once more with nothing but the standard library.
func TestTokenForOthers(t *testing.T) {
	s, err := NewSigner(newKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(sampleToken())
	if err != nil {
		t.Fatal(err)
	}
	published, err := json.Marshal(s.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(published), `"d"`) {
		t.Fatal("the key set holds a private key")
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(published, &set); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var std jwt.Claims
	var all map[string]any
	if err := parsed.Claims(set.Key(s.KeyID())[0], &std, &all); err != nil {
		t.Fatal(err)
	}
	if std.Issuer != "https://broker.example" || !std.Audience.Contains("https://payments.example") || std.ID != "j" {
		t.Errorf("a stock library reads %+v", std)
	}
	for _, name := range []string{"iss", "aud", "sub", "client_id", "jti", "txn", "iat", "exp", "auth_time", "acr", "act", "cnf",
		"authorization_details", "delegation", "evidence", "log", "ke"} {
		if _, ok := all[name]; !ok {
			t.Errorf("claim %s is missing", name)
		}
	}
	parts := strings.Split(token, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || !strings.Contains(string(header), `"typ":"at+jwt"`) {
		t.Errorf("header %s (%v)", header, err)
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		t.Fatalf("signature of %d bytes (%v)", len(sig), err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&s.key.PublicKey, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not verify by the standard library")
	}
	if again, err := s.Parse(token); err != nil || again.ID != "j" || again.Confirm.JKT != "k" {
		t.Errorf("our own reading: %+v, %v", again, err)
	}
}

// TestTokenRefused is attacks 13 to 15 at the door of access tokens.
func TestTokenRefused(t *testing.T) {
	key := newKey(t, elliptic.P256())
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	thief := newKey(t, elliptic.P256())
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	header := object{"typ": "at+jwt", "alg": "ES256", "kid": s.KeyID()}
	good, evil := es256(t, key), es256(t, thief)
	claims := sampleToken()
	if _, err := s.Parse(jws(t, header, claims, good)); err != nil {
		t.Fatalf("the good token, on which the cases stand: %v", err)
	}
	cases := map[string]string{
		"empty":          "",
		"long":           strings.Repeat("a", MaxToken+1),
		"alg none":       jws(t, with(header, "alg", "none"), claims, func([]byte) []byte { return nil }),
		"alg HS256":      jws(t, with(header, "alg", "HS256"), claims, func(in []byte) []byte { m := hmac.New(sha256.New, point); m.Write(in); return m.Sum(nil) }),
		"alg ES384":      jws(t, with(header, "alg", "ES384"), claims, good),
		"typ missing":    jws(t, with(header, "typ", nil), claims, good),
		"typ JWT":        jws(t, with(header, "typ", "JWT"), claims, good),
		"typ dpop":       jws(t, with(header, "typ", "dpop+jwt"), claims, good),
		"typ SET":        jws(t, with(header, "typ", "secevent+jwt"), claims, good),
		"typ WIT":        jws(t, with(header, "typ", "wit+jwt"), claims, good),
		"typ status":     jws(t, with(header, "typ", "statuslist+jwt"), claims, good),
		"other key":      jws(t, header, claims, evil),
		"embedded key":   jws(t, with(header, "jwk", ecJWK(t, &thief.PublicKey, "P-256")), claims, evil),
		"jku":            jws(t, with(header, "jku", "https://thief.example/jwks"), claims, evil),
		"x5u":            jws(t, with(header, "x5u", "https://thief.example/x5u"), claims, evil),
		"kid a path":     jws(t, with(header, "kid", "../../token.key"), claims, good),
		"kid SQL":        jws(t, with(header, "kid", "' or 1=1 --"), claims, good),
		"kid missing":    jws(t, with(header, "kid", nil), claims, good),
		"claims doubled": jws(t, header, `{"iss":"a","iss":"b"}`, good),
	}
	for name, token := range cases {
		if _, err := s.Parse(token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewSigner(newKey(t, elliptic.P384())); err == nil {
		t.Error("a P-384 key became a token key")
	}
}
