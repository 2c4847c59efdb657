// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

func invitation(name, token string) store.Invitation {
	return store.Invitation{Token: hash("%s", token), Name: name, ID: "spiffe://td/host/" + name, Machine: "vm", EKPin: bytes.Repeat([]byte{2}, 32),
		Created: Now, Expires: Now.Add(time.Hour)}
}

func host(name string) store.Host {
	ek := hash("ek %s", name)
	return store.Host{Name: name, ID: "spiffe://td/host/" + name, UEID: append([]byte{1}, ek[:]...), EK: ek, AKPublic: []byte("ak public " + name),
		AKName: []byte("ak name " + name), Level: "ek-cert", Maker: "IFX", Machine: "vm", Enrolled: Now}
}

func testInvitations(t *testing.T, s *store.Store) {
	one := invitation("h1", "t1")
	must(t, s, func(tx *store.Tx) error { return tx.Invite(one) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.Invite(invitation("h1", "t2")) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.Invite(invitation("h2", "t1")) })
	view(t, s, func(r *store.Reader) error {
		got, err := r.Invitation(one.Token, Now)
		list, err2 := r.Invitations()
		if !reflect.DeepEqual(got, one) || len(list) != 1 {
			t.Errorf("invitation %+v of %d, want %+v", got, len(list), one)
		}
		return errors.Join(err, err2)
	})
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Invitation(hash("t9"), Now); return err })
	unseen(t, s, store.ErrExpired, func(r *store.Reader) error { _, err := r.Invitation(one.Token, one.Expires); return err })
	take := func(at time.Time) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := tx.TakeInvitation(one.Token, at); return err }
	}
	refused(t, s, store.ErrExpired, take(one.Expires))
	must(t, s, take(Now))
	refused(t, s, store.ErrNotFound, take(Now))

	// A dead invitation does not keep the name; an enrolled host does.
	must(t, s, func(tx *store.Tx) error { return tx.Invite(one) })
	again := invitation("h1", "t2")
	again.Created, again.Expires = one.Expires, one.Expires.Add(time.Hour)
	must(t, s, func(tx *store.Tx) error { return tx.Invite(again) })
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(host("h3")) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.Invite(invitation("h3", "t3")) })
}

func testEnrolments(t *testing.T, s *store.Store) {
	e := store.Enrolment{ID: "e1", Token: hash("t1"), Secret: hash("secret"), UEID: []byte{1, 2}, EK: hash("ek"), AKPublic: []byte("ak"), AKName: []byte("name"),
		Level: "ek-pin", Maker: "STM", Expires: Now.Add(time.Minute)}
	must(t, s, func(tx *store.Tx) error { return tx.PutEnrolment(e) })
	other := e
	other.Token = hash("t2")
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.PutEnrolment(other) })
	again := e
	again.ID = "e2"
	must(t, s, func(tx *store.Tx) error { return tx.PutEnrolment(again) })
	take := func(id string, at time.Time) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			got, err := tx.TakeEnrolment(id, at)
			if err == nil && !reflect.DeepEqual(got, again) {
				t.Errorf("took %+v, want %+v", got, again)
			}
			return err
		}
	}
	refused(t, s, store.ErrNotFound, take("e1", Now)) // the later one took its place
	refused(t, s, store.ErrExpired, take("e2", e.Expires))
	must(t, s, take("e2", Now))
	refused(t, s, store.ErrNotFound, take("e2", Now))
}

func testHosts(t *testing.T, s *store.Store) {
	h := host("h1")
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(h) })
	for what, change := range map[string]func(*store.Host){
		"name":   func(o *store.Host) { o.Name = h.Name },
		"id":     func(o *store.Host) { o.ID = h.ID },
		"ueid":   func(o *store.Host) { o.UEID = h.UEID },
		"ek":     func(o *store.Host) { o.EK = h.EK },
		"akname": func(o *store.Host) { o.AKName = h.AKName },
	} {
		o := host("h2")
		change(&o)
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AddHost(o) }); err != store.ErrExists {
			t.Errorf("host with the same %s: %v", what, err)
		}
	}
	for what, o := range map[string]store.Host{
		"nothing": {UEID: []byte{}, AKPublic: []byte{}, AKName: []byte{}},
		"no key":  {Name: "x", ID: "y", UEID: []byte{1}, EK: hash("x"), AKPublic: []byte{}, AKName: []byte{}},
	} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AddHost(o) }); err == nil {
			t.Errorf("host with %s was added", what)
		}
	}
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(host("h0")) })
	view(t, s, func(r *store.Reader) error {
		byName, err1 := r.HostByName("h1")
		byID, err2 := r.HostByID(h.ID)
		byUEID, err3 := r.HostByUEID(h.UEID)
		list, err4 := r.Hosts()
		for _, got := range []store.Host{byName, byID, byUEID, list[1]} {
			if !reflect.DeepEqual(got, h) {
				t.Errorf("host %+v, want %+v", got, h)
			}
		}
		return errors.Join(err1, err2, err3, err4)
	})
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.HostByUEID(nil); return err })
}

func state(epoch, sequence, size uint64) store.HostState {
	return store.HostState{Epoch: epoch, Sequence: sequence, Size: size, Root: hash("%d", size), JSON: []byte(`{"x":1}`)}
}

func testHostState(t *testing.T, s *store.Store) {
	h := host("h1")
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(h) })
	advance := func(from, to store.HostState) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.AdvanceHost(h.ID, from, to, Now) }
	}
	first := state(1, 0, 10)
	refused(t, s, store.ErrStale, advance(first, state(1, 1, 11)))
	must(t, s, advance(store.HostState{}, first))
	refused(t, s, store.ErrStale, advance(store.HostState{}, first))
	for what, to := range map[string]store.HostState{
		"same sequence": state(1, 0, 11), "smaller log": state(1, 1, 9), "older epoch": state(0, 1, 11),
	} {
		if err := s.Update(t.Context(), advance(first, to)); err != store.ErrStale {
			t.Errorf("%s: %v", what, err)
		}
	}
	forked := first
	forked.Root = hash("another history")
	refused(t, s, store.ErrStale, advance(forked, state(1, 1, 11)))
	changed := first
	changed.JSON = []byte(`{"x":2}`)
	refused(t, s, store.ErrStale, advance(changed, state(1, 1, 11)))
	for what, to := range map[string]store.HostState{"no state": {Epoch: 1, Sequence: 1, Size: 11, JSON: []byte{}}, "huge": state(1, math.MaxInt64+1, 11)} {
		if err := s.Update(t.Context(), advance(first, to)); err == nil || errors.Is(err, store.ErrStale) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, s, advance(first, state(1, 1, 10)))
	must(t, s, advance(state(1, 1, 10), state(2, 2, 20)))
	refused(t, s, store.ErrStale, func(tx *store.Tx) error {
		return tx.AdvanceHost("spiffe://td/host/none", state(2, 2, 20), state(2, 3, 20), Now)
	})
	view(t, s, func(r *store.Reader) error {
		got, err := r.HostByID(h.ID)
		if !reflect.DeepEqual(got.Last, state(2, 2, 20)) || !got.Seen.Equal(Now) {
			t.Errorf("state %+v seen %v", got.Last, got.Seen)
		}
		return err
	})
}

func testHostRemoval(t *testing.T, s *store.Store) {
	h := host("h1")
	remove := func(name string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.RemoveHost(name, Now) }
	}
	refused(t, s, store.ErrNotFound, remove("h1"))
	must(t, s, func(tx *store.Tx) error { return tx.Invite(invitation("h9", "t9")) })
	must(t, s, remove("h9"))
	must(t, s, func(tx *store.Tx) error { return tx.Invite(invitation("h9", "t9")) })
	must(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddHost(h), tx.AddToken(store.Token{JTI: hash("j"), Host: h.ID, Expires: Now.Add(time.Minute)}),
			tx.AddEvidence(store.Evidence{Ref: hash("r"), Host: h.ID, D: evidence.Hash{}, Expires: Now.Add(time.Minute)}))
	})
	must(t, s, remove("h1"))
	refused(t, s, store.ErrNotFound, remove("h1"))
	refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.TakeEvidence(hash("r"), Now); return err })
	view(t, s, func(r *store.Reader) error {
		got, err := r.Token(hash("j"))
		if got.Revoked.IsZero() {
			t.Error("credential of a removed host is not revoked")
		}
		return err
	})
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(h) })
}
