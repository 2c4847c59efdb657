// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Error codes (RFC 6749 section 5.2, RFC 8693, RFC 9396, RFC 9449).
const (
	InvalidRequest    = "invalid_request"
	InvalidClient     = "invalid_client"
	InvalidTarget     = "invalid_target"
	InvalidScope      = "invalid_scope"
	InvalidDetails    = "invalid_authorization_details"
	InvalidProof      = "invalid_dpop_proof"
	UseNonce          = "use_dpop_nonce"
	UnsupportedGrant  = "unsupported_grant_type"
	Unavailable       = "temporarily_unavailable"
	NotFound          = "not_found"
	Conflict          = "conflict"
	Forbidden         = "access_denied"
	TooLarge          = "request_too_large"
	UnsupportedFormat = "unsupported_media_type"
	BadMethod         = "method_not_allowed"
)

// Values of retry: what has to happen before the same wish can be granted.
const (
	RetryNever         = "never"
	RetryNow           = "now"
	RetryLater         = "later"
	RetryAfterChange   = "after-change"
	RetryNewDelegation = "new-delegation"
	RetryOperator      = "operator"
)

// Failure is one failed check as the workload may see it: who said no and to
// what, not what would have passed.
type Failure struct {
	Attestor string `json:"attestor"`
	Check    string `json:"check"`
}

// Error is a refusal on its way to the client (spec/broker-api.md, "Errors").
type Error struct {
	Status      int       `json:"-"`
	Code        string    `json:"error"`
	Description string    `json:"error_description,omitempty"`
	URI         string    `json:"error_uri,omitempty"`
	Reason      string    `json:"reason,omitempty"` // evidence_stale, delegation_expired and the like
	Rejection   string    `json:"code,omitempty"`   // rejection code of package verify, such as E_MAGIC
	Txn         string    `json:"txn,omitempty"`
	Retry       string    `json:"retry,omitempty"`
	Failed      []Failure `json:"failed,omitempty"`
	Nonce       string    `json:"-"` // sent as DPoP-Nonce
	After       int       `json:"-"` // seconds, sent as Retry-After
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Refuse returns a 400 with the code.
func Refuse(code, retry, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Retry: retry, Description: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) *Error {
	return Refuse(InvalidRequest, RetryNever, format, args...)
}

// Write sends e.
func (e *Error) Write(w http.ResponseWriter) {
	h := w.Header()
	if e.Nonce != "" {
		h.Set("DPoP-Nonce", e.Nonce)
		h.Set("OAuth-Client-Attestation-Challenge", e.Nonce)
	}
	if e.After > 0 {
		h.Set("Retry-After", fmt.Sprint(e.After))
	}
	if e.Status == http.StatusUnauthorized && e.Code == InvalidClient {
		h.Set("WWW-Authenticate", `Basic realm="jurat"`)
	}
	WriteJSON(w, e.Status, e)
}

// WriteJSON sends v, which no cache may keep.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("oauth: encoding an answer: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// The client is gone when this fails; there is nobody left to tell.
	_, _ = w.Write(append(body, '\n'))
}
