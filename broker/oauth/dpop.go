// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// How far a proof's time may be from ours. What proves that a proof is new is
// the nonce in it; this only bounds how long its jti is remembered.
const (
	ProofPast   = 60 * time.Second
	ProofFuture = 10 * time.Second
)

// Proof is a DPoP proof whose signature holds and which was made for this
// method and URL. Whether its nonce is live and its jti new is not said here.
type Proof struct {
	Thumbprint [32]byte // RFC 7638, SHA-256, of the key that signed
	ID         string
	URL        string
	Nonce      string
	TokenHash  string // ath: base64url SHA-256 of an access token, or ""
}

// Key returns what is remembered so that a proof is taken once.
//
//	SHA-256("jurat/dpop/v1\0" || thumbprint || SHA-256(jti) || SHA-256(htu))
func (p *Proof) Key() [32]byte {
	id, at := sha256.Sum256([]byte(p.ID)), sha256.Sum256([]byte(p.URL))
	h := sha256.New()
	h.Write([]byte("jurat/dpop/v1\x00"))
	h.Write(p.Thumbprint[:])
	h.Write(id[:])
	h.Write(at[:])
	return [32]byte(h.Sum(nil))
}

// TokenHash returns the ath of an access token (RFC 9449 section 4.2).
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type proofClaims struct {
	ID       string `json:"jti"`
	Method   string `json:"htm"`
	URL      string `json:"htu"`
	IssuedAt *int64 `json:"iat"`
	Nonce    string `json:"nonce"`
	Hash     string `json:"ath"`
}

// ParseProof checks the DPoP headers of a request (RFC 9449 section 4.3,
// rules 1 to 9 and 11; rules 10 and 12 need a store). target is the URL of
// this endpoint as the broker publishes it, never as a Host header says.
func ParseProof(headers []string, method, target string, now time.Time) (*Proof, *Error) {
	if len(headers) != 1 {
		return nil, badProof("%d DPoP headers, want 1", len(headers))
	}
	raw := headers[0]
	if len(raw) > MaxProof {
		return nil, badProof("proof of %d bytes, at most %d", len(raw), MaxProof)
	}
	key, payload, fault := verifyProof(raw)
	if fault != nil {
		return nil, fault
	}
	var c proofClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, badProof("malformed claims: %v", err)
	}
	if c.ID == "" || len(c.ID) > MaxJTI {
		return nil, badProof("jti of %d bytes, want 1 to %d", len(c.ID), MaxJTI)
	}
	if c.Method != method {
		return nil, badProof("htm %q, want %q", c.Method, method)
	}
	if !sameURL(c.URL, target) {
		return nil, badProof("htu %q, want %q", c.URL, target)
	}
	if c.IssuedAt == nil {
		return nil, badProof("iat is missing")
	}
	if *c.IssuedAt < now.Add(-ProofPast).Unix() || *c.IssuedAt > now.Add(ProofFuture).Unix() {
		return nil, badProof("iat %d is not within %v before and %v after the broker's clock, %d; check the host's clock",
			*c.IssuedAt, ProofPast, ProofFuture, now.Unix())
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, badProof("thumbprint: %v", err)
	}
	return &Proof{Thumbprint: [32]byte(sum), ID: c.ID, URL: target, Nonce: c.Nonce, TokenHash: c.Hash}, nil
}

// verifyProof returns the key in the proof's own header and the payload it
// signs. Each algorithm is tried alone, with the one kind of key it goes with.
func verifyProof(raw string) (*jose.JSONWebKey, []byte, *Error) {
	var parsed *jose.JSONWebSignature
	var alg jose.SignatureAlgorithm
	var err error
	for _, alg = range proofAlgorithms {
		if parsed, err = jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{alg}); err == nil {
			break
		}
	}
	if err != nil {
		return nil, nil, badProof("not a JWS signed with one of %v", proofAlgorithms)
	}
	header := parsed.Signatures[0].Protected
	if header.ExtraHeaders["typ"] != typDPoP {
		return nil, nil, badProof("typ %q, want %q", header.ExtraHeaders["typ"], typDPoP)
	}
	key := header.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() {
		return nil, nil, badProof("jwk is missing or not a public key")
	}
	switch public := key.Key.(type) {
	case *ecdsa.PublicKey:
		if alg != jose.ES256 || public.Curve.Params().BitSize != 256 {
			return nil, nil, badProof("jwk and alg %s do not fit", alg)
		}
	case ed25519.PublicKey:
		if alg != jose.EdDSA {
			return nil, nil, badProof("jwk and alg %s do not fit", alg)
		}
	default:
		return nil, nil, badProof("jwk of type %T", public)
	}
	payload, err := parsed.Verify(key.Key)
	if err != nil {
		return nil, nil, badProof("signature does not verify with the proof's own key")
	}
	return key, payload, nil
}

// sameURL compares htu as RFC 9449 section 4.3 says: without query and
// fragment, scheme and host in any case, the default port written or not.
func sameURL(given, want string) bool {
	g, err := url.Parse(given)
	if err != nil || g.Opaque != "" || g.User != nil {
		return false
	}
	w, err := url.Parse(want)
	if err != nil {
		return false
	}
	return strings.EqualFold(g.Scheme, w.Scheme) && hostPort(g) == hostPort(w) && g.EscapedPath() == w.EscapedPath()
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

func badProof(format string, args ...any) *Error {
	return Refuse(InvalidProof, RetryNever, "DPoP proof: "+format, args...)
}
