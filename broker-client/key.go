// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Key is a DPoP key (RFC 9449): ECDSA P-256, in memory, of one process
// instance. It can be used but not taken out.
type Key struct {
	signer     jose.Signer
	thumbprint [32]byte
	random     io.Reader
}

// NewKey makes a key. Key and proof identifiers are drawn from random.
func NewKey(random io.Reader) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKey{Key: private.Public()}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	opts := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, opts)
	if err != nil {
		return nil, err
	}
	return &Key{signer: signer, thumbprint: [32]byte(thumbprint), random: random}, nil
}

// Thumbprint returns the key's name in a token's cnf.jkt.
//
//	jkt = SHA-256(canonical JWK of the public key)   (RFC 7638 section 3)
func (k *Key) Thumbprint() [32]byte { return k.thumbprint }

// proofClaims are the claims of a DPoP proof (RFC 9449 section 4.2).
type proofClaims struct {
	ID     string `json:"jti"`
	Method string `json:"htm"`
	URL    string `json:"htu"`
	At     int64  `json:"iat"`
	Token  string `json:"ath,omitempty"`
	Nonce  string `json:"nonce,omitempty"`
}

// Proof returns a DPoP proof for one request: this method, to this URL
// without its query and fragment, at this moment. nonce is what the receiver
// demanded, accessToken what the request carries; either may be empty.
//
//	ath = base64url(SHA-256(access token))
func (k *Key) Proof(method, rawURL, nonce, accessToken string, now time.Time) (string, error) {
	target, err := url.Parse(rawURL)
	if err != nil || target.Host == "" || (target.Scheme != "https" && target.Scheme != "http") {
		return "", fmt.Errorf("proof for %q: want an absolute http or https URL", rawURL)
	}
	if !isToken(method) {
		return "", fmt.Errorf("proof for method %q: not an HTTP method", method)
	}
	target.RawQuery, target.Fragment, target.RawFragment, target.ForceQuery, target.User = "", "", "", false, nil
	var id [16]byte
	if _, err := io.ReadFull(k.random, id[:]); err != nil {
		return "", err
	}
	claims := proofClaims{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), Method: method, URL: target.String(), At: now.Unix(), Nonce: nonce,
	}
	if accessToken != "" {
		digest := sha256.Sum256([]byte(accessToken))
		claims.Token = base64.RawURLEncoding.EncodeToString(digest[:])
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	proof, err := k.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return proof.CompactSerialize()
}

// isToken reports whether s can be an HTTP method (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
