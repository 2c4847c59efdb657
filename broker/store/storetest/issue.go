// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

// Uses is how many uses the delegation that Issue takes them from begins with.
const Uses = 1 << 20

const issueID = "dlg_issue"

// Issuable makes sure that there is the delegation that Issue takes uses from.
func Issuable(s *store.Store) error {
	d := store.Delegation{ID: issueID, D: evidence.Hash{1}, Object: []byte("object"), State: store.StateRequested, UsesLeft: Uses,
		NotBefore: Now, Expires: Now.Add(time.Hour), Requested: Now}
	return s.Update(context.Background(), func(tx *store.Tx) error {
		if _, err := tx.Delegation(d.ID); err == nil {
			return nil
		}
		if err := tx.AddDelegation(d); err != nil {
			return err
		}
		return tx.MoveDelegation(d.ID, store.StateRequested, store.StateApproved, Now)
	})
}

// Issue is one decision with everything that belongs to it: one-time mark, use,
// credential, explanation, entry.
func Issue(tx *store.Tx, txn string) (index uint64, err error) {
	key := evidence.Hash(sha256.Sum256([]byte(txn)))
	if err := tx.Once(store.SpaceNonce, key, Now.Add(time.Hour)); err != nil {
		return 0, err
	}
	if _, err := tx.UseDelegation(issueID, txn, Now); err != nil {
		return 0, err
	}
	if err := tx.AddToken(store.Token{JTI: key, Txn: txn, Delegation: issueID, Expires: Now.Add(time.Hour)}); err != nil {
		return 0, err
	}
	return tx.Append(Entry(txn), []byte(`{"txn":"`+txn+`"}`))
}

// Whole checks that each entry of the log came with all that Issue does, that
// what was promised (index by transaction) is there, and that each entry cost one
// use.
func Whole(t testing.TB, r *store.Reader, promised map[string]string) (entries int, err error) {
	t.Helper()
	leaves, err := r.Leaves(0, Uses)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, l := range leaves {
		if index, ok := promised[l.Txn]; ok {
			found++
			if index != fmt.Sprint(l.Index) {
				t.Errorf("%s was promised index %s and has %d", l.Txn, index, l.Index)
			}
		}
		if token, err := r.Token(sha256.Sum256([]byte(l.Txn))); err != nil || token.Txn != l.Txn {
			t.Errorf("entry %d has no credential: %v", l.Index, err)
		}
		if why, err := r.Explanations(l.Txn); err != nil || len(why) != 1 {
			t.Errorf("entry %d has %d explanations: %v", l.Index, len(why), err)
		}
	}
	if found != len(promised) {
		t.Errorf("%d of %d promised entries are there", found, len(promised))
	}
	d, err := r.Delegation(issueID)
	if err == store.ErrNotFound && len(leaves) == 0 {
		return 0, nil // killed before there was one
	}
	if err == nil && d.UsesLeft != Uses-uint64(len(leaves)) {
		t.Errorf("%d uses left, want %d", d.UsesLeft, Uses-len(leaves))
	}
	return len(leaves), err
}

// counting counts the transactions of a database.
type counting struct {
	store.Database
	n atomic.Int64
}

func (c *counting) Write(ctx context.Context, fn func(store.Conn) error) error {
	c.n.Add(1)
	return c.Database.Write(ctx, fn)
}

// BenchIssue measures whole decisions, with tree hashes and signed head, on the
// disk. With more callers more decisions share a commit. open opens a new
// database each time.
func BenchIssue(b *testing.B, open func(testing.TB) store.Database) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := &counting{Database: open(b)}
			s, err := store.New(b.Context(), db, NewSigner(b))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if err := Issuable(s); err != nil {
				b.Fatal(err)
			}
			benchIssue(b, s, db, callers)
		})
	}
}

func benchIssue(b *testing.B, s *store.Store, db *counting, callers int) {
	var next, all = atomic.Int64{}, sync.WaitGroup{}
	took := make([]time.Duration, b.N)
	before := db.n.Load()
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				start := time.Now()
				err := s.Update(context.Background(), func(tx *store.Tx) error {
					_, err := Issue(tx, fmt.Sprintf("b%d", i))
					return err
				})
				if err != nil {
					b.Error(err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(b.N)/float64(db.n.Load()-before), "decisions/commit")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
