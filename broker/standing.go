// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// approval is a delegation with the signatures under it, as the store had them
// at one moment, and what they prove. The rows decide nothing by themselves:
// somebody who can write to the database cannot make a human say yes.
type approval struct {
	row      store.Delegation
	answers  []store.Answer
	people   []store.Approver
	standing delegation.Standing
	err      error // why the signatures prove nothing
}

// readApproval reads what the store has about a delegation.
func readApproval(r *store.Reader, row store.Delegation) (*approval, error) {
	a := &approval{row: row}
	var err error
	if a.answers, err = r.Answers(row.D); err != nil {
		return nil, err
	}
	a.people, err = r.Approvers()
	return a, err
}

// judge verifies every signature from its bytes.
func (a *approval) judge() {
	people, err := trusted(a.people)
	if err != nil {
		a.err = err
		return
	}
	a.standing, a.err = delegation.Verify(a.bundle(), people)
	if a.err == nil && a.standing.D() != a.row.D {
		a.standing, a.err = delegation.Standing{}, errors.New("the stored object has another digest than its row")
	}
}

func (a *approval) bundle() *delegation.Bundle {
	b := &delegation.Bundle{Type: delegation.BundleType, Version: delegation.Version, Object: a.row.Object}
	for _, s := range a.answers {
		b.Answers = append(b.Answers, signedAnswer(s))
	}
	return b
}

func signedAnswer(s store.Answer) delegation.Answer {
	return delegation.Answer{Act: delegation.Act(s.Act), Method: s.Method, Person: delegation.Person{Issuer: s.Issuer, Subject: s.Subject},
		At: uint64(max(0, s.At.Unix())), Statement: s.Statement, Signature: s.Signature}
}

// trusted returns the registered persons with their keys. A key that was
// removed is nobody's: what it signed no longer counts.
func trusted(people []store.Approver) ([]delegation.Approver, error) {
	out := make([]delegation.Approver, 0, len(people))
	for _, p := range people {
		a := delegation.Approver{Person: delegation.Person{Issuer: p.Issuer, Subject: p.Subject}}
		for _, k := range p.Keys {
			if !k.Removed.IsZero() {
				continue
			}
			key, err := delegation.ParseKeyBlob(k.Key)
			if err != nil {
				return nil, fmt.Errorf("registered key %s of %q: %v", k.Fingerprint, p.Subject, err)
			}
			// Answers carry whole seconds.
			a.Keys = append(a.Keys, delegation.Registered{Key: key, After: k.Added.Truncate(time.Second)})
		}
		out = append(out, a)
	}
	return out, nil
}

// same reports whether the store still has what a was judged on.
func (a *approval) same(r *store.Reader) (bool, error) {
	now, err := readApproval(r, a.row)
	if err != nil {
		return false, err
	}
	sameAnswers := slices.EqualFunc(a.answers, now.answers, func(x, y store.Answer) bool {
		return x.Act == y.Act && x.Issuer == y.Issuer && x.Subject == y.Subject && slices.Equal(x.Signature, y.Signature) && slices.Equal(x.Statement, y.Statement)
	})
	samePeople := slices.EqualFunc(a.people, now.people, func(x, y store.Approver) bool {
		return x.Issuer == y.Issuer && x.Subject == y.Subject && slices.EqualFunc(x.Keys, y.Keys, func(k, l store.ApproverKey) bool {
			return slices.Equal(k.Key, l.Key) && k.Added.Equal(l.Added) && k.Removed.Equal(l.Removed)
		})
	})
	return sameAnswers && samePeople, nil
}

// approver returns the answer of the person who delegates, when and how they
// gave it.
func (a *approval) approver() (given delegation.Given, ok bool) {
	o := a.standing.Delegation()
	if o == nil {
		return given, false
	}
	for _, g := range a.standing.Answers() {
		if g.Act == delegation.Approval && g.Person == o.Approver {
			return g, true
		}
	}
	return given, false
}

// acr says how they approved.
func acr(g delegation.Given) string {
	if g.Key.Hardware() {
		return oauth.ACRHardware
	}
	return oauth.ACRKey
}

// refusalOf says why a delegation cannot be used, in the words of the error
// table. An empty reason is no refusal.
func refusalOf(state store.State, early bool) (reason, retry string) {
	switch {
	case early:
		return "delegation_not_begun", oauth.RetryLater
	case state == store.StateRequested:
		return "delegation_not_approved", oauth.RetryLater
	case state == store.StateRefused:
		return "delegation_refused", oauth.RetryNewDelegation
	case state == store.StateRevoked:
		return "delegation_revoked", oauth.RetryNewDelegation
	case state == store.StateExpired:
		return "delegation_expired", oauth.RetryNewDelegation
	case state == store.StateUsed:
		return "delegation_used_up", oauth.RetryNewDelegation
	}
	return "delegation_not_approved", oauth.RetryNewDelegation
}

// ended is what the row alone says against using the delegation: enough to
// refuse, never enough to allow.
func ended(row *store.Delegation, now time.Time) (state store.State, early, is bool) {
	open := row.State == store.StateRequested || row.State == store.StateApproved || row.State == store.StateUsed
	switch {
	case open && !now.Before(row.Expires):
		return store.StateExpired, false, true
	case row.State == store.StateApproved && now.Before(row.NotBefore):
		return row.State, true, true
	case row.State == store.StateApproved:
		return row.State, false, false
	case row.State == store.StateUsed && row.PerInstance:
		return row.State, false, false // an instance that took its use may go on
	}
	return row.State, false, true
}

// findDelegation takes an id or the text of d.
func findDelegation(r *store.Reader, name string) (store.Delegation, error) {
	if d, err := delegation.ParseText(name); err == nil {
		return r.DelegationByD(d)
	}
	return r.Delegation(name)
}

// tagged is how a digest stands in tokens and texts for people.
func tagged(h evidence.Hash) string { return "sha-256:" + h.String() }
