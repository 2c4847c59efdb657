// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// proofClaims are those of RFC 9449 section 4.2.
type proofClaims struct {
	ID     string `json:"jti"`
	Method string `json:"htm"`
	URL    string `json:"htu"`
	Issued int64  `json:"iat"`
	Hash   string `json:"ath"`
}

// proof checks that whoever sent this call holds the token's key, and made the
// proof for this call, now and once (RFC 9449 section 4.3).
func (k *Checker) proof(r *http.Request, text, token string, c *claims, now time.Time) error {
	p, err := verifyProof(text, c.Confirm.JKT)
	if err != nil {
		return err
	}
	here := k.origin + r.URL.EscapedPath()
	switch issued := time.Unix(p.Issued, 0); {
	case p.Method != r.Method:
		return badProof(RuleMethod, "%q, the call is %q", clip(p.Method), clip(r.Method))
	case !sameURL(p.URL, here):
		return badProof(RuleURL, "%q, the call is to %q", clip(p.URL), clip(here))
	case issued.Before(now.Add(-proofAge)):
		return badProof(RuleProofTime, "made %v ago, at most %v", now.Sub(issued).Round(time.Second), proofAge)
	case issued.After(now.Add(maxSkew)):
		return badProof(RuleProofTime, "made %v in the future", issued.Sub(now).Round(time.Second))
	case !equal(p.Hash, tokenHash(token)):
		return badProof(RuleTokenHash, "is not the hash of this token")
	case p.ID == "" || len(p.ID) > maxProofID:
		return badProof(RuleReplay, "of %d bytes, want 1 to %d", len(p.ID), maxProofID)
	}
	switch k.proofs.add(c.Confirm.JKT, p.ID, now) {
	case replaySeen:
		return badProof(RuleReplay, "this proof was used before")
	case replayFull:
		return &Unavailable{Place: "replay cache", Cause: errFull}
	}
	return nil
}

// verifyProof checks what the proof says about itself: type, algorithm, key,
// signature, and that the key is the token's.
func verifyProof(text, thumbprint string) (*proofClaims, error) {
	head, err := header(text)
	if err != nil {
		return nil, badProof(RuleProofForm, "header: %v", err)
	}
	if !strings.EqualFold(head.Type, "dpop+jwt") {
		return nil, badProof(RuleProofType, "typ %q, want dpop+jwt", clip(head.Type))
	}
	if len(head.Critical) != 0 {
		return nil, badProof(RuleProofForm, "critical header %s is not understood", clip(string(head.Critical)))
	}
	if head.Algorithm != string(jose.ES256) && head.Algorithm != string(jose.EdDSA) {
		return nil, badProof(RuleProofAlgorithm, "alg %q, want ES256 or EdDSA", clip(head.Algorithm))
	}
	jws, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return nil, badProof(RuleProofKey, "%v", err)
	}
	key := jws.Signatures[0].Header.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() {
		return nil, badProof(RuleProofKey, "no public jwk in the header")
	}
	if string(keyAlgorithm(*key)) != head.Algorithm {
		return nil, badProof(RuleProofAlgorithm, "alg %q does not fit the jwk", head.Algorithm)
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, badProof(RuleProofSignature, "not by the jwk in the header")
	}
	// jkt = base64url(SHA-256(canonical JWK))   (RFC 7638)
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, badProof(RuleProofKey, "%v", err)
	}
	if got := base64.RawURLEncoding.EncodeToString(sum); !equal(got, thumbprint) {
		// The proof is good, but not for this token (RFC 9449 section 7.1, the
		// example of an invalid key binding).
		return nil, badToken(RuleThumbprint, "key %s, the token is bound to %s", got, clip(thumbprint))
	}
	p := new(proofClaims)
	if err := json.Unmarshal(payload, p); err != nil {
		return nil, badProof(RuleProofForm, "claims: %v", err)
	}
	return p, nil
}

// tokenHash returns what a proof carries as ath.
//
//	ath = base64url(SHA-256(access token))   (RFC 9449 section 4.2)
func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func decode(part string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(part) }

// sameURL compares a proof's htu, without query and fragment, with the address
// of the call, both in the normal form of RFC 3986 sections 6.2.2 and 6.2.3
// except that no dot segments are removed.
func sameURL(htu, here string) bool {
	a, ok := normal(htu)
	b, ok2 := normal(here)
	return ok && ok2 && a == b
}

func normal(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if name, port, err := net.SplitHostPort(host); err == nil && (scheme == "https" && port == "443" || scheme == "http" && port == "80") {
		host = name
		if strings.Contains(name, ":") {
			host = "[" + name + "]"
		}
	}
	path := unescape(u.EscapedPath())
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path, true
}

// unescape decodes the percent-encoded unreserved characters of a path and
// writes the other escapes in upper case (RFC 3986 section 6.2.2).
func unescape(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		c := unhex(path[i+1])<<4 | unhex(path[i+2])
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0
}
