// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"context"
	"net/http"
	"net/url"

	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// Delegation is a delegation as the broker shows it: the object itself, which
// its content hash holds, and what the broker says about it.
type Delegation struct {
	D        evidence.Hash
	Object   *delegation.Delegation
	State    string // "requested", "approved", "refused", "revoked", ...: the broker's word
	UsesLeft uint64
}

// Delegation fetches the delegation that an id or a content hash in base64url
// names, and refuses an object that is not what was asked for.
func (c *Client) Delegation(ctx context.Context, name string) (*Delegation, error) {
	const op = "reading the delegation"
	q := call{op: op, method: http.MethodGet, url: c.issuer + "/v1/delegations/" + url.PathEscape(name)}
	var out struct {
		ID       string `json:"id"`
		D        string `json:"d"`
		Object   []byte `json:"object"`
		State    string `json:"state"`
		UsesLeft uint64 `json:"uses_left"`
	}
	if err := c.do(ctx, q, &out); err != nil {
		return nil, err
	}
	object, err := delegation.Parse(out.Object)
	if err != nil {
		return nil, badAnswer(op, "%v", err)
	}
	d := delegation.Digest(out.Object)
	switch {
	case name != object.ID && name != delegation.Text(d):
		return nil, badAnswer(op, "delegation %s of digest %s, asked for %q", object.ID, delegation.Text(d), name)
	case out.D != delegation.Text(d) || out.ID != object.ID:
		return nil, badAnswer(op, "it is called %q (%s), the object says %q (%s)", out.ID, out.D, object.ID, delegation.Text(d))
	case object.Broker != c.issuer:
		return nil, badAnswer(op, "it is for broker %q, this is %q", object.Broker, c.issuer)
	}
	return &Delegation{D: d, Object: object, State: printable(out.State), UsesLeft: out.UsesLeft}, nil
}
