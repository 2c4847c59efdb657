// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
)

// crowd is how many callers do the same thing at the same moment.
const crowd = 64

// together runs n callers at once and returns their errors.
func together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// winners counts the callers that succeeded; the others must have lost as they
// should.
func winners(t *testing.T, errs []error, lost func(error) bool) int {
	t.Helper()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !lost(err):
			t.Errorf("lost with %v", err)
		}
	}
	return won
}

func testParallelUses(t *testing.T, s *store.Store) {
	for round := range 4 {
		d := delegation(fmt.Sprintf("dlg_%d", round), 1)
		approved(t, s, d)
		errs := together(crowd, func(i int) error {
			return s.Update(context.Background(), func(tx *store.Tx) error {
				if _, err := tx.UseDelegation(d.ID, fmt.Sprint(i), Now); err != nil {
					return err
				}
				_, err := tx.Append(Entry(fmt.Sprintf("t%d-%d", round, i)), because)
				return err
			})
		})
		used := func(err error) bool {
			var u *store.Unusable
			return errors.As(err, &u) && u.State == store.StateUsed
		}
		if won := winners(t, errs, used); won != 1 {
			t.Errorf("round %d: the last use was spent %d times", round, won)
		}
	}
	view(t, s, func(r *store.Reader) error {
		head, err := r.Head()
		if head.Size != 4 {
			t.Errorf("%d entries, want 4", head.Size)
		}
		return err
	})
}

func testParallelOnce(t *testing.T, s *store.Store) {
	replayed := func(err error) bool { return err == store.ErrReplay }
	for _, space := range []store.Space{store.SpaceNonce, store.SpaceProof, store.SpaceQuote} {
		errs := together(crowd, func(int) error {
			return s.Update(context.Background(), func(tx *store.Tx) error { return tx.Once(space, hash("n"), Now) })
		})
		if won := winners(t, errs, replayed); won != 1 {
			t.Errorf("%s was accepted %d times", space, won)
		}
	}
	must(t, s, func(tx *store.Tx) error { return tx.AddEvidence(store.Evidence{Ref: hash("r"), Expires: Now.Add(1e9)}) })
	errs := together(crowd, func(int) error {
		return s.Update(context.Background(), func(tx *store.Tx) error { _, err := tx.TakeEvidence(hash("r"), Now); return err })
	})
	if won := winners(t, errs, func(err error) bool { return err == store.ErrNotFound }); won != 1 {
		t.Errorf("one evidence reference was spent %d times", won)
	}
	d := delegation("dlg_1", 1)
	must(t, s, func(tx *store.Tx) error { return tx.AddDelegation(d) })
	errs = together(crowd, func(int) error {
		return s.Update(context.Background(), func(tx *store.Tx) error {
			return tx.AddAnswer(store.Answer{D: d.D, Act: "approval", Issuer: d.Issuer, Subject: d.Subject, Signature: []byte("s"), Key: []byte("k"), At: Now})
		})
	})
	if won := winners(t, errs, func(err error) bool { return err == store.ErrExists }); won != 1 {
		t.Errorf("one person approved %d times", won)
	}
}

func testParallelHost(t *testing.T, s *store.Store) {
	errs := together(crowd, func(int) error {
		return s.Update(context.Background(), func(tx *store.Tx) error { return tx.AddHost(host("h1")) })
	})
	if won := winners(t, errs, func(err error) bool { return err == store.ErrExists }); won != 1 {
		t.Errorf("one host enrolled %d times", won)
	}
	errs = together(crowd, func(i int) error {
		return s.Update(context.Background(), func(tx *store.Tx) error {
			return tx.AdvanceHost(host("h1").ID, store.HostState{}, state(1, uint64(i), 10), Now)
		})
	})
	if won := winners(t, errs, func(err error) bool { return err == store.ErrStale }); won != 1 {
		t.Errorf("one host state was advanced from %d times", won)
	}
}

// testRevocationRace revokes while credentials are issued: none may come into
// the log after the revocation, and none may live on after it.
func testRevocationRace(t *testing.T, s *store.Store) {
	for round := range 8 {
		d := delegation(fmt.Sprintf("dlg_%d", round), 1000)
		approved(t, s, d)
		var revoked uint64
		issued := make([]uint64, crowd)
		errs := together(crowd, func(i int) error {
			return s.Update(context.Background(), func(tx *store.Tx) (err error) {
				if i == crowd/2 {
					if err := tx.MoveDelegation(d.ID, store.StateApproved, store.StateRevoked, Now); err != nil {
						return err
					}
					e := Entry(fmt.Sprintf("r%d", round))
					e.Type = audit.TypeRevocation
					revoked, err = tx.Append(e, nil)
					return err
				}
				if _, err := tx.UseDelegation(d.ID, "i", Now); err != nil {
					return err
				}
				if err := tx.AddToken(store.Token{JTI: hash("%d-%d", round, i), Delegation: d.ID}); err != nil {
					return err
				}
				issued[i], err = tx.Append(Entry(fmt.Sprintf("t%d-%d", round, i)), because)
				return err
			})
		})
		winners(t, errs, func(err error) bool {
			var u *store.Unusable
			return errors.As(err, &u) && u.State == store.StateRevoked
		})
		view(t, s, func(r *store.Reader) error {
			for i, err := range errs {
				if err != nil || i == crowd/2 {
					continue
				}
				if issued[i] > revoked {
					t.Errorf("round %d: issued at %d, revoked at %d", round, issued[i], revoked)
				}
				token, err := r.Token(hash("%d-%d", round, i))
				if err != nil {
					return err
				}
				if token.Revoked.IsZero() {
					t.Errorf("round %d: a credential outlived its delegation", round)
				}
			}
			return nil
		})
	}
}

func testParallelLog(t *testing.T, s *store.Store) {
	boom := errors.New("boom")
	indexes := make([]uint64, 8*crowd)
	errs := together(len(indexes), func(i int) error {
		return s.Update(context.Background(), func(tx *store.Tx) (err error) {
			indexes[i], err = tx.Append(Entry(fmt.Sprintf("t%d", i)), because)
			if i%3 == 0 {
				return boom
			}
			return err
		})
	})
	won := winners(t, errs, func(err error) bool { return err == boom })
	view(t, s, func(r *store.Reader) error {
		leaves, err := r.Leaves(0, len(indexes))
		if len(leaves) != won {
			t.Fatalf("%d entries, want %d", len(leaves), won)
		}
		for i := range indexes {
			if errs[i] == nil && leaves[indexes[i]].Txn != fmt.Sprintf("t%d", i) {
				t.Errorf("t%d was told index %d, where %s is", i, indexes[i], leaves[indexes[i]].Txn)
			}
		}
		return err
	})
}

// testClosing closes while everybody writes: each caller hears whether it was
// done, and what was done is there.
func testClosing(t *testing.T, open Open) {
	s := open(t, "closing", NewSigner(t))
	done := make([]int, crowd)
	finished := make(chan []error)
	go func() {
		finished <- together(crowd, func(i int) error {
			for {
				err := s.Update(context.Background(), func(tx *store.Tx) error {
					_, err := tx.Append(Entry(fmt.Sprintf("t%d-%d", i, done[i])), because)
					return err
				})
				if err != nil {
					return err
				}
				done[i]++
			}
		})
	}()
	for appended := uint64(0); appended < crowd; { // everybody is under way
		view(t, s, func(r *store.Reader) error {
			head, err := r.Head()
			appended = head.Size
			return err
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range <-finished {
		if err != store.ErrClosed {
			t.Errorf("ended with %v", err)
		}
	}
	total := 0
	for _, n := range done {
		total += n
	}
	s = open(t, "closing", NewSigner(t))
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	view(t, s, func(r *store.Reader) error {
		head, err := r.Head()
		if head.Size != uint64(total) {
			t.Errorf("%d entries, but %d were promised", head.Size, total)
		}
		return err
	})
}
