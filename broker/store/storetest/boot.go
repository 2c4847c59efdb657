// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

func testBootLogs(t *testing.T, s *store.Store) {
	h1, h2 := host("h1"), host("h2")
	must(t, s, func(tx *store.Tx) error { return errors.Join(tx.AddHost(h1), tx.AddHost(h2)) })
	a, b := []byte("boot log a"), []byte("boot log b")
	digestA, digestB := evidence.Hash(sha256.Sum256(a)), evidence.Hash(sha256.Sum256(b))
	keep := func(h store.Host, digest evidence.Hash, log []byte) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.KeepBootLog(h.ID, digest, log) }
	}
	there := func(digest evidence.Hash, want []byte) {
		t.Helper()
		if want == nil {
			unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.BootLog(digest); return err })
			return
		}
		view(t, s, func(r *store.Reader) error {
			got, err := r.BootLog(digest)
			if !bytes.Equal(got, want) {
				t.Errorf("boot log %q, want %q", got, want)
			}
			return err
		})
	}
	of := func(h store.Host, want evidence.Hash) {
		t.Helper()
		view(t, s, func(r *store.Reader) error {
			got, err := r.HostByID(h.ID)
			if got.BootLog != want {
				t.Errorf("%s has boot log %s, want %s", h.Name, got.BootLog, want)
			}
			return err
		})
	}
	refused(t, s, store.ErrNotFound, keep(h1, digestA, nil))
	refused(t, s, store.ErrNotFound, keep(store.Host{ID: "spiffe://td/host/none"}, digestA, a))
	must(t, s, keep(h1, digestA, a))
	must(t, s, keep(h1, digestA, nil))
	must(t, s, keep(h2, digestA, nil)) // of a host that booted alike
	of(h2, digestA)
	must(t, s, keep(h1, digestB, b))
	there(digestA, a)
	must(t, s, keep(h2, digestB, b))
	there(digestA, nil)
	must(t, s, keep(h1, evidence.Hash{}, nil))
	of(h1, evidence.Hash{})
	there(digestB, b)
	for what, do := range map[string]func(*store.Tx) error{
		"other bytes": keep(h1, digestA, b), "too large": keep(h1, hash("huge"), make([]byte, evidence.MaxBootLog+1)),
	} {
		if err := s.Update(t.Context(), do); err == nil {
			t.Errorf("%s: kept", what)
		}
	}
	must(t, s, func(tx *store.Tx) error { return tx.RemoveHost("h2", Now) })
	there(digestB, nil)
}

func testIMAFiles(t *testing.T, s *store.Store) {
	h1, h2 := host("h1"), host("h2")
	must(t, s, func(tx *store.Tx) error { return errors.Join(tx.AddHost(h1), tx.AddHost(h2)) })
	var want []evidence.Hash
	add := func(n int) {
		t.Helper()
		var files []evidence.Hash
		for range n {
			files = append(files, hash("file %d", len(want)))
			want = append(want, files[len(files)-1])
		}
		must(t, s, func(tx *store.Tx) error { return tx.AddIMAFiles(h1.ID, files) })
	}
	same := func() {
		t.Helper()
		view(t, s, func(r *store.Reader) error {
			got, err := r.IMAFiles(h1.ID)
			if !slices.Equal(got, want) {
				t.Errorf("%d files, want %d", len(got), len(want))
			}
			return err
		})
	}
	same()
	for _, n := range []int{0, 3, 1, 508, 1, 2000, 1, 5} { // up to a piece's end, over it, and more than one
		add(n)
		same()
	}
	must(t, s, func(tx *store.Tx) error { return tx.AddIMAFiles(h2.ID, []evidence.Hash{hash("other")}) })
	same()
	must(t, s, func(tx *store.Tx) error { return tx.ForgetIMAFiles(h1.ID) })
	want = nil
	same()
	add(2)
	same()
	must(t, s, func(tx *store.Tx) error { return tx.RemoveHost("h1", Now) })
	want = nil
	same()
	view(t, s, func(r *store.Reader) error {
		got, err := r.IMAFiles(h2.ID)
		if len(got) != 1 {
			t.Errorf("%d files of the other host", len(got))
		}
		return err
	})
}

// testKeptTogether: what a failed update kept is not kept.
func testKeptTogether(t *testing.T, s *store.Store) {
	h := host("h1")
	must(t, s, func(tx *store.Tx) error { return tx.AddHost(h) })
	log := []byte("boot log")
	digest := evidence.Hash(sha256.Sum256(log))
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		err := errors.Join(tx.KeepBootLog(h.ID, digest, log), tx.AddIMAFiles(h.ID, []evidence.Hash{hash("f")}))
		return errors.Join(err, tx.AdvanceHost(h.ID, state(1, 1, 1), state(1, 2, 2), Now))
	})
	if !errors.Is(err, store.ErrStale) {
		t.Errorf("error %v", err)
	}
	view(t, s, func(r *store.Reader) error {
		got, err := r.HostByID(h.ID)
		files, err2 := r.IMAFiles(h.ID)
		if !got.BootLog.IsZero() || len(files) != 0 {
			t.Errorf("kept log %s and %d files", got.BootLog, len(files))
		}
		return errors.Join(err, err2)
	})
	unseen(t, s, store.ErrNotFound, func(r *store.Reader) error { _, err := r.BootLog(digest); return err })
}

func testLiveTokens(t *testing.T, s *store.Store) {
	add := func(jti, host string, epoch uint64) store.Token {
		tok := store.Token{JTI: hash("%s", jti), Host: host, Epoch: epoch, Issued: Now, Expires: Now.Add(300e9)}
		must(t, s, func(tx *store.Tx) error { return tx.AddToken(tok) })
		return tok
	}
	add("a", "h1", 1)
	b := add("b", "h1", 2)
	add("c", "h1", 3)
	add("d", "h2", 1)
	live := func(before uint64, want uint64) {
		t.Helper()
		view(t, s, func(r *store.Reader) error {
			n, err := r.LiveTokens("h1", before, Now)
			if n != want {
				t.Errorf("%d live before epoch %d, want %d", n, before, want)
			}
			return err
		})
	}
	live(1, 0)
	live(3, 2)
	must(t, s, func(tx *store.Tx) error { return tx.RevokeToken(b.JTI, Now) })
	live(3, 1)
	view(t, s, func(r *store.Reader) error {
		if n, err := r.LiveTokens("h1", 9, Now.Add(300e9)); n != 0 || err != nil {
			t.Errorf("%d live after their end (%v)", n, err)
		}
		got, err := r.Token(b.JTI)
		if got.Epoch != 2 {
			t.Errorf("epoch %d", got.Epoch)
		}
		return err
	})
}
