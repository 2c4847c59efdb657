// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

// introspection is what a resource server is told of a good token.
type introspection struct {
	Active bool   `json:"active"`
	Type   string `json:"token_type"`
	*oauth.Claims
}

// inactive is the one answer about every token that is not good, not known or
// none of the asker's business.
var inactive = struct {
	Active bool `json:"active"`
}{}

// postIntrospect answers a resource server (RFC 7662) about tokens for its own
// audience, as things stand at this moment.
func (b *Broker) postIntrospect(w http.ResponseWriter, r *http.Request) *oauth.Error {
	resource, fault := b.resource(r)
	if fault != nil {
		return fault
	}
	form, fault := oauth.ParseForm(w, r)
	if fault != nil {
		return fault
	}
	if form["token"] == "" {
		return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "token is missing")
	}
	claims, err := b.signer.Parse(form["token"])
	if err != nil || claims.Audience != resource.Audience {
		oauth.WriteJSON(w, http.StatusOK, inactive)
		return nil
	}
	good, err := b.active(r.Context(), claims, b.Now())
	if err != nil {
		return b.unwritable("looking up a token", err)
	}
	if !good {
		oauth.WriteJSON(w, http.StatusOK, inactive)
		return nil
	}
	kind := oauth.DPoP
	if claims.Confirm == nil {
		kind = oauth.Bearer
	}
	oauth.WriteJSON(w, http.StatusOK, introspection{Active: true, Type: kind, Claims: claims})
	return nil
}

// resource authenticates a resource server. An unknown one takes as long as a
// wrong secret.
func (b *Broker) resource(r *http.Request) (*store.Resource, *oauth.Error) {
	refusal := &oauth.Error{Status: http.StatusUnauthorized, Code: oauth.InvalidClient, Retry: oauth.RetryOperator, Description: "unknown resource or wrong secret"}
	id, secret, ok := oauth.ParseBasic(r)
	if !ok {
		return nil, refusal
	}
	var resource store.Resource
	err := b.store.View(r.Context(), func(s *store.Reader) (err error) {
		resource, err = s.Resource(id)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, b.unwritable("looking up a resource", err)
	}
	given := secretDigest(secret)
	right := subtle.ConstantTimeCompare(given[:], resource.Secret[:]) == 1
	if err != nil || !right || resource.Secret.IsZero() {
		b.counters.add("resource-secret")
		return nil, refusal
	}
	return &resource, nil
}

// active reports whether a token with our signature is good now: in time, in
// our log's books, not revoked, its host enrolled and in the same epoch, its delegation not ended.
func (b *Broker) active(ctx context.Context, c *oauth.Claims, now time.Time) (bool, error) {
	if c.Issuer != b.Issuer || c.KeyEpoch < oauth.KeyEpoch || now.Unix() >= c.Expires {
		return false, nil
	}
	good := false
	err := b.store.View(ctx, func(r *store.Reader) error {
		token, err := r.Token(secretDigest(c.ID))
		if err != nil || !token.Revoked.IsZero() || !now.Before(token.Expires) || token.Audience != c.Audience || token.Txn != c.Txn {
			return err
		}
		host, err := r.HostByID(token.Host)
		if err != nil || host.Last.Epoch != token.Epoch {
			return err
		}
		row, err := r.Delegation(token.Delegation)
		if err != nil {
			return err
		}
		// Used up is no end: the last use is this very token.
		good = (row.State == store.StateApproved || row.State == store.StateUsed) && now.Before(row.Expires)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return good && err == nil, err
}

// postRevoke ends a token early (RFC 7009). The right to do so is shown by a
// proof with the token's own key; of a bearer token, by having it.
func (b *Broker) postRevoke(w http.ResponseWriter, r *http.Request) *oauth.Error {
	form, fault := oauth.ParseForm(w, r)
	if fault != nil {
		return fault
	}
	if form["token"] == "" {
		return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "token is missing")
	}
	now := b.Now()
	claims, err := b.signer.Parse(form["token"])
	if err != nil || claims.Issuer != b.Issuer {
		return gone(w) // RFC 7009 section 2.2: what is not there is gone already
	}
	var proof *oauth.Proof
	if claims.Confirm != nil {
		if proof, fault = oauth.ParseProof(r.Header.Values("DPoP"), r.Method, b.Issuer+oauth.PathRevoke, now); fault != nil {
			return fault
		}
		if base64.RawURLEncoding.EncodeToString(proof.Thumbprint[:]) != claims.Confirm.JKT ||
			proof.TokenHash != "" && proof.TokenHash != oauth.TokenHash(form["token"]) {
			return oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: not by the token's own key")
		}
	}
	err = b.revokeToken(r.Context(), claims, proof, now)
	switch {
	case errors.Is(err, store.ErrReplay):
		return oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: used before")
	case errors.Is(err, store.ErrNotFound):
		return gone(w)
	case err != nil:
		return b.unwritable("revoking a token", err)
	}
	return gone(w)
}

func gone(w http.ResponseWriter) *oauth.Error {
	oauth.WriteJSON(w, http.StatusOK, struct{}{})
	return nil
}

func (b *Broker) revokeToken(ctx context.Context, c *oauth.Claims, proof *oauth.Proof, now time.Time) error {
	d := b.newDecision(audit.TypeRevocation, "token")
	jti := secretDigest(c.ID)
	d.entry.Agent, d.entry.Host, d.entry.Instance, d.entry.Audience = c.ClientID, c.Actor.Host, c.Actor.Instance, c.Audience
	d.entry.DelegationID, d.entry.JTI, d.entry.PrevTxn = c.Delegation.ID, digestBytes(jti), c.Txn
	d.why.Title = "a token was revoked by its own key"
	return b.store.Update(ctx, func(tx *store.Tx) error {
		if proof != nil {
			if err := tx.Once(store.SpaceProof, evidence.Hash(proof.Key()), now.Add(oauth.ProofPast+oauth.ProofFuture+time.Minute)); err != nil {
				return err
			}
		}
		if err := tx.RevokeToken(jti, now); err != nil {
			return err
		}
		return b.append(tx, d)
	})
}
