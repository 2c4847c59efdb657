// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// no refuses an exchange because of one check.
func (x *exchange) no(e *oauth.Error, attestor, check string, expected, observed []string) *oauth.Error {
	x.decision.fail(station{Number: 9, Attestor: attestor, Check: check, Expected: expected, Observed: observed})
	return e
}

// settle is the decision itself. A refusal is committed with its entry; an
// error takes everything back.
func (b *Broker) settle(tx *store.Tx, x *exchange, stale bool) (*oauth.Error, error) {
	if stale {
		return x.stale("reference", "one of at most "+referenceLife.String(), "an older one"), nil
	}
	if err := tx.Ahead(x.reads); err != nil {
		return nil, err
	}
	if refusal, err := sameEpoch(tx, x); refusal != nil || err != nil {
		return refusal, err
	}
	if refusal, err := b.bound(tx, x); refusal != nil || err != nil {
		return refusal, err
	}
	if !x.record.Known || x.approval == nil {
		e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNewDelegation, "there is no such delegation")
		e.Reason = "delegation_unknown"
		return e, nil
	}
	if !x.record.OK {
		return &oauth.Error{Status: http.StatusBadRequest, Code: oauth.InvalidRequest, Retry: oauth.RetryAfterChange}, nil
	}
	if refusal, err := b.unchanged(tx, x); refusal != nil || err != nil {
		return refusal, err
	}
	if refusal, err := b.approved(tx, x); refusal != nil || err != nil {
		return refusal, err
	}
	return b.spend(tx, x)
}

// reads is what settling reads, to be fetched at once.
func (x *exchange) reads(r *store.Reader) {
	_, _ = r.HostByID(x.record.Host)
	_, _ = r.Document(store.KindWorkload, x.record.Workload)
	_, _ = r.Document(store.KindMachine, x.record.Documents.Machine)
	if x.approval != nil {
		_, _ = readApproval(r, x.approval.row)
		_, _ = r.Delegation(x.approval.row.ID)
		if o := x.approval.standing.Delegation(); o != nil {
			_, _ = r.Approver(o.Approver.Issuer, o.Approver.Subject)
		}
	}
}

func (x *exchange) stale(check, expected, observed string) *oauth.Error {
	e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNow, "the evidence is too old")
	e.Reason = "evidence_stale"
	return x.no(e, attestorRequest, check, []string{expected}, []string{observed})
}

// bound holds the exchange against the quoted request: key, delegation,
// audience and task. Evidence made for one thing buys nothing else.
func (b *Broker) bound(tx *store.Tx, x *exchange) (*oauth.Error, error) {
	r := &x.record
	switch r.Method {
	case evidence.ConfirmJKT:
		if x.proof == nil {
			return x.no(oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: missing"), attestorRequest, "dpop-proof", []string{"a proof"}, []string{"none"}), nil
		}
		if !hmac.Equal(x.proof.Thumbprint[:], r.Key) {
			return x.no(oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: not by the key that the evidence was made for"), attestorRequest, "dpop-key",
				[]string{base64.RawURLEncoding.EncodeToString(r.Key)}, []string{base64.RawURLEncoding.EncodeToString(x.proof.Thumbprint[:])}), nil
		}
		err := tx.Once(store.SpaceProof, x.proof.Key(), x.now.Add(oauth.ProofPast+oauth.ProofFuture+time.Minute))
		if errors.Is(err, store.ErrReplay) {
			return x.no(oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: used before"), attestorRequest, "dpop-replay", []string{"a new jti"}, []string{"one used before"}), nil
		}
		if err != nil {
			return nil, err
		}
	case evidence.ConfirmBearer:
		if x.proof != nil {
			return x.no(oauth.Refuse(oauth.InvalidProof, oauth.RetryNever, "DPoP proof: the evidence was made for a bearer token"), attestorRequest, "dpop-key", []string{"no proof"}, []string{"a proof"}), nil
		}
		if r.OK && !r.Bearer {
			return x.no(oauth.Refuse(oauth.InvalidRequest, oauth.RetryAfterChange, "this workload may not have bearer tokens"), attestorRequest, "bearer",
				[]string{"a key, as the registration does not say bearer: true"}, []string{"none"}), nil
		}
	default:
		return x.no(oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "this broker binds tokens to DPoP keys only"), attestorRequest, "confirmation", []string{evidence.ConfirmJKT}, []string{r.Method}), nil
	}
	if x.asked.D != r.D {
		e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "subject_token is not the delegation that the evidence was made for")
		e.Reason = "delegation_mismatch"
		return x.no(e, attestorRequest, "delegation", []string{delegation.Text(r.D)}, []string{delegation.Text(x.asked.D)}), nil
	}
	if x.asked.Audience != r.Audience {
		return x.no(oauth.Refuse(oauth.InvalidTarget, oauth.RetryNever, "audience is not the one that the evidence was made for"), attestorRequest, "audience",
			[]string{r.Audience}, []string{x.asked.Audience}), nil
	}
	if !slices.Equal(x.asked.Task.Actions, r.Actions) || !slices.Equal(x.asked.Task.Datatypes, r.Datatypes) {
		return x.no(oauth.Refuse(oauth.InvalidDetails, oauth.RetryNever, "authorization_details are not those that the evidence was made for"), attestorRequest, "task",
			slices.Concat(r.Actions, r.Datatypes), slices.Concat(x.asked.Task.Actions, x.asked.Task.Datatypes)), nil
	}
	return nil, nil
}

// unchanged wants the registrations to be those the appraisal was made with.
func (b *Broker) unchanged(tx *store.Tx, x *exchange) (*oauth.Error, error) {
	d := &x.record.Documents
	for _, doc := range []struct {
		kind, name string
		want       evidence.Hash
	}{{store.KindWorkload, x.record.Workload, d.Workload}, {store.KindMachine, d.Machine, d.Boot}} {
		have, err := tx.Document(doc.kind, doc.name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if have.Digest != doc.want {
			return x.stale("registration", doc.kind+" "+tagged(doc.want), tagged(have.Digest)), nil
		}
	}
	return nil, nil
}

// approved wants the human's yes, from the signed bytes, and the task to be
// within it.
func (b *Broker) approved(tx *store.Tx, x *exchange) (*oauth.Error, error) {
	a := x.approval
	if same, err := a.same(&tx.Reader); err != nil {
		return nil, err
	} else if !same {
		return x.stale("approval", "what was read a moment ago", "something else"), nil
	}
	row, err := tx.Delegation(a.row.ID)
	if err != nil {
		return nil, err
	}
	if state, early, is := ended(&row, x.now); is {
		return x.unusable(state, early), nil
	}
	o := a.standing.Delegation()
	given, ok := a.approver()
	state := a.standing.At(x.now)
	if a.err != nil || !ok || state != delegation.Approved || !agrees(&row, o) {
		observed := "standing by its signatures: " + string(state)
		if a.err != nil {
			observed = a.err.Error()
		} else if !agrees(&row, o) {
			observed = "a row that allows more than was signed"
		}
		e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNewDelegation, "the delegation is not approved")
		e.Reason = "delegation_not_approved"
		return x.no(e, attestorDelegation, "approval", []string{"the approver's signature over it, by a key registered for them"}, []string{observed}), nil
	}
	x.given = given
	if o.Broker != b.Issuer || o.Workload.ID != x.record.Workload {
		e := oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "the delegation is for another broker or workload")
		e.Reason = "delegation_mismatch"
		return x.no(e, attestorDelegation, "parties", []string{o.Broker, o.Workload.ID}, []string{b.Issuer, x.record.Workload}), nil
	}
	if err := o.Allows(x.record.Audience, x.record.Actions, x.record.Datatypes); err != nil {
		var excess *delegation.Excess
		if errors.As(err, &excess) && excess.Field == "audience" {
			return x.no(oauth.Refuse(oauth.InvalidTarget, oauth.RetryNever, "audience is not the delegated one"), attestorDelegation, "audience", []string{o.Audience}, []string{x.record.Audience}), nil
		}
		return x.no(oauth.Refuse(oauth.InvalidDetails, oauth.RetryNever, "more than was approved"), attestorDelegation, "task",
			slices.Concat(o.Actions, o.Limits.Datatypes), slices.Concat(x.record.Actions, x.record.Datatypes)), nil
	}
	return nil, nil
}

// agrees reports whether the columns that are counted with say no more than
// the signed object.
func agrees(row *store.Delegation, o *delegation.Delegation) bool {
	return row.ID == o.ID && row.UsesLeft <= o.Uses && row.PerInstance == (o.Limits.Per == delegation.PerInstance)
}

func (x *exchange) unusable(state store.State, early bool) *oauth.Error {
	reason, retry := refusalOf(state, early)
	e := oauth.Refuse(oauth.InvalidRequest, retry, "the delegation cannot be used: %s", reason)
	e.Reason = reason
	observed := string(state)
	if early {
		observed += ", begins later"
	}
	return x.no(e, attestorDelegation, "state", []string{"approved, begun, not over, a use left"}, []string{observed})
}

// spend takes one use and writes down the token that will be signed.
func (b *Broker) spend(tx *store.Tx, x *exchange) (*oauth.Error, error) {
	r := &x.record
	o := x.approval.standing.Delegation()
	human, err := pseudonym(tx, o.Approver)
	if err != nil {
		return nil, err
	}
	left, err := tx.UseDelegation(r.ID, r.Host+" "+r.Instance, x.now)
	var unusable *store.Unusable
	if errors.As(err, &unusable) {
		return x.unusable(unusable.State, unusable.Early), nil
	}
	if err != nil {
		return nil, err
	}
	x.left = left
	x.life = lifetime(r, o, x.now)
	jti := secretDigest(x.jti)
	x.decision.entry.JTI = digestBytes(jti)
	x.decision.entry.Human = human
	x.decision.why.Title, x.decision.why.Type = "a token was issued", "https://jurat.dev/problems/none"
	err = tx.AddToken(store.Token{
		JTI: jti, Txn: x.decision.entry.Txn, Delegation: r.ID, Workload: r.Workload, Host: r.Host, Epoch: r.Epoch, Instance: r.Instance, Audience: r.Audience,
		Thumbprint: r.Key, Issued: x.now, Expires: x.now.Add(x.life),
	})
	if err != nil {
		return nil, err
	}
	return nil, b.append(tx, x.decision)
}

// pseudonym is how the person stands in the log.
func pseudonym(tx *store.Tx, p delegation.Person) (evidence.Bytes, error) {
	person, err := tx.Approver(p.Issuer, p.Subject)
	if err != nil {
		return nil, err
	}
	return audit.Pseudonym(person.Salt, p.Issuer, p.Subject)
}

// lifetime is the shortest that anybody asked for, in whole seconds, at least one.
func lifetime(r *record, o *delegation.Delegation, now time.Time) time.Duration {
	life := tokenLife
	if r.Method == evidence.ConfirmBearer {
		life = bearerLife
	}
	if r.Lifetime > 0 {
		life = min(life, time.Duration(r.Lifetime)*time.Second)
	}
	if o.Limits.Credential > 0 {
		life = min(life, time.Duration(o.Limits.Credential)*time.Second)
	}
	return min(life, time.Duration(int64(o.Expires)-now.Unix())*time.Second)
}
