// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
)

func delegation(id string, uses uint64) store.Delegation {
	return store.Delegation{ID: id, D: hash("%s", id), Object: []byte("object " + id), Workload: "spiffe://td/w", Issuer: "https://broker.example", Subject: "alice",
		State: store.StateRequested, UsesLeft: uses, NotBefore: Now, Expires: Now.Add(time.Hour), Requested: Now, Updated: Now}
}

func approved(t *testing.T, s *store.Store, d store.Delegation) {
	t.Helper()
	must(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddDelegation(d), tx.MoveDelegation(d.ID, store.StateRequested, store.StateApproved, Now))
	})
}

// use returns an update that takes one use, and says how many are left.
func use(id, instance string, at time.Time, left *uint64) func(*store.Tx) error {
	return func(tx *store.Tx) (err error) { *left, err = tx.UseDelegation(id, instance, at); return err }
}

func testDelegations(t *testing.T, s *store.Store) {
	d := delegation("dlg_1", 2)
	must(t, s, func(tx *store.Tx) error { return tx.AddDelegation(d) })
	same := delegation("dlg_2", 2)
	same.D = d.D
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.AddDelegation(same) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.AddDelegation(d) })
	born := delegation("dlg_3", 2)
	born.State = store.StateApproved
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AddDelegation(born) }); err == nil {
		t.Error("a delegation was born approved")
	}
	later := delegation("dlg_4", 1)
	later.Requested = Now.Add(time.Second)
	later.Updated = later.Requested
	must(t, s, func(tx *store.Tx) error { return tx.AddDelegation(later) })
	view(t, s, func(r *store.Reader) error {
		byID, err1 := r.Delegation(d.ID)
		byD, err2 := r.DelegationByD(d.D)
		list, err3 := r.Delegations(10)
		if len(list) != 2 || !reflect.DeepEqual(list[0], later) {
			t.Fatalf("list %+v", list)
		}
		for _, got := range []store.Delegation{byID, byD, list[1]} {
			if !reflect.DeepEqual(got, d) {
				t.Errorf("delegation %+v, want %+v", got, d)
			}
		}
		n, err4 := r.OpenRequests(d.Issuer, d.Subject, Now)
		late, err5 := r.OpenRequests(d.Issuer, d.Subject, d.Expires)
		if n != 2 || late != 0 {
			t.Errorf("%d and %d open requests, want 2 and 0", n, late)
		}
		return errors.Join(err1, err2, err3, err4, err5)
	})
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.DelegationByD(hash("none")); return err })
}

func testMoves(t *testing.T, s *store.Store) {
	states := []store.State{store.StateRequested, store.StateApproved, store.StateRefused, store.StateRevoked, store.StateExpired, store.StateUsed}
	legal := map[string]bool{
		"requested approved": true, "requested refused": true, "requested revoked": true, "requested expired": true,
		"approved used": true, "approved revoked": true, "approved expired": true, "used revoked": true, "used expired": true,
	}
	way := map[store.State][]store.State{store.StateRequested: nil, store.StateApproved: {store.StateApproved}, store.StateRefused: {store.StateRefused},
		store.StateRevoked: {store.StateRevoked}, store.StateExpired: {store.StateExpired}, store.StateUsed: {store.StateApproved, store.StateUsed}}
	for _, from := range states {
		for _, to := range states {
			id := "dlg_" + string(from) + "_" + string(to)
			must(t, s, func(tx *store.Tx) error {
				err := tx.AddDelegation(delegation(id, 1))
				at := store.StateRequested
				for _, next := range way[from] {
					err = errors.Join(err, tx.MoveDelegation(id, at, next, Now))
					at = next
				}
				return err
			})
			err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.MoveDelegation(id, from, to, Now) })
			if name := string(from) + " " + string(to); (err == nil) != legal[name] {
				t.Errorf("%s: %v", name, err)
			}
			if from != store.StateRequested {
				if err := s.Update(t.Context(), func(tx *store.Tx) error {
					return tx.MoveDelegation(id, store.StateRequested, store.StateApproved, Now)
				}); err != store.ErrStale {
					t.Errorf("%s approved again: %v", from, err)
				}
			}
		}
	}
	d := delegation("dlg_r", 1)
	approved(t, s, d)
	must(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddToken(store.Token{JTI: hash("j"), Delegation: d.ID}), tx.MoveDelegation(d.ID, store.StateApproved, store.StateRevoked, Now))
	})
	view(t, s, func(r *store.Reader) error {
		got, err := r.Token(hash("j"))
		if got.Revoked.IsZero() {
			t.Error("credential of a revoked delegation is not revoked")
		}
		return err
	})
}

func testUses(t *testing.T, s *store.Store) {
	d := delegation("dlg_1", 2)
	approved(t, s, d)
	var left uint64
	must(t, s, use(d.ID, "i1", Now, &left))
	if left != 1 {
		t.Errorf("%d uses left, want 1", left)
	}
	must(t, s, use(d.ID, "i1", Now, &left)) // each credential is a use
	if left != 0 {
		t.Errorf("%d uses left, want 0", left)
	}
	view(t, s, func(r *store.Reader) error {
		got, err := r.Delegation(d.ID)
		if got.State != store.StateUsed || got.UsesLeft != 0 {
			t.Errorf("state %s with %d left", got.State, got.UsesLeft)
		}
		return err
	})
	var u *store.Unusable
	if err := s.Update(t.Context(), use(d.ID, "i1", Now, &left)); !errors.As(err, &u) || u.State != store.StateUsed {
		t.Errorf("third use: %v", err)
	}
	refused(t, s, store.ErrNotFound, use("dlg_none", "i1", Now, &left))
}

func testInstanceUses(t *testing.T, s *store.Store) {
	d := delegation("dlg_1", 2)
	d.PerInstance = true
	approved(t, s, d)
	var left uint64
	for i, step := range []struct {
		instance string
		left     uint64
	}{{"i1", 1}, {"i1", 1}, {"i2", 0}, {"i1", 0}, {"i2", 0}} {
		must(t, s, use(d.ID, step.instance, Now, &left))
		if left != step.left {
			t.Errorf("step %d: %d left, want %d", i, left, step.left)
		}
	}
	var u *store.Unusable
	if err := s.Update(t.Context(), use(d.ID, "i3", Now, &left)); !errors.As(err, &u) || u.State != store.StateUsed {
		t.Errorf("third instance: %v", err)
	}
	if err := s.Update(t.Context(), use(d.ID, "i1", d.Expires, &left)); !errors.As(err, &u) {
		t.Errorf("refresh at the end: %v", err)
	}
	must(t, s, func(tx *store.Tx) error { return tx.MoveDelegation(d.ID, store.StateUsed, store.StateRevoked, Now) })
	if err := s.Update(t.Context(), use(d.ID, "i1", Now, &left)); !errors.As(err, &u) || u.State != store.StateRevoked {
		t.Errorf("refresh after revocation: %v", err)
	}
}

func testUnusable(t *testing.T, s *store.Store) {
	d := delegation("dlg_1", 1)
	must(t, s, func(tx *store.Tx) error { return tx.AddDelegation(d) })
	var left uint64
	want := func(at time.Time, state store.State, early bool) {
		t.Helper()
		var u *store.Unusable
		if err := s.Update(t.Context(), use(d.ID, "i", at, &left)); !errors.As(err, &u) || u.State != state || u.Early != early {
			t.Errorf("use: %v, want %s early=%v", err, state, early)
		} else if (u.Error() == "delegation has not begun") != early || !early && u.Error() != "delegation is "+string(state) {
			t.Errorf("%s early=%v reads %q", state, early, u)
		}
	}
	want(Now, store.StateRequested, false)
	want(d.Expires, store.StateExpired, false)
	must(t, s, func(tx *store.Tx) error {
		return tx.MoveDelegation(d.ID, store.StateRequested, store.StateApproved, Now)
	})
	want(d.NotBefore.Add(-time.Millisecond), store.StateApproved, true)
	want(d.Expires, store.StateExpired, false)
	for i, n := range []int64{0, 1, 0} {
		at := d.Expires.Add(time.Duration(i-1) * time.Millisecond)
		must(t, s, func(tx *store.Tx) error {
			ended, err := tx.ExpireDelegations(at)
			if ended != n {
				t.Errorf("step %d: %d expired, want %d", i, ended, n)
			}
			return err
		})
	}
	want(Now, store.StateExpired, false)
	d = delegation("dlg_never", 0)
	approved(t, s, d)
	want(Now, store.StateUsed, false)
	for _, end := range []store.State{store.StateRefused, store.StateRevoked} {
		d = delegation("dlg_"+string(end), 1)
		must(t, s, func(tx *store.Tx) error {
			return errors.Join(tx.AddDelegation(d), tx.MoveDelegation(d.ID, store.StateRequested, end, Now))
		})
		want(Now, end, false)
	}
}

func testAnswers(t *testing.T, s *store.Store) {
	d := delegation("dlg_1", 1)
	must(t, s, func(tx *store.Tx) error { return tx.AddDelegation(d) })
	answer := func(act, sub string) store.Answer {
		return store.Answer{D: d.D, Act: act, Issuer: d.Issuer, Subject: sub, Method: "sshsig", Signature: []byte("sig " + act), Key: []byte("key"), At: Now}
	}
	for i, a := range []store.Answer{answer("approval", "alice"), answer("approval", "bob"), answer("revocation", "alice")} {
		a.At = Now.Add(time.Duration(i) * time.Second)
		must(t, s, func(tx *store.Tx) error { return tx.AddAnswer(a) })
		a.Signature = []byte("another")
		refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.AddAnswer(a) })
	}
	stray := answer("approval", "carol")
	stray.D = hash("none")
	empty := answer("approval", "carol")
	empty.Signature = []byte{}
	for _, a := range []store.Answer{stray, empty} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AddAnswer(a) }); err == nil {
			t.Errorf("answer %+v was kept", a)
		}
	}
	view(t, s, func(r *store.Reader) error {
		list, err := r.Answers(d.D)
		if len(list) != 3 || !reflect.DeepEqual(list[0], answer("approval", "alice")) || list[2].Act != "revocation" {
			t.Errorf("answers %+v", list)
		}
		return err
	})
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}
