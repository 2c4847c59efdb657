// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"encoding/base64"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

// TestMainJob is the whole way, from an exec to a token and its proofs.
func TestMainJob(t *testing.T) {
	r := newRig(t).start().self()
	got, err := r.ask()
	if err != nil {
		t.Fatal(err)
	}
	if got.TokenType != "DPoP" || got.Audience != "https://payments.example" || got.Txn == "" || got.ExpiresAt == 0 {
		t.Errorf("credential %+v", got)
	}
	// The proof is by the key that the quoted request names, and for the same token.
	p, err := r.client().Proof(t.Context(), r.double.task.ID, "GET", "https://payments.example/invoices?month=10", "n1")
	if err != nil {
		t.Fatal(err)
	}
	if p.Authorization != "DPoP "+got.Token {
		t.Errorf("authorization %q", p.Authorization)
	}
	thumbprint, claims, err := readProof(p.DPoP)
	if err != nil || base64.RawURLEncoding.EncodeToString(thumbprint) != confirmed(t, got.Token) {
		t.Errorf("proof by %x, %v", thumbprint, err)
	}
	if claims["htu"] != "https://payments.example/invoices" || claims["htm"] != "GET" || claims["nonce"] != "n1" || claims["ath"] == "" {
		t.Errorf("proof %v", claims)
	}
	if r.chip.quotes != 1 || r.double.exchanges != 1 {
		t.Errorf("%d quotes, %d exchanges for one credential", r.chip.quotes, r.double.exchanges)
	}
	b := r.double.bundles[0]
	if len(b.Requests) != 1 || len(b.Entries) != 2 || b.Entries[0].Value.Kind != evidence.KindStart || b.Entries[1].Value.Kind != evidence.KindProcess {
		t.Errorf("bundle of %d requests, %d entries", len(b.Requests), len(b.Entries))
	}
	req := b.Requests[0].Value
	if len(req.Actions) != 2 || req.Audience != "https://payments.example" || !req.Before.Alive || req.Confirm.Method != evidence.ConfirmJKT {
		t.Errorf("request %+v", req)
	}
	eventually(t, "the exec to be logged", func() bool { return r.kinds()[evidence.KindExec] == 1 })
	if n := r.kinds(); n[evidence.KindStart] != 1 || n[evidence.KindProcess] != 1 || n[evidence.KindRelease] != 1 {
		t.Errorf("log %v", n)
	}
	s, err := r.client().Status(t.Context())
	if err != nil || s.Quotes != 1 || s.Answered != 1 || s.Epoch != 1 || s.Keys != 1 || s.BrokerState != "reachable" || s.Tier != "tracepoint" || s.Sequence != 1 {
		t.Errorf("status %+v, %v", s, err)
	}
	raw, err := r.client().Bundle(t.Context())
	if err != nil || len(raw) != r.double.sizes[0] {
		t.Errorf("last bundle of %d bytes, %v", len(raw), err)
	}
}
