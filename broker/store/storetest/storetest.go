// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package storetest is the one suite that every store of the broker passes,
// whatever database it is in. It has no station and ships in no program.
//
//	func TestStore(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

// Open opens the store called name. The same name, opened again after Close,
// is the same data.
type Open func(t testing.TB, name string, signer store.Signer) *store.Store

// Now is the time at which the suite plays.
var Now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *store.Store)
	}{
		{"once", testOnce}, {"evidence", testEvidence}, {"settings", testSettings}, {"purge", testPurge}, {"texts", testTexts}, {"ahead", testAhead},
		{"invitations", testInvitations}, {"enrolments", testEnrolments}, {"hosts", testHosts},
		{"host state", testHostState}, {"host removal", testHostRemoval},
		{"boot logs", testBootLogs}, {"IMA files", testIMAFiles}, {"kept together", testKeptTogether}, {"live tokens", testLiveTokens},
		{"documents", testDocuments}, {"approvers", testApprovers}, {"resources", testResources},
		{"delegations", testDelegations}, {"delegation moves", testMoves}, {"delegation uses", testUses},
		{"uses per instance", testInstanceUses}, {"unusable", testUnusable}, {"answers", testAnswers}, {"tokens", testTokens},
		{"log", testLog}, {"log refuses", testLogRefuses}, {"log proofs", testProofs}, {"continues", testContinues},
		{"update failed", testFailedUpdate}, {"update over", testOver}, {"update panics", testPanic}, {"update given up", testGivenUp},
		{"last use in parallel", testParallelUses}, {"replay in parallel", testParallelOnce}, {"host in parallel", testParallelHost},
		{"revocation race", testRevocationRace}, {"log in parallel", testParallelLog},
	} {
		t.Run(part.name, func(t *testing.T) {
			s := open(t, "store", NewSigner(t))
			part.test(t, s)
			if err := s.Check(t.Context()); err != nil {
				t.Errorf("check: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if err := s.Update(t.Context(), func(*store.Tx) error { return nil }); err != store.ErrClosed {
				t.Errorf("update after close: %v", err)
			}
			if err := s.View(t.Context(), func(*store.Reader) error { return nil }); err != store.ErrClosed {
				t.Errorf("view after close: %v", err)
			}
		})
	}
	t.Run("closing", func(t *testing.T) { testClosing(t, open) })
	t.Run("reopened", func(t *testing.T) { testReopened(t, open) })
}

// NewSigner returns the log signer of the suite: always the same key.
func NewSigner(t testing.TB) *audit.Signer {
	t.Helper()
	return signerOf(t, "jurat.dev/log/broker.example", 7)
}

func signerOf(t testing.TB, origin string, seed byte) *audit.Signer {
	t.Helper()
	key := make([]byte, ed25519.SeedSize)
	key[0] = seed
	s, err := audit.NewSigner(origin, ed25519.NewKeyFromSeed(key))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Entry returns a decision for the log.
func Entry(txn string) *audit.Entry {
	return &audit.Entry{Version: audit.Version, Type: audit.TypeDecision, Time: uint64(Now.UnixMilli()), Txn: txn, Decision: "allow"}
}

func hash(format string, args ...any) evidence.Hash {
	return sha256.Sum256(fmt.Appendf(nil, format, args...))
}

// must runs an update that has to succeed.
func must(t testing.TB, s *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// refused runs an update that has to end with want.
func refused(t testing.TB, s *store.Store, want error, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != want {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// view runs a read that has to succeed.
func view(t testing.TB, s *store.Store, fn func(r *store.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// unseen reports want unless the read ends with it.
func unseen(t testing.TB, s *store.Store, want error, fn func(r *store.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != want {
		t.Fatalf("error %v, want %v", err, want)
	}
}
