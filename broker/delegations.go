// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
)

type delegationView struct {
	ID        string                 `json:"id"`
	D         string                 `json:"d"`
	Object    []byte                 `json:"object"`
	Read      *delegation.Delegation `json:"delegation"`
	State     store.State            `json:"state"`
	UsesLeft  uint64                 `json:"uses_left"`
	Approvals []answerView           `json:"approvals"`
}

type answerView struct {
	Act       string `json:"act"`
	Person    string `json:"person"`
	Key       string `json:"key"`
	At        string `json:"at"`
	Signature []byte `json:"signature"`
	Statement []byte `json:"statement"`
}

// view shows a delegation with everything that was signed about it.
func (a *approval) view(now time.Time) (*delegationView, error) {
	o, err := delegation.Parse(a.row.Object)
	if err != nil {
		return nil, fmt.Errorf("delegation %s: %v", a.row.ID, err)
	}
	v := &delegationView{ID: a.row.ID, D: delegation.Text(a.row.D), Object: a.row.Object, Read: o, State: a.row.State, UsesLeft: a.row.UsesLeft, Approvals: []answerView{}}
	if state, early, is := ended(&a.row, now); is && !early {
		v.State = state
	}
	for _, s := range a.answers {
		shown := answerView{Act: s.Act, Person: s.Subject, At: rfc3339(s.At), Signature: s.Signature, Statement: s.Statement}
		if key, err := delegation.ParseKeyBlob(s.Key); err == nil {
			shown.Key = key.Fingerprint()
		}
		v.Approvals = append(v.Approvals, shown)
	}
	return v, nil
}

// getDelegation shows one to whoever knows its id or d, which are random.
func (b *Broker) getDelegation(w http.ResponseWriter, r *http.Request) *oauth.Error {
	view, err := b.delegationView(r.Context(), r.PathValue("id"))
	if err != nil {
		return b.found("looking up a delegation", err)
	}
	oauth.WriteJSON(w, http.StatusOK, view)
	return nil
}

func (b *Broker) delegationView(ctx context.Context, name string) (view *delegationView, err error) {
	err = b.store.View(ctx, func(s *store.Reader) error {
		row, err := findDelegation(s, name)
		if err != nil {
			return err
		}
		a, err := readApproval(s, row)
		if err != nil {
			return err
		}
		view, err = a.view(b.Now())
		return err
	})
	return view, err
}

func (b *Broker) postApprove(w http.ResponseWriter, r *http.Request) *oauth.Error {
	return b.answer(w, r, delegation.Approval)
}

func (b *Broker) postRefuse(w http.ResponseWriter, r *http.Request) *oauth.Error {
	return b.answer(w, r, delegation.Refusal)
}

func (b *Broker) postRevocation(w http.ResponseWriter, r *http.Request) *oauth.Error {
	return b.answer(w, r, delegation.Revocation)
}

type answerRequest struct {
	Signature string `json:"signature"`
	Statement []byte `json:"statement"`
}

// answer takes what a person signed about a delegation. The signature is the
// authentication; it is kept byte for byte and verified again whenever the
// delegation is used.
func (b *Broker) answer(w http.ResponseWriter, r *http.Request, act delegation.Act) *oauth.Error {
	var in answerRequest
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	sig, err := delegation.ParseArmored([]byte(in.Signature))
	if err != nil {
		return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, "%v", err)
	}
	now := b.Now().Truncate(time.Second)
	var a *approval
	err = b.store.View(r.Context(), func(s *store.Reader) error {
		row, err := findDelegation(s, r.PathValue("id"))
		if err == nil {
			a, err = readApproval(s, row)
		}
		return err
	})
	if err != nil {
		return b.found("looking up a delegation", err)
	}
	given, fault := judgeAnswer(a, act, sig, in.Statement, now)
	if fault != nil {
		b.counters.add("answer-signature")
		return fault
	}
	err = b.keepAnswer(r.Context(), a, given, now)
	var conflict *notNow
	var refused *oauth.Error
	switch {
	case errors.As(err, &conflict):
		return &oauth.Error{Status: http.StatusConflict, Code: oauth.Conflict, Retry: oauth.RetryNever, Description: conflict.Error()}
	case errors.As(err, &refused):
		return refused
	case err != nil:
		return b.unwritable("keeping an answer", err)
	}
	return b.getDelegation(w, r)
}

// judgeAnswer returns the answer in the form it is kept in, if its signature
// is one of a person who may give it.
func judgeAnswer(a *approval, act delegation.Act, sig *delegation.Signature, statement []byte, now time.Time) (*store.Answer, *oauth.Error) {
	people, err := trusted(a.people)
	if err != nil {
		return nil, refusedAnswer(err)
	}
	person, ok := owner(people, sig.Key())
	if !ok {
		return nil, refusedAnswer(errors.New("the key is not registered for anybody"))
	}
	answer := &store.Answer{D: a.row.D, Act: string(act), Issuer: person.Issuer, Subject: person.Subject, Method: delegation.MethodSSH,
		Statement: statement, Signature: sig.Blob(), Key: sig.Key().Marshal(), At: now}
	if _, err := delegation.VerifyAnswer(a.row.Object, signedAnswer(*answer), people); err != nil {
		return nil, refusedAnswer(err)
	}
	return answer, nil
}

func refusedAnswer(err error) *oauth.Error {
	return &oauth.Error{Status: http.StatusForbidden, Code: oauth.Forbidden, Retry: oauth.RetryNever, Description: err.Error()}
}

func owner(people []delegation.Approver, key delegation.Key) (delegation.Person, bool) {
	for _, p := range people {
		for _, k := range p.Keys {
			if k.Key.Equal(key) {
				return p.Person, true
			}
		}
	}
	return delegation.Person{}, false
}

// notNow says that an answer comes too late, or a second time.
type notNow struct{ why string }

func (e *notNow) Error() string { return e.why }

// keepAnswer stores an answer and what it does to the delegation, with the
// entry that says so. All signatures are judged together, the new one with
// them, before anything moves.
func (b *Broker) keepAnswer(ctx context.Context, a *approval, answer *store.Answer, now time.Time) error {
	d := b.newDecision(answer.Act, answer.Act)
	sum := sha256.Sum256(answer.Signature)
	d.entry.DelegationID, d.entry.D, d.entry.Agent, d.entry.Material = a.row.ID, digestBytes(a.row.D), a.row.Workload, sum[:]
	d.why.Title = answer.Act + " of a delegation"
	return b.store.Update(ctx, func(tx *store.Tx) error {
		row, err := tx.Delegation(a.row.ID)
		if err != nil {
			return err
		}
		if state, early, is := ended(&row, now); is && !early && !mayAnswer(delegation.Act(answer.Act), state) {
			return &notNow{"the delegation is " + string(state)}
		}
		if row.State != store.StateRequested && answer.Act != string(delegation.Revocation) {
			return &notNow{"the delegation is " + string(row.State)}
		}
		if err := tx.AddAnswer(*answer); errors.Is(err, store.ErrExists) {
			return &notNow{"this person gave this answer already"}
		} else if err != nil {
			return err
		}
		whole, err := readApproval(&tx.Reader, row)
		if err != nil {
			return err
		}
		if whole.judge(); whole.err == nil {
			err = move(tx, &row, whole.standing, now)
		} else if answer.Act == string(delegation.Revocation) && answer.Issuer == row.Issuer && answer.Subject == row.Subject {
			// Whatever else is wrong with it: who gave it may take it back.
			err = tx.MoveDelegation(row.ID, row.State, store.StateRevoked, now)
		} else {
			err = refusedAnswer(whole.err)
		}
		if err != nil {
			return err
		}
		if d.entry.Human, err = pseudonym(tx, delegation.Person{Issuer: answer.Issuer, Subject: answer.Subject}); err != nil {
			return err
		}
		return b.append(tx, d)
	})
}

// mayAnswer reports whether an answer of that kind still makes sense.
func mayAnswer(act delegation.Act, state store.State) bool {
	switch act {
	case delegation.Revocation:
		return state == store.StateRequested || state == store.StateApproved || state == store.StateUsed
	default:
		return state == store.StateRequested
	}
}

// move gives the row the state that the signatures prove.
func move(tx *store.Tx, row *store.Delegation, s delegation.Standing, now time.Time) error {
	to, ok := map[delegation.State]store.State{
		delegation.Approved: store.StateApproved, delegation.Early: store.StateApproved,
		delegation.Refused: store.StateRefused, delegation.Revoked: store.StateRevoked,
	}[s.At(now)]
	if !ok || to == row.State {
		return nil // not all who must approve have
	}
	return tx.MoveDelegation(row.ID, row.State, to, now)
}
