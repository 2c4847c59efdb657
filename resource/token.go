// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// algorithms are the only ones accepted, for tokens and for proofs.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}

// token checks everything about the access token that needs no proof: form,
// type, key, algorithm, signature, issuer, audience, times, binding.
func (k *Checker) token(ctx context.Context, text string, now time.Time) (*claims, error) {
	head, err := header(text)
	if err != nil {
		return nil, badToken(RuleTokenForm, "header: %v", err)
	}
	if typ := strings.ToLower(head.Type); typ != "at+jwt" && typ != "application/at+jwt" {
		return nil, badToken(RuleTokenType, "typ %q, want at+jwt", clip(head.Type))
	}
	if len(head.Critical) != 0 {
		return nil, badToken(RuleTokenForm, "critical header %s is not understood", clip(string(head.Critical)))
	}
	// The key comes from the broker's set, by kid; jwk, jku, x5c and x5u of
	// the header are not looked at.
	key, err := k.keys.find(ctx, head.KeyID, now)
	if err != nil {
		return nil, err
	}
	want := keyAlgorithm(key)
	if want == "" || head.Algorithm != string(want) {
		return nil, badToken(RuleTokenAlgorithm, "alg %q, the key %q is for %q", clip(head.Algorithm), clip(head.KeyID), want)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{want})
	if err != nil {
		return nil, badToken(RuleTokenForm, "%v", err)
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, badToken(RuleTokenSignature, "not by key %q", clip(head.KeyID))
	}
	c := new(claims)
	if err := json.Unmarshal(payload, c); err != nil {
		return nil, badToken(RuleTokenForm, "claims: %v", err)
	}
	return c, withTxn(k.times(c, now), c.Txn)
}

// times checks issuer, audience, life, key epoch and binding of a signed token.
func (k *Checker) times(c *claims, now time.Time) error {
	switch {
	case c.Issuer != k.issuer:
		return badToken(RuleIssuer, "%q, want %q", clip(c.Issuer), k.issuer)
	case string(c.Audience) != k.audience:
		return badToken(RuleAudience, "%q, want %q", clip(string(c.Audience)), k.audience)
	case now.After(time.Unix(c.Expires, 0).Add(maxSkew)):
		return badToken(RuleExpiry, "expired %v ago", now.Sub(time.Unix(c.Expires, 0)).Round(time.Second))
	case time.Unix(c.Issued, 0).After(now.Add(maxSkew)):
		return badToken(RuleNotYet, "issued %v in the future", time.Unix(c.Issued, 0).Sub(now).Round(time.Second))
	case time.Unix(c.NotBefore, 0).After(now.Add(maxSkew)):
		return badToken(RuleNotYet, "valid in %v", time.Unix(c.NotBefore, 0).Sub(now).Round(time.Second))
	case c.KeyEpoch < k.keys.minimum():
		return badToken(RuleKeyEpoch, "%d, the broker takes %d and up", c.KeyEpoch, k.keys.minimum())
	case c.Confirm.JKT == "":
		return badToken(RuleBinding, "no cnf.jkt: bearer tokens are not accepted")
	}
	return nil
}

// joseHeader is the part of a JOSE header that is looked at before the
// signature. Duplicate keys are refused by the decoder.
type joseHeader struct {
	Type      string          `json:"typ"`
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Critical  json.RawMessage `json:"crit"`
}

func header(text string) (joseHeader, error) {
	var h joseHeader
	raw, _, _ := strings.Cut(text, ".")
	data, err := decode(raw)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(data, &h)
}

// keyAlgorithm returns the one algorithm a key is for, or "": the kind of key
// decides, and its record may not say otherwise.
func keyAlgorithm(key jose.JSONWebKey) jose.SignatureAlgorithm {
	var alg jose.SignatureAlgorithm
	switch pub := key.Key.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			alg = jose.ES256
		}
	case ed25519.PublicKey:
		alg = jose.EdDSA
	}
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return ""
	}
	return alg
}
