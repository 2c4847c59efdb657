// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Tiers of the sensor, weakest first (spec/evidence.md section 6).
const (
	TierTracepoint = "tracepoint"
	TierTrampoline = "trampoline"
	TierLSM        = "lsm"
)

// Policy is what a broker demands of every bundle, whatever the workload. Its
// zero value refuses everything.
type Policy struct {
	PCRs             []int            `yaml:"pcrs" json:"pcrs"`                             // exactly what a quote must cover, SHA-256 bank
	Anchors          []string         `yaml:"anchors" json:"anchors"`                       // accepted anchor modes
	Latches          []int            `yaml:"latches" json:"latches"`                       // PCRs that may latch a register
	NvPCRs           []evidence.Bytes `yaml:"nvpcrs" json:"nvpcrs"`                         // names of the systemd NvPCRs that may be registers
	Measured         []int            `yaml:"measured" json:"measured"`                     // PCRs that must hold what the boot log makes; none: no log is wanted
	IMAViolations    bool             `yaml:"ima_violations" json:"ima_violations"`         // take lists with files that changed while they were measured
	Firmware         []FirmwareRange  `yaml:"denied_firmware" json:"denied_firmware"`       // TPM firmware that must not be believed
	Tiers            []string         `yaml:"tiers" json:"tiers"`                           // accepted tiers
	UnsafeClockGrace time.Duration    `yaml:"unsafe_clock_grace" json:"unsafe_clock_grace"` // how long after a TPM reset its clock may be unsafe
}

// FirmwareRange is firmware of one TPM maker, from one version to another, both
// included, as the firmwareVersion of quotes and the maker of the EK
// certificate say.
type FirmwareRange struct {
	Maker string `yaml:"maker" json:"maker"` // TCG vendor id; "": any
	From  uint64 `yaml:"from" json:"from"`
	To    uint64 `yaml:"to" json:"to"`
	Why   string `yaml:"why" json:"why"` // such as the CVE
}

// DefaultPolicy returns the policy of this version: PCRs 0 to 15, of which the
// boot log must make 0 to 7, every anchor mode but a broken one, any latch that only a reset opens again,
// every tier, no violation in an IMA list, no grace.
func DefaultPolicy() Policy {
	p := Policy{
		Anchors: []string{evidence.AnchorNone, evidence.AnchorNVLatch, evidence.AnchorNvPCR}, Latches: []int{8, 9, 11, 12, 13, 14, 15},
		Tiers: []string{TierTracepoint, TierTrampoline, TierLSM},
	}
	for pcr := range 16 {
		p.PCRs = append(p.PCRs, pcr)
	}
	p.Measured = append(p.Measured, p.PCRs[:8]...)
	return p
}

// Check says why the policy is unsound, or nil. Brokers call it when they load
// one; [Bundle] calls it again.
func (p Policy) Check() error {
	_, rejection := p.selection()
	if rejection != nil {
		return rejection
	}
	return nil
}

// selection returns the demanded PCRs as a bit map.
func (p *Policy) selection() (uint32, *Rejection) {
	var selected uint32
	for _, pcr := range p.PCRs {
		if pcr < 0 || pcr > 23 {
			return 0, reject(codePolicy, "policy pcrs", "PCRs between 0 and 23", fmt.Sprint(pcr))
		}
		// Root can reset these two at any time: they never count.
		if pcr == 16 || pcr == 23 {
			return 0, reject(codePolicy, "policy pcrs", "no PCR that root can reset", fmt.Sprintf("PCR %d", pcr))
		}
		selected |= 1 << pcr
	}
	if selected == 0 {
		return 0, reject(codePolicy, "policy pcrs", "at least one PCR", "none")
	}
	if len(p.Anchors) == 0 {
		return 0, reject(codePolicy, "policy anchors", "at least one anchor mode", "none")
	}
	for _, anchor := range p.Anchors {
		if anchorRank(anchor) == 0 {
			return 0, reject(codePolicy, "policy anchors", "broken, none, nv-latch or nvpcr", quoted(anchor))
		}
	}
	for _, pcr := range p.Measured {
		if pcr < 0 || pcr > 23 || selected&(1<<pcr) == 0 {
			return 0, reject(codePolicy, "policy measured", "PCRs that the policy has quoted", fmt.Sprint(pcr))
		}
	}
	for _, pcr := range p.Latches {
		if pcr < 0 || pcr > 23 || selected&(1<<pcr) == 0 {
			return 0, reject(codePolicy, "policy latches", "PCRs that the policy has quoted", fmt.Sprint(pcr))
		}
	}
	if len(p.Tiers) == 0 {
		return 0, reject(codePolicy, "policy tiers", "at least one tier", "none")
	}
	for _, tier := range p.Tiers {
		if tierRank(tier) == 0 {
			return 0, reject(codePolicy, "policy tiers", "tracepoint, trampoline or lsm", quoted(tier))
		}
	}
	if p.UnsafeClockGrace < 0 || p.UnsafeClockGrace > maxGrace {
		return 0, reject(codePolicy, "policy unsafe_clock_grace", "between 0 and "+maxGrace.String(), p.UnsafeClockGrace.String())
	}
	return selected, nil
}

// Ranks order the levels, weakest first; 0 is no level at all.
func levelRank(level string) int { return rank(level, LevelPin, LevelCloudAK, LevelCert) }
func tierRank(tier string) int   { return rank(tier, TierTracepoint, TierTrampoline, TierLSM) }
func imaRank(word string) int    { return rank(word, IMANone, IMAConfirmed) }
func vouchRank(vouch string) int { return rank(vouch, Pinned, Proved) }

// boundRank puts everything that was found by a name on one step: the name is
// the kernel's, but the file was looked up after the fact.
func boundRank(bound string) int {
	switch bound {
	case evidence.BoundArgument, evidence.BoundExec, evidence.BoundModule, evidence.BoundInline:
		return 1
	case evidence.BoundGate:
		return 2
	case evidence.BoundKernel:
		return 3
	}
	return 0
}

// anchorRank puts both registers on one step: they promise the same.
func anchorRank(anchor string) int {
	return min(rank(anchor, evidence.AnchorBroken, evidence.AnchorNone, evidence.AnchorNVLatch, evidence.AnchorNvPCR), 3)
}

func rank(word string, ladder ...string) int { return slices.Index(ladder, word) + 1 }
