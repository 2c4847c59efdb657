// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"encoding/base64"

	"github.com/jurat-dev/jurat/evidence"
)

// Exchange is a token exchange as asked for: which approved delegation, on
// which evidence, for which system, to do what. It is well formed, no more.
type Exchange struct {
	D        evidence.Hash
	Ref      string
	Audience string
	Task     Task
}

// ParseExchange reads a token exchange (RFC 8693 section 2.1). What the
// tokens are decides which rules hold, never which parameters are there: a
// delegation without its actor is refused, and so is every token type but the
// two of this broker, its own access tokens included.
func ParseExchange(f Form) (*Exchange, *Error) {
	if f["grant_type"] != GrantTokenExchange {
		return nil, Refuse(UnsupportedGrant, RetryNever, "grant_type %q, want %s", f["grant_type"], GrantTokenExchange)
	}
	for _, name := range []string{"subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience", "authorization_details"} {
		if f[name] == "" {
			return nil, malformed("%s is missing", name)
		}
	}
	if f["subject_token_type"] != TypeDelegation {
		return nil, malformed("subject_token_type %q, want %s", f["subject_token_type"], TypeDelegation)
	}
	if f["actor_token_type"] != TypeEvidenceRef {
		return nil, malformed("actor_token_type %q, want %s", f["actor_token_type"], TypeEvidenceRef)
	}
	if t := f["requested_token_type"]; t != "" && t != TypeAccessToken {
		return nil, malformed("requested_token_type %q, want %s", t, TypeAccessToken)
	}
	if f["scope"] != "" {
		return nil, Refuse(InvalidScope, RetryNever, "this broker grants authorization_details, no scope")
	}
	x := &Exchange{Ref: f["actor_token"], Audience: f["audience"]}
	if f["resource"] != "" && f["resource"] != x.Audience {
		return nil, Refuse(InvalidTarget, RetryNever, "resource and audience differ; a token has one audience")
	}
	d, err := base64.RawURLEncoding.Strict().DecodeString(f["subject_token"])
	if err != nil || len(d) != len(x.D) {
		return nil, malformed("subject_token is not the base64url of %d bytes", len(x.D))
	}
	copy(x.D[:], d)
	task, fault := ParseDetails(f["authorization_details"])
	if fault != nil {
		return nil, fault
	}
	x.Task = *task
	if len(task.Locations) > 0 && (len(task.Locations) != 1 || task.Locations[0] != x.Audience) {
		return nil, Refuse(InvalidTarget, RetryNever, "locations of authorization_details and audience differ")
	}
	return x, nil
}
