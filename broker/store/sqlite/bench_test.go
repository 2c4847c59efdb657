// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
)

// counting counts the transactions of a database.
type counting struct {
	store.Database
	n atomic.Int64
}

func (c *counting) Write(ctx context.Context, fn func(store.Conn) error) error {
	c.n.Add(1)
	return c.Database.Write(ctx, fn)
}

// BenchmarkIssue is one whole decision: one-time mark, use, credential,
// explanation, entry, tree hashes, signed head, on the disk. With more callers
// more decisions share a commit.
func BenchmarkIssue(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			inner, err := open(b.Context(), filepath.Join(b.TempDir(), "state", "broker.db"), storetest.Now)
			if err != nil {
				b.Fatal(err)
			}
			db := &counting{Database: inner}
			s, err := store.New(b.Context(), db, storetest.NewSigner(b))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			d := crashDelegation()
			err = s.Update(b.Context(), func(tx *store.Tx) error {
				if err := tx.AddDelegation(d); err != nil {
					return err
				}
				return tx.MoveDelegation(d.ID, store.StateRequested, store.StateApproved, storetest.Now)
			})
			if err != nil {
				b.Fatal(err)
			}
			run(b, s, db, callers)
		})
	}
}

func run(b *testing.B, s *store.Store, db *counting, callers int) {
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
					_, err := issue(tx, fmt.Sprintf("b%d", i))
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
