// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

func testOnce(t *testing.T, s *store.Store) {
	once := func(space store.Space, key string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.Once(space, hash("%s", key), Now.Add(time.Minute)) }
	}
	must(t, s, once(store.SpaceNonce, "a"))
	must(t, s, once(store.SpaceNonce, "b"))
	must(t, s, once(store.SpaceProof, "a"))
	refused(t, s, store.ErrReplay, once(store.SpaceNonce, "a"))
	refused(t, s, store.ErrReplay, once(store.SpaceProof, "a"))
	refused(t, s, store.ErrReplay, func(tx *store.Tx) error {
		if err := once(store.SpaceQuote, "a")(tx); err != nil {
			t.Error(err)
		}
		return once(store.SpaceQuote, "a")(tx)
	})
	must(t, s, once(store.SpaceQuote, "a")) // the refused update left nothing behind
}

func testEvidence(t *testing.T, s *store.Store) {
	e := store.Evidence{Ref: hash("ref"), Txn: "t1", Request: 3, Host: "spiffe://td/host/h1", D: hash("d"), Appraisal: []byte(`{"ok":true}`), Expires: Now.Add(30 * time.Second)}
	late := e
	late.Ref = hash("late")
	must(t, s, func(tx *store.Tx) error { return errors.Join(tx.AddEvidence(e), tx.AddEvidence(late)) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.AddEvidence(e) })
	must(t, s, func(tx *store.Tx) error {
		got, err := tx.TakeEvidence(e.Ref, Now.Add(29*time.Second))
		if !reflect.DeepEqual(got, e) {
			t.Errorf("took %+v, want %+v", got, e)
		}
		return err
	})
	take := func(ref evidence.Hash, at time.Time) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := tx.TakeEvidence(ref, at); return err }
	}
	refused(t, s, store.ErrNotFound, take(e.Ref, Now))
	refused(t, s, store.ErrNotFound, take(hash("unknown"), Now))
	refused(t, s, store.ErrExpired, take(late.Ref, late.Expires))
	must(t, s, take(late.Ref, Now))
}

func testSettings(t *testing.T, s *store.Store) {
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Setting("ke"); return err })
	set := func(value, previous []byte) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.SetSetting("ke", value, previous) }
	}
	refused(t, s, store.ErrStale, set([]byte("1"), []byte("0")))
	must(t, s, set([]byte{}, nil))
	refused(t, s, store.ErrStale, set([]byte("1"), nil))
	must(t, s, set([]byte("1"), []byte{}))
	refused(t, s, store.ErrStale, set([]byte("2"), []byte{}))
	must(t, s, set([]byte("2"), []byte("1")))
	view(t, s, func(r *store.Reader) error {
		v, err := r.Setting("ke")
		if !bytes.Equal(v, []byte("2")) {
			t.Errorf("setting %q", v)
		}
		return err
	})
}

func testPurge(t *testing.T, s *store.Store) {
	must(t, s, func(tx *store.Tx) error {
		return errors.Join(
			tx.Once(store.SpaceNonce, hash("old"), Now.Add(-time.Second)),
			tx.Once(store.SpaceNonce, hash("new"), Now),
			tx.AddEvidence(store.Evidence{Ref: hash("old"), Expires: Now.Add(-time.Second)}),
			tx.AddEvidence(store.Evidence{Ref: hash("new"), Expires: Now}),
			tx.Invite(store.Invitation{Token: hash("old"), Name: "old", Created: Now.Add(-time.Hour), Expires: Now.Add(-time.Second)}),
			tx.PutEnrolment(store.Enrolment{ID: "old", Token: hash("old"), UEID: []byte{1}, AKPublic: []byte{1}, AKName: []byte{1}, Expires: Now.Add(-time.Second)}),
			tx.AddToken(store.Token{JTI: hash("old"), Expires: Now.Add(-25 * time.Hour)}),
			tx.AddToken(store.Token{JTI: hash("new"), Expires: Now.Add(-23 * time.Hour)}),
		)
	})
	must(t, s, func(tx *store.Tx) error {
		n, err := tx.Purge(Now)
		if n != 5 {
			t.Errorf("purged %d rows, want 5", n)
		}
		return err
	})
	must(t, s, func(tx *store.Tx) error { return tx.Once(store.SpaceNonce, hash("old"), Now) })
	refused(t, s, store.ErrReplay, func(tx *store.Tx) error { return tx.Once(store.SpaceNonce, hash("new"), Now) })
	view(t, s, func(r *store.Reader) error { _, err := r.Token(hash("new")); return err })
}

func testDocuments(t *testing.T, s *store.Store) {
	put := func(body string, previous evidence.Hash) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.PutDocument(store.Document{Kind: store.KindWorkload, Name: "w", Body: []byte(body), Updated: Now}, previous)
		}
	}
	digest := func(body string) evidence.Hash { return store.DocumentDigest([]byte(body)) }
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutDocument(store.Document{Kind: store.KindWorkload, Name: "w", Body: []byte{}}, evidence.Hash{})
	}); err == nil {
		t.Error("an empty document was written")
	}
	must(t, s, put("{}", evidence.Hash{}))
	refused(t, s, store.ErrStale, put("{}", evidence.Hash{}))
	refused(t, s, store.ErrStale, put("[1]", digest("[]")))
	must(t, s, put("[1]", digest("{}")))
	view(t, s, func(r *store.Reader) error {
		got, err := r.Document(store.KindWorkload, "w")
		want := store.Document{Kind: store.KindWorkload, Name: "w", Body: []byte("[1]"), Digest: digest("[1]"), Updated: Now}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("document %+v, want %+v", got, want)
		}
		list, err2 := r.Documents(store.KindMachine)
		if len(list) != 0 {
			t.Errorf("machines %v", list)
		}
		return errors.Join(err, err2)
	})
	must(t, s, func(tx *store.Tx) error { return tx.RemoveDocument(store.KindWorkload, "w") })
	refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { return tx.RemoveDocument(store.KindWorkload, "w") })
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Document(store.KindWorkload, "w"); return err })
}

func testApprovers(t *testing.T, s *store.Store) {
	const iss = "https://broker.example"
	add := func(sub string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.AddApprover(store.Approver{Issuer: iss, Subject: sub, Salt: []byte("salt"), Added: Now})
		}
	}
	key := func(sub, fp string, at time.Time) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.AddKey(iss, sub, store.ApproverKey{Fingerprint: fp, Key: []byte(fp), Added: at})
		}
	}
	must(t, s, add("alice"))
	must(t, s, add("bob"))
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		return tx.AddApprover(store.Approver{Issuer: iss, Subject: "carol", Salt: []byte{}})
	}); err == nil {
		t.Error("a person without a salt was added")
	}
	refused(t, s, store.ErrExists, add("alice"))
	refused(t, s, store.ErrNotFound, key("carol", "SHA256:c", Now))
	must(t, s, key("alice", "SHA256:a", Now))
	refused(t, s, store.ErrExists, key("alice", "SHA256:a", Now))
	refused(t, s, store.ErrExists, key("bob", "SHA256:a", Now)) // one key is never two persons
	remove := func(tx *store.Tx) error { return tx.RemoveKey("SHA256:a", Now.Add(time.Hour)) }
	must(t, s, remove)
	refused(t, s, store.ErrNotFound, remove)
	refused(t, s, store.ErrExists, key("bob", "SHA256:a", Now))
	view(t, s, func(r *store.Reader) error {
		a, err := r.Approver(iss, "alice")
		want := []store.ApproverKey{{Fingerprint: "SHA256:a", Key: []byte("SHA256:a"), Added: Now, Removed: Now.Add(time.Hour)}}
		if !reflect.DeepEqual(a.Keys, want) {
			t.Errorf("keys %+v, want %+v", a.Keys, want)
		}
		return err
	})
	must(t, s, key("alice", "SHA256:a", Now.Add(2*time.Hour)))
	view(t, s, func(r *store.Reader) error {
		list, err := r.Approvers()
		if len(list) != 2 || len(list[0].Keys) != 1 || !list[0].Keys[0].Removed.IsZero() || list[1].Subject != "bob" {
			t.Errorf("approvers %+v", list)
		}
		return err
	})
	must(t, s, func(tx *store.Tx) error { return tx.EraseApprover(iss, "alice") })
	refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { return tx.EraseApprover(iss, "alice") })
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Approver(iss, "alice"); return err })
}

func testResources(t *testing.T, s *store.Store) {
	one := store.Resource{ID: "pay", Audience: "https://pay.example", Secret: hash("1"), Updated: Now}
	two := store.Resource{ID: "pay", Audience: "https://pay.example/v2", Secret: hash("2"), Updated: Now.Add(time.Hour)}
	must(t, s, func(tx *store.Tx) error { return tx.PutResource(one) })
	must(t, s, func(tx *store.Tx) error { return tx.PutResource(two) })
	view(t, s, func(r *store.Reader) error {
		got, err := r.Resource("pay")
		list, err2 := r.Resources()
		if got != two || len(list) != 1 {
			t.Errorf("resource %+v of %d, want %+v", got, len(list), two)
		}
		return errors.Join(err, err2)
	})
	must(t, s, func(tx *store.Tx) error { return tx.RemoveResource("pay") })
	refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { return tx.RemoveResource("pay") })
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Resource("pay"); return err })
}

func testTokens(t *testing.T, s *store.Store) {
	token := func(jti, delegation, host, instance string) store.Token {
		return store.Token{JTI: hash("%s", jti), Txn: "t-" + jti, Delegation: delegation, Workload: "spiffe://td/w", Host: host, Epoch: 7, Instance: instance,
			Audience: "https://pay.example", Thumbprint: bytes.Repeat([]byte{1}, 32), Issued: Now, Expires: Now.Add(5 * time.Minute)}
	}
	a, b, c := token("a", "d1", "h1", "i1"), token("b", "d1", "h1", "i2"), token("c", "d2", "h2", "i1")
	must(t, s, func(tx *store.Tx) error { return errors.Join(tx.AddToken(a), tx.AddToken(b), tx.AddToken(c)) })
	refused(t, s, store.ErrExists, func(tx *store.Tx) error { return tx.AddToken(a) })
	view(t, s, func(r *store.Reader) error {
		got, err := r.Token(a.JTI)
		if !reflect.DeepEqual(got, a) {
			t.Errorf("token %+v, want %+v", got, a)
		}
		return err
	})
	at := Now.Add(time.Minute)
	must(t, s, func(tx *store.Tx) error { return tx.RevokeToken(a.JTI, at) })
	refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { return tx.RevokeToken(a.JTI, at.Add(time.Minute)) })
	counted := func(want int64, revoke func(tx *store.Tx) (int64, error)) {
		t.Helper()
		must(t, s, func(tx *store.Tx) error {
			n, err := revoke(tx)
			if n != want {
				t.Errorf("revoked %d, want %d", n, want)
			}
			return err
		})
	}
	counted(0, func(tx *store.Tx) (int64, error) { return tx.RevokeInstance("h2", "i2", at) })
	counted(1, func(tx *store.Tx) (int64, error) { return tx.RevokeInstance("h2", "i1", at) })
	counted(1, func(tx *store.Tx) (int64, error) { return tx.RevokeDelegation("d1", at) })
	counted(0, func(tx *store.Tx) (int64, error) { return tx.RevokeHost("h1", at) })
	view(t, s, func(r *store.Reader) error {
		got, err := r.Token(a.JTI)
		if !got.Revoked.Equal(at) {
			t.Errorf("revoked at %v, want %v", got.Revoked, at)
		}
		return err
	})
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Token(hash("none")); return err })
}

// testTexts: texts sort by their bytes, whatever the database would like, and one
// that the database cannot hold is that of nobody.
func testTexts(t *testing.T, s *store.Store) {
	names := []string{"B", "a", "a-b", "a.b", "ab", "z", "\u00e4"}
	must(t, s, func(tx *store.Tx) error {
		var errs []error
		for _, name := range names {
			errs = append(errs, tx.AddHost(host(name)))
		}
		return errors.Join(errs...)
	})
	view(t, s, func(r *store.Reader) error {
		list, err := r.Hosts()
		var got []string
		for _, h := range list {
			got = append(got, h.Name)
		}
		if !slices.Equal(got, names) {
			t.Errorf("order %q, want %q", got, names)
		}
		return err
	})
	for _, bad := range []string{"a\x00", "\xff"} {
		unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.HostByID(bad); return err })
		refused(t, s, store.ErrNotFound, func(tx *store.Tx) error { _, err := tx.TakeEnrolment(bad, Now); return err })
	}
}

// testAhead: what was fetched ahead is what a query would have found, before and
// after a write.
func testAhead(t *testing.T, s *store.Store) {
	h := host("h1")
	key := store.ApproverKey{Fingerprint: "f", Key: []byte("k"), Added: Now}
	must(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddHost(h), tx.AddApprover(store.Approver{Issuer: "i", Subject: "s", Salt: []byte("x")}), tx.AddKey("i", "s", key))
	})
	foresee := func(r *store.Reader) {
		_, _ = r.HostByName("h1")
		_, _ = r.HostByID("a\x00")
		_, _ = r.Approvers()
		_, _ = r.Document("workload", "none")
	}
	must(t, s, func(tx *store.Tx) error {
		if err := tx.Ahead(foresee); err != nil {
			return err
		}
		// A write to another table, and then to one that was read.
		if err := tx.Once(store.SpaceNonce, hash("n"), Now); err != nil {
			return err
		}
		people, err := tx.Approvers()
		if len(people) != 1 || len(people[0].Keys) != 1 || !reflect.DeepEqual(people[0].Keys[0], key) {
			t.Errorf("people %+v", people)
		}
		if err := errors.Join(err, tx.AdvanceHost(h.ID, store.HostState{}, state(1, 1, 1), Now)); err != nil {
			return err
		}
		got, err := tx.HostByName("h1")
		if got.Last.Size != 1 {
			t.Errorf("the host as it was before it moved: %+v", got.Last)
		}
		if _, err := tx.Document("workload", "none"); err != store.ErrNotFound {
			t.Errorf("document: %v", err)
		}
		return errors.Join(err, tx.Ahead(foresee))
	})
	boom := errors.New("boom")
	refused(t, s, boom, func(tx *store.Tx) error {
		if err := errors.Join(tx.RemoveKey("f", Now), tx.Ahead(foresee)); err != nil {
			t.Error(err)
		}
		return boom
	})
	view(t, s, func(r *store.Reader) error {
		if err := r.Ahead(foresee); err != nil {
			return err
		}
		people, err := r.Approvers()
		got, err2 := r.HostByName("h1")
		if len(people) != 1 || !people[0].Keys[0].Removed.IsZero() || got.Last.Size != 1 || !bytes.Equal(got.UEID, h.UEID) {
			t.Errorf("people %+v, host %+v", people, got)
		}
		return errors.Join(err, err2)
	})
	if err := s.View(t.Context(), func(r *store.Reader) error { return r.Ahead(func(*store.Reader) {}) }); err != nil {
		t.Error(err)
	}
}
