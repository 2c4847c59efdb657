// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// epochs lists the epochs in the log, each with its reason.
func (r *rig) epochs() string {
	r.t.Helper()
	var out []string
	for _, e := range r.entries() {
		if e.Start != nil {
			out = append(out, fmt.Sprintf("%d %s", e.Start.Epoch, e.Start.Reason))
		}
	}
	return strings.Join(out, " ")
}

// TestTPMReset: a reset ends the epoch, and whatever was given in it.
func TestTPMReset(t *testing.T) {
	r := newRig(t).start().self()
	first, err := r.ask()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.ask(); err != nil || again.Token != first.Token {
		t.Fatalf("within the epoch: %v", err)
	}
	r.chip.mu.Lock()
	r.chip.clock.ResetCount++
	r.chip.mu.Unlock()
	r.agent.heartbeat() // notices nothing: only who asks makes the agent ask
	r.execAgain(2)
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	r.execAgain(3)
	resets := 0
	r.duringQuote(func() { // the fake holds the lock
		if resets++; resets == 1 {
			r.chip.clock.RestartCount++
		}
	})
	third, err := r.ask()
	if err != nil {
		t.Fatalf("reset during the quote: %v", err)
	}
	if third.Token == first.Token || resets != 2 {
		t.Errorf("%d quotes", resets)
	}
	if got := r.epochs(); got != "1 first 2 discontinuity 3 discontinuity" {
		t.Errorf("epochs %q", got)
	}
	// The process was measured again in the new epoch, and the bundle says which.
	b := r.double.bundles[len(r.double.bundles)-1]
	if b.Header.Epoch != 3 || b.Entries[0].Value.Start.Epoch != 3 || b.Entries[1].Index < b.Entries[0].Index {
		t.Errorf("epoch %d, start %+v", b.Header.Epoch, b.Entries[0].Value.Start)
	}
}

// TestNewEpochEndsWhatWasGiven: also what nobody asked for since.
func TestNewEpochEndsWhatWasGiven(t *testing.T) {
	r := newRig(t).start().self()
	first, err := r.ask()
	if err != nil {
		t.Fatal(err)
	}
	r.chip.mu.Lock()
	r.chip.clock.ResetCount++
	r.chip.mu.Unlock()
	other := local.CredentialRequest{Delegation: r.double.task.ID, Bearer: true}
	if got, err := r.client().Credential(t.Context(), other); err != nil || got.TokenType != "Bearer" { // needs a quote
		t.Fatalf("%+v, %v", got, err)
	}
	if again, err := r.ask(); err != nil || again.Token == first.Token {
		t.Errorf("the token of an epoch that is over was given again: %v", err)
	}
}

// TestRestart: each start is a new epoch of the same log.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	before, _ := r.agent.log.Last()
	if before.Size != r.agent.log.Size() {
		t.Errorf("an orderly end leaves %d of %d entries uncommitted", r.agent.log.Size()-before.Size, r.agent.log.Size())
	}
	r.sensor = newFakeSensor()
	r.meter.sensor = r.sensor
	r.start().self()
	if got := r.epochs(); got != "1 first 2 restart" {
		t.Errorf("epochs %q", got)
	}
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[1]
	if b.Header.Sequence != 2 || b.Header.Previous.IsZero() || b.Consistency.From != r.double.bundles[0].Checkpoint.Size {
		t.Errorf("header %+v", b.Header)
	}
	if err := evidence.CheckConsistency(b.Consistency.Proof, b.Checkpoint.Size, b.Checkpoint.Root, r.double.bundles[0].Checkpoint.Size, r.double.bundles[0].Checkpoint.Root); err != nil {
		t.Errorf("the log after a restart does not go on: %v", err)
	}
}

// TestTornLog: after a crash in the middle of an entry the epoch says so, and
// what is lost is counted.
func TestTornLog(t *testing.T) {
	r := newRig(t).start()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// As if it had been killed in the middle of an entry.
	entries := filepath.Join(r.state, logName, "entries")
	f, err := os.OpenFile(entries, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\x00\x00\x01\x00torn")
	f.Close()
	r.sensor = newFakeSensor()
	r.start()
	if got := r.epochs(); got != "1 first 2 discontinuity" || r.kinds()[evidence.KindLoss] != 1 || r.agent.epoch.Load().lost.Load() != 1 {
		t.Errorf("epochs %q, log %v", got, r.kinds())
	}
}

func TestNewBootIsANewEpoch(t *testing.T) {
	r := newRig(t).start()
	r.stop()
	a := r.agent
	a.host.bootID = []byte("another boot id.")
	recovery := r.reopen()
	if err := a.firstEpoch(t.Context(), recovery, tpm.Clock{}); err != nil {
		t.Fatal(err)
	}
	es := r.entries()
	if s := es[len(es)-1].Start; s == nil || s.Reason != reasonBoot || s.Epoch != 2 || s.Previous.IsZero() {
		t.Errorf("start %+v", s)
	}
}
