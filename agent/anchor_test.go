// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// The register of these tests: its name, the boot, and what is found of it.
var (
	judgedName = append([]byte{0, 11}, bytes.Repeat([]byte{7}, 32)...)
	judgedBoot = bytes.Repeat([]byte{9}, 16)
	judgedNow  = logstore.AnchorHeader{
		Mode: evidence.AnchorNVLatch, Name: judgedName, Index: tpm.DefaultIndex, Latch: 13, BootID: judgedBoot, ResetCount: 5, RestartCount: 2,
	}
)

func hashOf(b byte) evidence.Hash { return evidence.Hash(bytes.Repeat([]byte{b}, 32)) }

// closedIn is the latch after this boot closed it.
func closedIn(boot []byte) evidence.Hash {
	digest := evidence.LatchDigest(judgedName, boot)
	return sha256.Sum256(append(make([]byte, 32), digest[:]...))
}

// journalOf is a journal of count digests that make value 2, and 1 without
// the last.
func journalOf(count uint64, change func(*logstore.Anchor)) *logstore.Anchor {
	a := &logstore.Anchor{AnchorHeader: judgedNow, Count: count, Number: count, Before: hashOf(1), Value: hashOf(2)}
	if count == 1 {
		a.Before = evidence.Hash{}
	}
	if change != nil {
		change(a)
	}
	return a
}

// What can be found of register and latch.
var (
	absent  = tpm.RegisterState{}
	defined = tpm.RegisterState{Defined: true, Ours: true, Name: []byte("unwritten")}
	foreign = tpm.RegisterState{Defined: true, Name: []byte("other")}
	lost    = tpm.RegisterState{Latch: hashOf(3)}
)

// openWith is a register with that value and the latch still zero.
func openWith(value byte) tpm.RegisterState {
	return tpm.RegisterState{Defined: true, Ours: true, Written: true, Name: judgedName, Value: hashOf(value)}
}

// latched is a register with that value, and how the latch was closed.
func latched(value byte, latch evidence.Hash) tpm.RegisterState {
	s := openWith(value)
	s.Latch = latch
	return s
}

func closed(value byte) tpm.RegisterState { return latched(value, closedIn(judgedBoot)) }

// What a journal can be of.
var (
	otherBoot = bytes.Repeat([]byte{8}, 16)
	earlier   = func(a *logstore.Anchor) { a.ResetCount = 4 }
	asleep    = func(a *logstore.Anchor) { a.RestartCount = 1 }
	kexeced   = func(a *logstore.Anchor) { a.BootID = otherBoot }
	renamed   = func(a *logstore.Anchor) { a.Name = []byte("x") }
	systemds  = func(a *logstore.Anchor) { a.Mode = evidence.AnchorNvPCR }
	wasBroken = func(a *logstore.Anchor) { a.Broken = true }
)

// TestJudgeExplains is every way in which our own journal and our own crash
// explain what is found.
func TestJudgeExplains(t *testing.T) {
	for name, c := range map[string]struct {
		have  *logstore.Anchor
		found tpm.RegisterState
		want  standing
	}{
		"first start":                         {nil, absent, fresh},
		"first start, defined before":         {nil, defined, fresh},
		"first start, index in use":           {nil, foreign, fresh}, // the TPM refuses to remove it
		"reset":                               {journalOf(9, earlier), defined, fresh},
		"hibernation":                         {journalOf(9, asleep), defined, fresh},
		"crash before the first write":        {journalOf(0, nil), defined, fresh},
		"crash before the first write, noted": {journalOf(1, nil), defined, fresh},
		"crash before the latch":              {journalOf(1, nil), openWith(2), opened},
		"crash before the latch, and sleep":   {journalOf(1, asleep), openWith(2), opened},
		"agent started again":                 {journalOf(9, nil), closed(2), whole},
		"after sleep":                         {journalOf(9, asleep), closed(2), whole},
		"crash before an extend":              {journalOf(9, nil), closed(1), behind},
		"only the first":                      {journalOf(1, nil), closed(2), whole},
	} {
		if got, err := judge(c.have, c.found, &judgedNow); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
}

// TestJudgeBreaks is what they do not explain.
func TestJudgeBreaks(t *testing.T) {
	for name, c := range map[string]struct {
		have  *logstore.Anchor
		found tpm.RegisterState
		why   string
	}{
		"reset that the TPM does not count": {journalOf(2, nil), defined, "which counts none"},
		"removed, and latch zero again":     {journalOf(2, nil), absent, "which counts none"},
		"replaced, and latch zero again":    {journalOf(2, nil), foreign, "which counts none"},
		"latch in use":                      {nil, lost, "choose another with -latch-pcr"},
		"removed":                           {journalOf(9, nil), lost, "removed the register"},
		"opened by another, first start":    {nil, openWith(2), "opened by somebody else"},
		"opened by another before us":       {journalOf(0, nil), openWith(2), "opened by somebody else"},
		"opened by another after a reset":   {journalOf(1, earlier), openWith(2), "opened by somebody else"},
		"opened by another in hibernation":  {journalOf(1, asleep), openWith(5), "opened by somebody else"},
		"opened by us, written by another":  {journalOf(1, nil), openWith(5), "opened by somebody else"},
		"open with more than one":           {journalOf(2, nil), openWith(2), "opened by somebody else"},
		"latch closed by another":           {journalOf(9, nil), latched(2, hashOf(4)), "closed by somebody else"},
		"kexec":                             {journalOf(9, kexeced), latched(2, closedIn(otherBoot)), "kexec"},
		"no journal":                        {nil, closed(2), "not on record"},
		"journal of an earlier start":       {journalOf(9, earlier), closed(2), "not on record"},
		"journal of another register":       {journalOf(9, renamed), closed(2), "not on record"},
		"journal of a NvPCR":                {journalOf(9, systemds), closed(2), "not on record"},
		"written by another":                {journalOf(9, nil), closed(5), "9 checkpoints make"},
		"two behind":                        {journalOf(9, nil), closed(0), "9 checkpoints make"},
		"empty journal":                     {journalOf(0, nil), closed(1), "0 checkpoints make"},
		"broken before":                     {journalOf(9, wasBroken), closed(2), "found broken before"},
	} {
		got, err := judge(c.have, c.found, &judgedNow)
		if unexplained, is := errors.AsType[*anchorError](err); !is || got != unsettled || !strings.Contains(unexplained.Error(), c.why) {
			t.Errorf("%s: %d, %v, want %q", name, got, err, c.why)
		}
	}
}
