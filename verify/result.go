// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"crypto/sha256"
	"math"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// Result is what evidence says after it was found true. Only [Bundle] makes
// one; the zero value refuses: it is not OK, holds nothing, and no appraisal of
// it is OK.
type Result struct {
	v *verified
}

type verified struct {
	digest   evidence.Hash
	next     State
	pcrs     PCRs
	requests []Request
	level    string
	tier     string
	anchor   string
	skew     time.Duration
	bootLog  evidence.Value[evidence.Hash]
	boot     *Boot
	os       *eventlog.Userspace
	latch    int // PCR of the register, 0: none
	nvName   []byte
	ima      *IMAUpdate
	imaState evidence.Value[evidence.Hash]
	signals  []evidence.Signal // of the epoch's start
	at       time.Time
}

func (v *verification) result() *verified {
	h, c, a := v.b.Header, v.b.Checkpoint, &v.attest
	digest := evidence.Hash(sha256.Sum256(v.b.Quote.Attest))
	bootLog, _ := h.BootLog.Get()
	next := State{
		Epoch: h.Epoch, Sequence: h.Sequence, Number: c.Number, Size: c.Size, Root: c.Root, Checkpoint: h.Checkpoint,
		Quote: digest, Start: v.startLeaf, Lost: c.Lost, Taints: c.Taints, BootID: slices.Clone(h.BootID), BootLog: bootLog,
		ResetCount: a.resetCount, RestartCount: a.restartCount, Clock: a.clock, Firmware: a.firmware,
		EpochSince: v.now, ResetSince: v.resetSince, Banks: v.active, Register: v.register,
	}
	if last := v.host.Last; last != nil && last.Epoch == h.Epoch {
		next.EpochSince = last.EpochSince
	}
	out := &verified{
		digest: digest, next: next, pcrs: v.pcrs, requests: v.verified, level: v.host.Level, tier: h.Tier, anchor: h.Anchor,
		skew: time.Unix(int64(min(h.Wall, 1<<40)), 0).Sub(v.now), bootLog: h.BootLog, at: v.now,
		boot: v.boot, os: v.os, ima: v.ima, imaState: h.IMADigest, signals: v.signals,
	}
	if v.b.Register != nil {
		out.latch, out.nvName = int(v.b.Register.Latch), next.Register.Name
	}
	return out
}

// OK reports whether there is anything in r.
func (r Result) OK() bool { return r.v != nil }

func (r Result) get() *verified {
	if r.v == nil {
		return &verified{}
	}
	return r.v
}

// Next is what the broker has to remember of this host from now on.
func (r Result) Next() State { return r.get().next }

// PCRs are the verified PCR values.
func (r Result) PCRs() PCRs { return r.get().pcrs }

// Requests are the verified requests, in the order of the bundle.
func (r Result) Requests() []Request { return slices.Clone(r.get().requests) }

// Digest identifies the quote, and is the key by which a replay is known:
// SHA-256 of the TPMS_ATTEST. The signature would not do; ECDSA signatures can
// be changed into others that verify.
func (r Result) Digest() evidence.Hash { return r.get().digest }

// Level is how the endorsement key came to be trusted.
func (r Result) Level() string { return r.get().level }

// Tier is what the sensor could see.
func (r Result) Tier() string { return r.get().tier }

// Signals are what the sensor sees of the epoch, and what it cannot see and why,
// as the start entry has them. Callers do not change them.
func (r Result) Signals() []evidence.Signal { return r.get().signals }

// Anchor is how the log is bound to the TPM.
func (r Result) Anchor() string { return r.get().anchor }

// Skew is how far the host's clock is ahead of the broker's. It is for people
// and decided nothing.
func (r Result) Skew() time.Duration { return r.get().skew }

// BootLog is the digest of the boot event log that was quoted, and held
// against the log itself; unknown where the host has none.
func (r Result) BootLog() evidence.Value[evidence.Hash] { return r.get().bootLog }

// Boot is the boot event log, taken apart; nil where the host has none. Brokers
// keep it, so that it need not be sent and read again.
func (r Result) Boot() *Boot { return r.get().boot }

// IMA is what the bundle adds to the host's IMA list, for the broker to keep;
// false where the host has no list.
func (r Result) IMA() (IMAUpdate, bool) {
	if u := r.get().ima; u != nil {
		return *u, true
	}
	return IMAUpdate{}, false
}

// PCRs are values that a quote signed, of the SHA-256 bank. There is no other
// way to make one than [Bundle].
type PCRs struct {
	signed uint32
	values [24]evidence.Hash
}

// At returns the value of one PCR, and whether the quote covers it.
func (p PCRs) At(pcr int) (evidence.Hash, bool) {
	if pcr < 0 || p.signed&(1<<pcr) == 0 {
		return evidence.Hash{}, false
	}
	return p.values[pcr], true
}

// Indexes lists the PCRs that the quote covers, ascending.
func (p PCRs) Indexes() []int {
	var out []int
	for pcr := range p.values {
		if p.signed&(1<<pcr) != 0 {
			out = append(out, pcr)
		}
	}
	return out
}

// Request is one verified request of a batch: what is asked for, for whom.
type Request struct {
	Index     uint64        // in the batch
	Leaf      evidence.Hash // its leaf in the batch
	D         evidence.Hash // content hash of the delegation
	Audience  string
	Actions   []string
	Datatypes []string
	Confirm   evidence.Confirm
	Instance  evidence.Instance // who asks
	Entry     uint64            // where the log measured it
	Process   *evidence.Process // that measurement; requests may share it
	Before    evidence.State    // the look under the quote
	After     evidence.State    // the look behind it: the host's word alone
	Window    time.Duration     // between the looks: nothing proves what happened here
	IMA       IMACover          // what the kernel's own list says of its files
}

func newRequest(leaf *evidence.Leaf[evidence.Request], hash evidence.Hash, process *evidence.Process, after *evidence.State) Request {
	r := leaf.Value
	out := Request{
		Index: leaf.Index, Leaf: hash, D: r.D, Audience: r.Audience, Actions: slices.Clone(r.Actions), Datatypes: slices.Clone(r.Datatypes),
		Confirm: r.Confirm, Instance: r.Subject.Instance, Entry: r.Subject.Index, Process: process, Before: r.Before, After: *after,
	}
	out.Confirm.Thumbprint = slices.Clone(r.Confirm.Thumbprint)
	if after.At > r.Before.At {
		out.Window = time.Duration(min(after.At-r.Before.At, math.MaxInt64))
	}
	return out
}
