// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/challenge"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// exchange is one token exchange on its way.
type exchange struct {
	now      time.Time
	asked    *oauth.Exchange
	proof    *oauth.Proof // nil: no DPoP header
	approval *approval    // nil: there is no such delegation
	record   record
	decision *decision

	// What will be issued, if the transaction commits.
	life  time.Duration
	jti   string
	left  uint64
	given delegation.Given
}

type tokenAnswer struct {
	Token     string       `json:"access_token"`
	Issued    string       `json:"issued_token_type"`
	Type      string       `json:"token_type"`
	ExpiresIn int64        `json:"expires_in"`
	Refresh   int64        `json:"refresh_after"`
	Details   []oauth.Task `json:"authorization_details"`
	Txn       string       `json:"txn"`
	Receipt   string       `json:"receipt"`
}

// postToken is the token exchange (RFC 8693): form, proof, then everything
// else in one transaction, then the signature.
func (b *Broker) postToken(w http.ResponseWriter, r *http.Request) *oauth.Error {
	form, fault := oauth.ParseForm(w, r)
	if fault != nil {
		b.counters.add("malformed-form")
		return fault
	}
	x := &exchange{now: b.Now()}
	if x.asked, fault = oauth.ParseExchange(form); fault != nil {
		b.counters.add("malformed-exchange")
		return fault
	}
	if headers := r.Header.Values("DPoP"); len(headers) > 0 {
		if x.proof, fault = oauth.ParseProof(headers, r.Method, b.Issuer+oauth.PathToken, x.now); fault != nil {
			b.counters.add("bad-proof")
			return fault
		}
	}
	if fault := b.prepare(r.Context(), x); fault != nil {
		return fault
	}
	if fault := b.decide(r.Context(), x); fault != nil {
		return fault
	}
	answer, fault := b.issue(r.Context(), x)
	if fault != nil {
		return fault
	}
	oauth.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// prepare does before the transaction what takes time: it reads the delegation
// and verifies the signatures under it, at every issuance.
func (b *Broker) prepare(ctx context.Context, x *exchange) *oauth.Error {
	err := b.store.View(ctx, func(r *store.Reader) error {
		if err := r.Ahead(func(r *store.Reader) {
			_, _ = r.DelegationByD(x.asked.D)
			_, _ = readApproval(r, store.Delegation{D: x.asked.D})
		}); err != nil {
			return err
		}
		row, err := r.DelegationByD(x.asked.D)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			x.approval, err = readApproval(r, row)
		}
		return err
	})
	if err != nil {
		return b.unwritable("looking up a delegation", err)
	}
	if x.approval != nil {
		x.approval.judge()
	}
	if x.jti, _, err = b.secret(); err != nil {
		return b.unwritable("reading randomness", err)
	}
	return nil
}

// decide spends the reference and settles the exchange in one transaction:
// either use, token record and entry are all there, or a refusal is logged and
// the reference is gone all the same, or nothing happened.
func (b *Broker) decide(ctx context.Context, x *exchange) *oauth.Error {
	var refusal *oauth.Error
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		refusal = nil
		row, err := tx.TakeEvidence(secretDigest(x.asked.Ref), x.now)
		if err != nil && !errors.Is(err, store.ErrExpired) {
			return err
		}
		stale := err != nil
		x.record = record{}
		if err := json.Unmarshal(row.Appraisal, &x.record); err != nil {
			return err
		}
		if x.proof != nil && !stale {
			if fault := b.live(x.record.Host, x.proof.Nonce, x.now); fault != nil {
				return fault // rolls back: the reference is still good
			}
		}
		x.decision = b.newDecision(audit.TypeDecision, "allow")
		x.decision.entry.PrevTxn = row.Txn
		x.record.describe(x.decision)
		refusal, err = b.settle(tx, x, stale)
		if err != nil || refusal == nil {
			return err
		}
		x.decision.entry.Decision, x.decision.why.Decision = "deny", "deny"
		b.present(x.decision, refusal)
		if !b.mayLog(x.decision) {
			refusal.Txn, refusal.URI = "", ""
			return nil
		}
		return b.append(tx, x.decision)
	})
	var fault *oauth.Error
	switch {
	case errors.As(err, &fault):
		return fault
	case errors.Is(err, store.ErrNotFound):
		b.counters.add("unknown-reference")
		e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNow, "actor_token is unknown or was used")
		e.Reason = "evidence_unknown"
		return e
	case err != nil:
		return b.unwritable("deciding a token exchange", err)
	}
	return refusal
}

// live asks for a proof with a nonce of this broker for this host, in time.
func (b *Broker) live(host, nonce string, now time.Time) *oauth.Error {
	raw, err := challenge.ParseText(nonce)
	if err == nil {
		_, err = b.challenges.Check(host, raw, now)
	}
	if err == nil {
		return nil
	}
	fresh, err := b.challenges.Make(host, now)
	if err != nil {
		return b.unwritable("making a challenge", err)
	}
	e := oauth.Refuse(oauth.UseNonce, oauth.RetryNow, "the DPoP proof's nonce is no live challenge of this host")
	e.Nonce = challenge.Text(fresh)
	return e
}

// issue signs what was committed. If this fails there is an entry without a
// token, never a token without its entry; the use is lost.
func (b *Broker) issue(ctx context.Context, x *exchange) (*tokenAnswer, *oauth.Error) {
	r, e := &x.record, &x.decision.entry
	o := x.approval.standing.Delegation()
	var receipt []byte
	leaf, err := e.Marshal()
	if err == nil {
		err = b.store.View(ctx, func(s *store.Reader) (err error) {
			receipt, err = s.Receipt(x.decision.index)
			return err
		})
	}
	if err != nil {
		return nil, b.unwritable("reading a receipt", err)
	}
	claims := &oauth.Claims{
		Issuer: b.Issuer, Audience: r.Audience, Subject: b.pairwiseName(o.Approver, r.Audience), ClientID: r.Workload, ID: x.jti, Txn: e.Txn,
		IssuedAt: x.now.Unix(), Expires: x.now.Add(x.life).Unix(), AuthTime: x.given.At.Unix(), ACR: acr(x.given),
		Actor:      oauth.Actor{Issuer: b.Issuer, Subject: r.Workload, Instance: r.Instance, Host: r.Host},
		Details:    []oauth.Task{{Type: evidence.TaskType, Purpose: o.Purpose, Actions: r.Actions, Datatypes: r.Datatypes, Locations: []string{r.Audience}}},
		Delegation: oauth.Delegation{ID: r.ID, D: tagged(r.D), UsesLeft: x.left, Expires: int64(o.Expires)},
		Evidence:   oauth.Evidence{Digest: tagged(r.Digest), Status: map[string]int8{}, Level: r.Level, Age: int64(x.now.Sub(r.Asked) / time.Second)},
		Log:        oauth.LogEntry{Origin: b.log.Origin(), Index: x.decision.index, Leaf: tagged(evidence.LeafHash(leaf))},
		KeyEpoch:   oauth.KeyEpoch,
	}
	for attestor, claim := range r.Vector {
		claims.Evidence.Status[string(attestor)] = int8(claim)
	}
	kind := oauth.Bearer
	if r.Method == evidence.ConfirmJKT {
		kind, claims.Confirm = oauth.DPoP, &oauth.Confirm{JKT: base64.RawURLEncoding.EncodeToString(r.Key)}
	}
	token, err := b.signer.Sign(claims)
	if err != nil {
		return nil, b.unwritable("signing a token", err)
	}
	b.Log.Info("issued", "txn", e.Txn, "agent", e.Agent, "host", e.Host, "audience", e.Audience, "delegation", r.ID, "index", x.decision.index, "life", x.life)
	seconds := int64(x.life / time.Second)
	return &tokenAnswer{Token: token, Issued: oauth.TypeAccessToken, Type: kind, ExpiresIn: seconds, Refresh: seconds * 4 / 5,
		Details: claims.Details, Txn: e.Txn, Receipt: string(receipt)}, nil
}

// pairwiseName is what a person is called at one audience, and nowhere else.
//
//	sub = "p_" || base64url(HMAC-SHA256(salt, issuer || "|" || name || "|" || audience))
func (b *Broker) pairwiseName(p delegation.Person, audience string) string {
	m := hmac.New(sha256.New, b.pairwise)
	m.Write([]byte(p.Issuer + "|" + p.Subject + "|" + audience))
	return "p_" + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
