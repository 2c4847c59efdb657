// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Claims is what an access token says (RFC 9068, RFC 8693 section 4.1, RFC
// 9396, RFC 9449; spec/broker-api.md, "The access token").
type Claims struct {
	Issuer     string     `json:"iss"`
	Audience   string     `json:"aud"`
	Subject    string     `json:"sub"`       // the human, under a name for this audience only
	ClientID   string     `json:"client_id"` // the workload
	ID         string     `json:"jti"`
	Txn        string     `json:"txn"`
	IssuedAt   int64      `json:"iat"`
	Expires    int64      `json:"exp"`
	AuthTime   int64      `json:"auth_time"` // when the human approved
	ACR        string     `json:"acr"`
	Actor      Actor      `json:"act"`
	Confirm    *Confirm   `json:"cnf,omitempty"` // absent in a bearer token
	Details    []Task     `json:"authorization_details"`
	Delegation Delegation `json:"delegation"`
	Evidence   Evidence   `json:"evidence"`
	Log        LogEntry   `json:"log"`
	KeyEpoch   int        `json:"ke"`
}

// Actor is the workload that acts: which, which process of it, and where.
type Actor struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Instance string `json:"instance"` // boot id:pid:start:generation
	Host     string `json:"host"`
}

// Confirm is the key the token works with (RFC 7800, RFC 9449 section 6).
type Confirm struct {
	JKT string `json:"jkt"`
}

// Delegation is the approval the token comes from.
type Delegation struct {
	ID       string `json:"id"`
	D        string `json:"d"`
	UsesLeft uint64 `json:"uses_left"`
	Expires  int64  `json:"exp"`
}

// Evidence is what the token was issued on.
type Evidence struct {
	Digest string          `json:"digest"` // SHA-256 of the quote's TPMS_ATTEST
	Status map[string]int8 `json:"status"` // AR4SI tier per attestor
	Level  Level           `json:"level"`
	Age    int64           `json:"age"` // seconds from the challenge to the token
}

// Level is how strong the evidence's roots are.
type Level struct {
	EK     string `json:"ek"`
	Anchor string `json:"anchor"`
	Tier   string `json:"tier"`
}

// LogEntry is where in the broker's log the decision stands.
type LogEntry struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index"`
	Leaf   string `json:"leaf"`
}

// Signer signs access tokens with one ES256 key, and knows its own again.
type Signer struct {
	key    *ecdsa.PrivateKey
	id     string
	signer jose.Signer
}

// NewSigner returns a signer. The key's id is its thumbprint (RFC 7638).
func NewSigner(key *ecdsa.PrivateKey) (*Signer, error) {
	if key.Curve.Params().BitSize != 256 {
		return nil, fmt.Errorf("token key on a curve of %d bits, want 256", key.Curve.Params().BitSize)
	}
	public := jose.JSONWebKey{Key: &key.PublicKey}
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	id := base64.RawURLEncoding.EncodeToString(sum)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithType(typAccessToken))
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, id: id, signer: signer}, nil
}

// KeyID returns the kid of the tokens s signs.
func (s *Signer) KeyID() string { return s.id }

// Sign returns the token that says c.
func (s *Signer) Sign(c *Claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Parse returns the claims of a token that s signed. It says nothing about
// expiry or revocation. The kid is compared, not looked up, and no other
// header is read: there is no key to be injected here.
func (s *Signer) Parse(token string) (*Claims, error) {
	if len(token) > MaxToken {
		return nil, fmt.Errorf("token of %d bytes, at most %d", len(token), MaxToken)
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, errors.New("not a JWS signed with ES256")
	}
	header := parsed.Signatures[0].Protected
	if header.ExtraHeaders["typ"] != typAccessToken {
		return nil, fmt.Errorf("typ %q, want %q", header.ExtraHeaders["typ"], typAccessToken)
	}
	if header.KeyID != s.id {
		return nil, errors.New("unknown key")
	}
	payload, err := parsed.Verify(&s.key.PublicKey)
	if err != nil {
		return nil, errors.New("signature does not verify")
	}
	c := new(Claims)
	if err := json.Unmarshal(payload, c); err != nil {
		return nil, fmt.Errorf("malformed claims: %v", err)
	}
	return c, nil
}

// JWKS returns the public key as a JWK set (RFC 7517).
func (s *Signer) JWKS() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: &s.key.PublicKey, KeyID: s.id, Algorithm: string(jose.ES256), Use: "sig",
	}}}
}
