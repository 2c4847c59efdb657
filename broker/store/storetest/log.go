// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
)

var because = []byte(`{"why":"because"}`)

// appended appends a decision and returns its index.
func appended(t testing.TB, s *store.Store, txn string) uint64 {
	t.Helper()
	var index uint64
	must(t, s, func(tx *store.Tx) (err error) { index, err = tx.Append(Entry(txn), because); return err })
	return index
}

func testLog(t *testing.T, s *store.Store) {
	v := NewSigner(t).Verifier
	view(t, s, func(r *store.Reader) error {
		head, err := r.Head()
		c, err2 := v.Open(head.Checkpoint)
		if c.Size != 0 {
			t.Errorf("new log has size %d", c.Size)
		}
		return errors.Join(err, err2)
	})
	for i, txn := range numbered("t", 40) {
		if index := appended(t, s, txn); index != uint64(i) {
			t.Fatalf("entry %d got index %d", i, index)
		}
		view(t, s, func(r *store.Reader) error {
			for j := range i + 1 {
				receipt, err := r.Receipt(uint64(j))
				if err != nil {
					return err
				}
				entry, _ := Entry(numbered("t", j+1)[j]).Marshal()
				at, c, err := v.VerifyReceipt(receipt, entry)
				if err != nil || at != uint64(j) || c.Size != uint64(i+1) {
					t.Fatalf("receipt of %d in %d: %d %d %v", j, i+1, at, c.Size, err)
				}
			}
			return nil
		})
	}
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.Receipt(40); return err })
	view(t, s, func(r *store.Reader) error {
		page, err := r.Leaves(38, 10)
		if len(page) != 2 || page[1].Index != 39 || page[1].Txn != "t39" {
			t.Errorf("leaves %+v", page)
		}
		e, err2 := r.Explanations("t7")
		if len(e) != 1 || e[0].Index != 7 || !bytes.Equal(e[0].JSON, because) {
			t.Errorf("explanations %+v", e)
		}
		return errors.Join(err, err2)
	})
	unseen(t, s, nil, func(r *store.Reader) error {
		if _, err := r.Leaves(math.MaxUint64, 1); err == nil {
			t.Error("leaves from the end of the world")
		}
		return nil
	})
}

func testLogRefuses(t *testing.T, s *store.Store) {
	admin := Entry("t")
	admin.Type = audit.TypeAdmin
	noTxn := Entry("")
	for what, a := range map[string]struct {
		entry *audit.Entry
		why   []byte
	}{
		"decision without explanation": {Entry("t"), nil},
		"explanation that is not JSON": {admin, []byte("{")},
		"explanation too long":         {admin, []byte(`"` + strings.Repeat("x", store.MaxExplanation) + `"`)},
		"malformed entry":              {noTxn, because},
	} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Append(a.entry, a.why); return err }); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	must(t, s, func(tx *store.Tx) error { _, err := tx.Append(admin, nil); return err })
	must(t, s, func(tx *store.Tx) error { // one transaction may have several entries
		_, err := tx.Append(Entry("two"), because)
		_, err2 := tx.Append(Entry("two"), because)
		return errors.Join(err, err2)
	})
	view(t, s, func(r *store.Reader) error {
		head, err := r.Head()
		why, err2 := r.Explanations("two")
		if head.Size != 3 || len(why) != 2 {
			t.Errorf("size %d, %d explanations", head.Size, len(why))
		}
		return errors.Join(err, err2)
	})
}

func testProofs(t *testing.T, s *store.Store) {
	v := NewSigner(t).Verifier
	var seen []audit.Checkpoint
	for _, txn := range append([]string{""}, numbered("t", 20)...) {
		if txn != "" {
			appended(t, s, txn)
		}
		view(t, s, func(r *store.Reader) error {
			for _, old := range seen {
				proof, head, err := r.Consistency(old.Size)
				if err != nil {
					return err
				}
				now, err := v.Open(head.Checkpoint)
				if err != nil {
					return err
				}
				if err := audit.VerifyConsistency(old, now, proof); err != nil {
					t.Errorf("from %d to %d: %v", old.Size, now.Size, err)
				}
			}
			head, err := r.Head()
			if err != nil {
				return err
			}
			c, err := v.Open(head.Checkpoint)
			seen = append(seen, c)
			return err
		})
	}
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, _, err := r.Consistency(21); return err })
}

func testContinues(t *testing.T, s *store.Store) {
	for _, txn := range numbered("t", 5) {
		appended(t, s, txn)
	}
	view(t, s, func(r *store.Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		same := audit.Checkpoint{Size: head.Size, Root: head.Root}
		longer, forked := same, same
		longer.Size++
		forked.Root = hash("fork")
		var rollback *store.Rollback
		if err := r.Continues(same); err != nil {
			t.Errorf("the same head: %v", err)
		}
		if err := r.Continues(longer); !errors.As(err, &rollback) || rollback.Remembered != 6 || rollback.Stored != 5 {
			t.Errorf("a longer log was seen before: %v", err)
		}
		if err := r.Continues(forked); !errors.As(err, &rollback) || rollback.Have != head.Root {
			t.Errorf("another log was seen before: %v", err)
		}
		return nil
	})
}

func testFailedUpdate(t *testing.T, s *store.Store) {
	boom := errors.New("boom")
	refused(t, s, boom, func(tx *store.Tx) error {
		if _, err := tx.Append(Entry("lost"), because); err != nil {
			t.Error(err)
		}
		if err := tx.Once(store.SpaceNonce, hash("n"), Now); err != nil {
			t.Error(err)
		}
		return boom
	})
	if index := appended(t, s, "kept"); index != 0 {
		t.Errorf("first entry has index %d", index)
	}
	must(t, s, func(tx *store.Tx) error { return tx.Once(store.SpaceNonce, hash("n"), Now) })
	view(t, s, func(r *store.Reader) error {
		e, err := r.Explanations("lost")
		if len(e) != 0 {
			t.Error("a failed update left an explanation")
		}
		return err
	})
}

func testOver(t *testing.T, s *store.Store) {
	var tx *store.Tx
	var r *store.Reader
	must(t, s, func(got *store.Tx) error { tx = got; return nil })
	view(t, s, func(got *store.Reader) error { r = got; return nil })
	if err := tx.Once(store.SpaceNonce, hash("n"), Now); err == nil {
		t.Error("a transaction goes on after its end")
	}
	if _, err := tx.Append(Entry("late"), because); err == nil {
		t.Error("the log grows after the transaction")
	}
	if _, err := r.Head(); err == nil {
		t.Error("a view goes on after its end")
	}
	appended(t, s, "next")
}

func testPanic(t *testing.T, s *store.Store) {
	caught := func(fn func() error) (value any) {
		defer func() { value = recover() }()
		_ = fn()
		return nil
	}
	if v := caught(func() error {
		return s.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Append(Entry("lost"), because); err != nil {
				t.Error(err)
			}
			panic("mine")
		})
	}); v != "mine" {
		t.Errorf("the panic became %v", v)
	}
	if v := caught(func() error { return s.View(t.Context(), func(*store.Reader) error { panic("mine") }) }); v != "mine" {
		t.Errorf("the panic became %v", v)
	}
	if index := appended(t, s, "kept"); index != 0 {
		t.Errorf("first entry has index %d", index)
	}
}

func testGivenUp(t *testing.T, s *store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	inside, leave, done := make(chan bool), make(chan bool), make(chan error)
	go func() { // holds the turn
		done <- s.Update(context.Background(), func(tx *store.Tx) error { close(inside); <-leave; return nil })
	}()
	<-inside
	ran := false
	go func() { done <- s.Update(ctx, func(*store.Tx) error { ran = true; return nil }) }()
	cancel()
	if err := <-done; err != context.Canceled || ran {
		t.Errorf("gave up with %v, ran=%v", err, ran)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	appended(t, s, "next")
}

func testReopened(t *testing.T, open Open) {
	s := open(t, "kept", NewSigner(t))
	for _, txn := range numbered("t", 9) {
		appended(t, s, txn)
	}
	var before store.Head
	view(t, s, func(r *store.Reader) (err error) { before, err = r.Head(); return err })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, "kept", NewSigner(t))
	defer s.Close()
	view(t, s, func(r *store.Reader) error {
		after, err := r.Head()
		if !bytes.Equal(before.Checkpoint, after.Checkpoint) {
			t.Errorf("head was\n%s, is\n%s", before.Checkpoint, after.Checkpoint)
		}
		return err
	})
	if index := appended(t, s, "next"); index != 9 {
		t.Errorf("next index %d, want 9", index)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
