// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// AddDelegation keeps a delegation that was asked for.
func (tx *Tx) AddDelegation(d Delegation) error {
	if d.ID == "" || d.D.IsZero() || len(d.Object) == 0 || d.State != StateRequested {
		return errors.New("delegation without an object, or not as requested")
	}
	if err := checkCounts(d.UsesLeft); err != nil {
		return err
	}
	return moved(tx.c, ErrExists, `INSERT INTO delegation (id, d, object, workload, issuer, subject, state, per_instance, uses_left, not_before, expires, requested, updated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12) ON CONFLICT DO NOTHING`,
		d.ID, d.D[:], d.Object, d.Workload, d.Issuer, d.Subject, string(d.State), truth(d.PerInstance), count(d.UsesLeft),
		millis(d.NotBefore), millis(d.Expires), millis(d.Requested))
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

const delegationColumns = `id, d, object, workload, issuer, subject, state, per_instance, uses_left, not_before, expires, requested, updated`

func scanDelegation(scan func(...any) error) (Delegation, error) {
	var d Delegation
	var state string
	var per int64
	err := scan(&d.ID, digest{&d.D}, &d.Object, &d.Workload, &d.Issuer, &d.Subject, &state, &per, counter{&d.UsesLeft},
		instant{&d.NotBefore}, instant{&d.Expires}, instant{&d.Requested}, instant{&d.Updated})
	d.State, d.PerInstance = State(state), per != 0
	return d, err
}

func (r *Reader) delegation(where string, arg any) (Delegation, error) {
	found, err := all(r.c, scanDelegation, `SELECT `+delegationColumns+` FROM delegation `+where, arg)
	if err != nil {
		return Delegation{}, err
	}
	if len(found) == 0 {
		return Delegation{}, ErrNotFound
	}
	return found[0], nil
}

// Delegation returns the delegation with the id.
func (r *Reader) Delegation(id string) (Delegation, error) { return r.delegation(`WHERE id = $1`, id) }

// DelegationByD returns the delegation with the content hash.
func (r *Reader) DelegationByD(d evidence.Hash) (Delegation, error) {
	return r.delegation(`WHERE d = $1`, d[:])
}

// Delegations returns at most limit delegations, the newest first.
func (r *Reader) Delegations(limit int) ([]Delegation, error) {
	return all(r.c, scanDelegation, `SELECT `+delegationColumns+` FROM delegation ORDER BY requested DESC, id LIMIT $1`, limit)
}

// OpenRequests returns how many delegations wait for the person's answer.
func (r *Reader) OpenRequests(issuer, subject string, now time.Time) (int, error) {
	var n uint64
	err := one(r.c, []any{counter{&n}}, `SELECT COUNT(*) FROM delegation WHERE issuer = $1 AND subject = $2 AND state = 'requested' AND expires > $3`,
		issuer, subject, millis(now))
	return int(n), err
}

// AddAnswer keeps what a person signed. One answer of a kind for each person
// and delegation: it returns [ErrExists] for the second.
func (tx *Tx) AddAnswer(a Answer) error {
	if a.Act == "" || a.Issuer == "" || a.Subject == "" || len(a.Signature) == 0 || len(a.Key) == 0 {
		return errors.New("answer without a person, a key or a signature")
	}
	return moved(tx.c, ErrExists, `INSERT INTO answer (d, act, issuer, subject, method, statement, signature, key, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
		a.D[:], a.Act, a.Issuer, a.Subject, a.Method, bytesOf(a.Statement), a.Signature, a.Key, millis(a.At))
}

// Answers returns what was signed about a delegation, the oldest first.
func (r *Reader) Answers(d evidence.Hash) ([]Answer, error) {
	return all(r.c, func(scan func(...any) error) (a Answer, err error) {
		return a, scan(digest{&a.D}, &a.Act, &a.Issuer, &a.Subject, &a.Method, optional{&a.Statement}, &a.Signature, &a.Key, instant{&a.At})
	}, `SELECT d, act, issuer, subject, method, statement, signature, key, at FROM answer WHERE d = $1 ORDER BY at, act, issuer, subject`, d[:])
}

// moves lists what a state may become; see [State].
var moves = map[State][]State{
	StateRequested: {StateApproved, StateRefused, StateRevoked, StateExpired},
	StateApproved:  {StateUsed, StateRevoked, StateExpired},
	StateUsed:      {StateRevoked, StateExpired},
}

// MoveDelegation changes the state of a delegation. It returns [ErrStale] if
// the state is not from any more. Revoking also revokes its credentials.
func (tx *Tx) MoveDelegation(id string, from, to State, at time.Time) error {
	if !slices.Contains(moves[from], to) {
		return fmt.Errorf("a delegation cannot go from %s to %s", from, to)
	}
	err := moved(tx.c, ErrStale, `UPDATE delegation SET state = $1, updated = $2 WHERE id = $3 AND state = $4`, string(to), millis(at), id, string(from))
	if err == nil && to == StateRevoked {
		_, err = tx.RevokeDelegation(id, at)
	}
	return err
}

// UseDelegation takes one use, if the delegation is approved, has begun, is
// not over and has one left; it returns how many are left then. Where a use is
// a process instance, an instance that has taken its use goes on for nothing
// until the delegation ends. Otherwise the error is *[Unusable], or
// [ErrNotFound].
func (tx *Tx) UseDelegation(id, instance string, now time.Time) (left uint64, err error) {
	at := millis(now)
	err = one(tx.c, []any{counter{&left}}, `UPDATE delegation SET uses_left = uses_left - 1, updated = $2,
		state = CASE WHEN uses_left = 1 THEN 'used' ELSE state END
		WHERE id = $1 AND state = 'approved' AND uses_left > 0 AND not_before <= $2 AND expires > $2
		AND (per_instance = 0 OR NOT EXISTS (SELECT 1 FROM delegation_use u WHERE u.delegation = $1 AND u.instance = $3))
		RETURNING uses_left`, id, at, instance)
	if err == nil {
		_, err = tx.c.Exec(`INSERT INTO delegation_use (delegation, instance, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, id, instance, at)
		return left, err
	}
	if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	err = one(tx.c, []any{counter{&left}}, `SELECT uses_left FROM delegation WHERE id = $1 AND per_instance = 1
		AND state IN ('approved', 'used') AND not_before <= $2 AND expires > $2
		AND EXISTS (SELECT 1 FROM delegation_use u WHERE u.delegation = $1 AND u.instance = $3)`, id, at, instance)
	if errors.Is(err, ErrNotFound) {
		return 0, tx.unusable(id, now)
	}
	return left, err
}

// unusable says why no row moved.
func (r *Reader) unusable(id string, now time.Time) error {
	d, err := r.Delegation(id)
	if err != nil {
		return err
	}
	switch over := !now.Before(d.Expires); {
	case d.State == StateApproved && over, d.State == StateRequested && over:
		return &Unusable{State: StateExpired}
	case d.State == StateApproved && now.Before(d.NotBefore):
		return &Unusable{State: d.State, Early: true}
	case d.State == StateApproved:
		return &Unusable{State: StateUsed}
	}
	return &Unusable{State: d.State}
}

// ExpireDelegations ends every delegation whose time is over, and returns how
// many those were.
func (tx *Tx) ExpireDelegations(now time.Time) (int64, error) {
	return tx.c.Exec(`UPDATE delegation SET state = 'expired', updated = $1
		WHERE state IN ('requested', 'approved', 'used') AND expires <= $1`, millis(now))
}
