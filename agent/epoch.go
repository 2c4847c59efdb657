// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// Why an epoch begins (spec/evidence.md section 4.2).
const (
	reasonFirst         = "first"         // the log is new
	reasonRestart       = "restart"       // the agent was started again, and the kernel was watched all the time
	reasonBoot          = "boot"          // the machine was started
	reasonResume        = "resume"        // the machine slept; PCRs and register are what they were
	reasonHibernate     = "hibernate"     // the machine's power was off; PCRs and register begin anew
	reasonDiscontinuity = "discontinuity" // anything else: nobody watched for a while, a torn log, a reset of the TPM
)

// causeGap is the loss of what happened while nobody watched: at least one
// record.
const causeGap = "unexplained"

// epoch is one unbroken time of watching.
type epoch struct {
	number uint64
	index  uint64        // of its start entry in the log
	leaf   evidence.Hash // of that entry
	raw    []byte
	since  time.Time
	// The TPM's counts when it began. A change of either ends it.
	resets, restarts uint32
	// Entries of the log when the TPM started: what the broker saw of a log that
	// is shorter was of another start. Only the goroutine that answers reads it.
	floor uint64

	lost   atomic.Uint64 // kernel records lost
	taints atomic.Uint64 // taint entries
}

// begin opens a new epoch: a start entry and a checkpoint about it, which is
// anchored. The register was looked at. floor is that of the epoch before if
// the TPM has not started anew since.
func (a *Agent) begin(ctx context.Context, reason string, number, floor uint64, clock tpm.Clock) error {
	start := &evidence.Start{
		Reason: reason, Epoch: number, BootID: a.host.bootID, Agent: a.version, AgentDigest: a.host.agent,
		Kernel: a.host.kernel, Tier: a.facts.Tier, Sensor: a.facts.Object, Programs: a.facts.Programs,
		Capabilities: a.host.capabilities, Modules: a.host.modules, Lockdown: a.host.lockdown, Signals: a.facts.Signals,
	}
	if last, raw := a.log.Last(); last != nil {
		start.Previous = evidence.CheckpointDigest(raw)
	}
	entry := evidence.Entry{Version: evidence.EntryVersion, Kind: evidence.KindStart, At: a.boot(), Start: start}
	raw, err := entry.Marshal()
	if err != nil {
		return fmt.Errorf("start of epoch %d: %w", number, err)
	}
	e := &epoch{number: number, raw: raw, since: a.now(), resets: clock.ResetCount, restarts: clock.RestartCount, floor: floor}
	if e.index, e.leaf, err = a.log.Append(raw); err != nil {
		return err
	}
	if e.floor == 0 {
		e.floor = e.index + 1
	}
	a.epoch.Store(e)
	check, err := a.checkpoint()
	if err != nil {
		return err
	}
	if err := a.anchorTo(ctx, check); err != nil {
		return err
	}
	a.logger.Info("epoch begins", "epoch", number, "reason", reason, "entry", e.index, "tier", a.facts.Tier, "anchor", a.anchor.mode())
	return nil
}

// firstEpoch opens the epoch of this run of the agent.
func (a *Agent) firstEpoch(ctx context.Context, r logstore.Recovery, clock tpm.Clock) error {
	last, _ := a.log.Last()
	floor, err := a.log.FirstOf(a.host.bootID)
	if err != nil {
		return err
	}
	reason := reasonRestart
	switch {
	case a.log.Size() == 0:
		reason = reasonFirst
	case last != nil && string(last.BootID) != string(a.host.bootID):
		reason = reasonBoot
	case r.Cut > 0 || a.facts.Gap != "":
		reason = reasonDiscontinuity
	}
	if err := a.anchor.settle(ctx, a.chip, clock, a.host.bootID); err != nil {
		return fmt.Errorf("%w with -anchor %s: %w", ErrAnchor, a.anchor.options.Mode, err)
	}
	if err := a.begin(ctx, reason, r.Epoch+1, floor, clock); err != nil {
		return err
	}
	if reason == reasonDiscontinuity && a.facts.Gap != "" {
		a.logger.Warn("the kernel was not watched since the agent before", "reason", a.facts.Gap)
		if err := a.lose(causeGap, 0, 1); err != nil {
			return err
		}
	}
	if r.Cut > 0 {
		a.logger.Warn("the log ended in a torn entry", "bytes", r.Cut)
		return a.lose("unexplained", 0, 1)
	}
	return nil
}

// sealed is a checkpoint with its bytes, and the epoch it was made in.
type sealed struct {
	*evidence.Checkpoint
	raw   []byte
	epoch *epoch
}

// checkpoint makes everything logged so far durable and commits to it.
func (a *Agent) checkpoint() (*sealed, error) {
	a.sealing.Lock() // so that no checkpoint has less of the IMA list than the one before
	defer a.sealing.Unlock()
	e := a.epoch.Load()
	count, digest := a.ima.advance()
	c, raw, err := a.log.Commit(func(c *evidence.Checkpoint) {
		c.AKName, c.BootID, c.Epoch = a.identity.AKName, a.host.bootID, e.number
		c.IMACount, c.IMADigest = count, digest
		c.Lost, c.Taints, c.At = e.lost.Load(), e.taints.Load(), a.boot()
	})
	if err != nil {
		return nil, err
	}
	return &sealed{c, raw, e}, nil
}

// heartbeat commits to a log that grew although nobody asks, so that a crash
// loses little.
func (a *Agent) heartbeat() error {
	if last, _ := a.log.Last(); last != nil && last.Size == a.log.Size() {
		return nil
	}
	_, err := a.checkpoint()
	return err
}
