// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import (
	"net/http"
	"strings"
)

// Transport adds to each HTTP request the token of a delegation and a proof
// that juratd makes for exactly that request. It keeps neither. A redirect to
// another origin gets no token: it was issued for the first.
type Transport struct {
	Client     Client
	Delegation string
	Base       http.RoundTripper // nil: http.DefaultTransport
}

// RoundTrip sends one request. Where juratd gives no proof, nothing is sent
// and the error is juratd's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if leftOrigin(req) {
		return t.base().RoundTrip(req)
	}
	resp, err := t.send(req, "")
	if err != nil {
		return nil, err
	}
	nonce, ok := demandsNonce(resp)
	if !ok {
		return resp, nil
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return resp, nil // it cannot be sent twice
		}
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	resp.Body.Close()
	return t.send(again, nonce)
}

func (t *Transport) send(req *http.Request, nonce string) (*http.Response, error) {
	p, err := t.Client.Proof(req.Context(), t.Delegation, req.Method, req.URL.String(), nonce)
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // a RoundTripper closes it, also when it sends nothing
		}
		return nil, err
	}
	signed := req.Clone(req.Context())
	signed.Header.Set("Authorization", p.Authorization)
	signed.Header.Set("DPoP", p.DPoP)
	return t.base().RoundTrip(signed)
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// leftOrigin reports whether redirects led the request to another scheme or
// host than it began at.
func leftOrigin(req *http.Request) bool {
	for r := req; r.Response != nil && r.Response.Request != nil; {
		before := r.Response.Request
		if before.URL.Scheme != r.URL.Scheme || before.URL.Host != r.URL.Host {
			return true
		}
		r = before
	}
	return false
}

// demandsNonce returns the nonce that a resource wants in the proof (RFC 9449
// section 9).
func demandsNonce(resp *http.Response) (string, bool) {
	nonce := resp.Header.Get("DPoP-Nonce")
	if resp.StatusCode != http.StatusUnauthorized || nonce == "" || len(nonce) > maxText {
		return "", false
	}
	for _, challenge := range resp.Header.Values("WWW-Authenticate") {
		if strings.HasPrefix(challenge, "DPoP") && strings.Contains(challenge, "use_dpop_nonce") {
			return nonce, true
		}
	}
	return "", false
}
