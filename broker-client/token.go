// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Names of RFC 8693 and of jurat in the token exchange.
const (
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeDelegation  = "https://jurat.dev/token-type/delegation"
	typeEvidenceRef = "https://jurat.dev/token-type/evidence-ref"
)

// ExchangeRequest asks for the credential that one request of a bundle is
// good for. It has to say what the quoted request says.
type ExchangeRequest struct {
	D         evidence.Hash // content hash of the delegation
	Reference string        // the broker's reference to the evidence
	Audience  string
	Actions   []string
	Datatypes []string
	Proof     string // DPoP proof for TokenEndpoint; empty: a bearer token
}

// Token is a delegated credential.
type Token struct {
	Access    string
	Type      string // "DPoP" or "Bearer"
	ExpiresIn time.Duration
	Refresh   time.Duration // when to ask again; 0: not said
	Txn       string
	Receipt   string // c2sp tlog-proof
}

// task is one element of authorization_details (RFC 9396).
type task struct {
	Type      string   `json:"type"`
	Actions   []string `json:"actions,omitempty"`
	Locations []string `json:"locations,omitempty"`
	Datatypes []string `json:"datatypes,omitempty"`
}

// Exchange redeems the reference for a token (RFC 8693).
func (c *Client) Exchange(ctx context.Context, r ExchangeRequest) (*Token, error) {
	const op = "exchanging evidence for a token"
	details, err := json.Marshal([]task{{
		Type: evidence.TaskType, Actions: r.Actions, Locations: []string{r.Audience}, Datatypes: r.Datatypes,
	}})
	if err != nil {
		return nil, err
	}
	q := c.formCall(op, "/oauth/token", r.Proof, url.Values{
		"grant_type":            {grantExchange},
		"subject_token":         {base64.RawURLEncoding.EncodeToString(r.D[:])},
		"subject_token_type":    {typeDelegation},
		"actor_token":           {r.Reference},
		"actor_token_type":      {typeEvidenceRef},
		"audience":              {r.Audience},
		"requested_token_type":  {typeAccessToken},
		"authorization_details": {string(details)},
	})
	var out struct {
		Access    string `json:"access_token"`
		Issued    string `json:"issued_token_type"`
		Type      string `json:"token_type"`
		ExpiresIn int64  `json:"expires_in"`
		Refresh   int64  `json:"refresh_after"`
		Txn       string `json:"txn"`
		Receipt   string `json:"receipt"`
	}
	if err := c.do(ctx, q, &out); err != nil {
		return nil, err
	}
	want := "DPoP"
	if r.Proof == "" {
		want = "Bearer"
	}
	switch {
	case out.Access == "" || strings.ContainsFunc(out.Access, notTokenChar):
		return nil, badAnswer(op, "access_token is empty or no token68")
	case out.Issued != typeAccessToken:
		return nil, badAnswer(op, "issued_token_type %q", out.Issued)
	case out.Type != want:
		return nil, badAnswer(op, "token_type %q, want %q", out.Type, want)
	case out.ExpiresIn <= 0:
		return nil, badAnswer(op, "expires_in %d", out.ExpiresIn)
	}
	return &Token{
		Access: out.Access, Type: out.Type, ExpiresIn: time.Duration(out.ExpiresIn) * time.Second,
		Refresh: time.Duration(max(0, out.Refresh)) * time.Second, Txn: printable(out.Txn), Receipt: out.Receipt,
	}, nil
}

// notTokenChar keeps an access token from breaking out of a header line
// (token68 of RFC 9110 section 11.2).
func notTokenChar(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r))
}

// Revoke ends a token early (RFC 7009). The proof by its own key, for
// RevocationEndpoint, shows the right to.
func (c *Client) Revoke(ctx context.Context, token, proof string) error {
	q := c.formCall("revoking a token", "/oauth/revoke", proof, url.Values{
		"token": {token}, "token_type_hint": {"access_token"},
	})
	q.none = true
	return c.do(ctx, q, nil)
}

// RevocationEndpoint returns the URL that a proof for Revoke names.
func (c *Client) RevocationEndpoint() string { return c.issuer + "/oauth/revoke" }

func (c *Client) formCall(op, path, proof string, form url.Values) call {
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if proof != "" {
		h.Set("DPoP", proof)
	}
	return call{op: op, method: http.MethodPost, url: c.issuer + path, header: h, body: []byte(form.Encode())}
}
