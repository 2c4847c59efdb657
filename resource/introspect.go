// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// introspector asks the broker whether a token is still good (RFC 7662).
type introspector struct {
	keys       *keyring
	id, secret string
}

// active returns nil when the broker says that the token with this jti is
// active, a *Refusal when it says that it is not, and an *Unavailable when it
// says nothing.
func (i *introspector) active(ctx context.Context, token, jti string, now time.Time) error {
	endpoint := i.keys.endpoint()
	if endpoint == "" {
		return &Unavailable{Place: "introspection", Cause: errors.New("the broker's metadata names no endpoint")}
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return &Unavailable{Place: "introspection", Cause: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// RFC 6749 section 2.3.1: both halves are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(i.id), url.QueryEscape(i.secret))
	var answer struct {
		Active  bool   `json:"active"`
		ID      string `json:"jti"`
		Expires int64  `json:"exp"`
	}
	if err := i.keys.do(req, &answer); err != nil {
		return &Unavailable{Place: "introspection", Cause: err}
	}
	switch {
	case !answer.Active:
		return badToken(RuleRevoked, "the broker says it is no longer active")
	case answer.ID != jti:
		return badToken(RuleRevoked, "the broker answered for another token")
	case answer.Expires != 0 && now.After(time.Unix(answer.Expires, 0).Add(maxSkew)):
		return badToken(RuleRevoked, "the broker says it expired")
	}
	return nil
}
