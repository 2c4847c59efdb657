// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/evidence"
)

// checkPage is how many entries Check reads at a time.
const checkPage = 1024

// Check goes through the whole store and returns the first thing that should
// not be: a damaged database, a head that was not signed, a tree that is not
// that of the entries, a decision without its explanation, an explanation
// without its entry, a boot log or an IMA list that is nobody's. Until it is done, it holds one view open.
func (s *Store) Check(ctx context.Context) error {
	if err := s.db.Integrity(ctx); err != nil {
		return err
	}
	return s.View(ctx, func(r *Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		if err := r.checkHead(s.signer, head); err != nil {
			return err
		}
		if err := r.checkEntries(ctx, head); err != nil {
			return err
		}
		if err := r.checkKept(); err != nil {
			return err
		}
		var strays uint64
		err = one(r.c, []any{counter{&strays}}, `SELECT COUNT(*) FROM explanation e
			WHERE NOT EXISTS (SELECT 1 FROM log_leaf l WHERE l.idx = e.idx AND l.txn = e.txn)`)
		if err != nil {
			return err
		}
		if strays > 0 {
			return fmt.Errorf("%d explanations have no entry in the log", strays)
		}
		return nil
	})
}

// checkEntries builds the tree again from the entries alone.
func (r *Reader) checkEntries(ctx context.Context, head Head) error {
	stored := r.tree()
	for from := uint64(0); from < head.Size; from += checkPage {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaves, err := r.Leaves(from, checkPage)
		if err != nil {
			return err
		}
		for i, l := range leaves {
			if l.Index != from+uint64(i) {
				return fmt.Errorf("entry %d of the log is missing", from+uint64(i))
			}
			if err := r.checkLeaf(stored, l); err != nil {
				return fmt.Errorf("entry %d of the log: %w", l.Index, err)
			}
		}
	}
	var hashes uint64
	if err := one(r.c, []any{counter{&hashes}}, `SELECT COUNT(*) FROM log_hash`); err != nil {
		return err
	}
	if want := evidence.StoredHashCount(head.Size); hashes != uint64(want) {
		return fmt.Errorf("log of %d entries has %d hashes, want %d", head.Size, hashes, want)
	}
	return nil
}

// checkLeaf holds one entry against the hashes that it completed.
func (r *Reader) checkLeaf(stored evidence.Tree, l Leaf) error {
	e, err := audit.ParseEntry(l.Entry)
	if err != nil {
		return err
	}
	if e.Txn != l.Txn {
		return fmt.Errorf("filed under transaction %q, but says %q", l.Txn, e.Txn)
	}
	want, err := stored.StoredHashes(l.Index, evidence.LeafHash(l.Entry))
	if err != nil {
		return err
	}
	at := make([]int64, len(want))
	for i := range at {
		at[i] = evidence.LeafIndex(l.Index) + int64(i)
	}
	have, err := readHashes(r.c, at, 1<<62, nil)
	if err != nil {
		return err
	}
	for i := range want {
		if want[i] != have[i] {
			return fmt.Errorf("stored hash %d is %s, want %s", at[i], have[i], want[i])
		}
	}
	var txn string
	err = one(r.c, []any{&txn}, `SELECT txn FROM explanation WHERE idx = $1`, count(l.Index))
	if errors.Is(err, ErrNotFound) {
		if e.Type == audit.TypeDecision {
			return errors.New("decision without its explanation")
		}
		return nil
	}
	return err
}
