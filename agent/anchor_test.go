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

// TestJudge is every way in which register, latch and journal can be found.
// Whatever is not explained by our own journal and our own crash is broken.
func TestJudge(t *testing.T) {
	absent := tpm.RegisterState{}
	defined := tpm.RegisterState{Defined: true, Ours: true, Name: []byte("unwritten")}
	foreign := tpm.RegisterState{Defined: true, Name: []byte("other")}
	lost := tpm.RegisterState{Latch: hashOf(3)}
	open := func(value byte) tpm.RegisterState {
		return tpm.RegisterState{Defined: true, Ours: true, Written: true, Name: judgedName, Value: hashOf(value)}
	}
	closed := func(value byte) tpm.RegisterState {
		s := open(value)
		s.Latch = closedIn(judgedBoot)
		return s
	}
	otherLatch := closed(2)
	otherLatch.Latch = hashOf(4)
	kexec := closed(2)
	kexec.Latch = closedIn(bytes.Repeat([]byte{8}, 16))
	earlier := func(a *logstore.Anchor) { a.ResetCount = 4 }
	asleep := func(a *logstore.Anchor) { a.RestartCount = 1 }
	for name, c := range map[string]struct {
		have  *logstore.Anchor
		found tpm.RegisterState
		want  standing
		why   string // of what is broken
	}{
		"first start":                         {nil, absent, fresh, ""},
		"first start, defined before":         {nil, defined, fresh, ""},
		"first start, index in use":           {nil, foreign, fresh, ""}, // the TPM refuses to remove it
		"reset":                               {journalOf(9, earlier), defined, fresh, ""},
		"hibernation":                         {journalOf(9, asleep), defined, fresh, ""},
		"crash before the first write":        {journalOf(0, nil), defined, fresh, ""},
		"crash before the first write, noted": {journalOf(1, nil), defined, fresh, ""},
		"crash before the latch":              {journalOf(1, nil), open(2), opened, ""},
		"crash before the latch, and sleep":   {journalOf(1, asleep), open(2), opened, ""},
		"agent started again":                 {journalOf(9, nil), closed(2), whole, ""},
		"after sleep":                         {journalOf(9, asleep), closed(2), whole, ""},
		"crash before an extend":              {journalOf(9, nil), closed(1), behind, ""},
		"only the first":                      {journalOf(1, nil), closed(2), whole, ""},

		"reset that the TPM does not count": {journalOf(2, nil), defined, 0, "which counts none"},
		"removed, and latch zero again":     {journalOf(2, nil), absent, 0, "which counts none"},
		"replaced, and latch zero again":    {journalOf(2, nil), foreign, 0, "which counts none"},
		"latch in use":                      {nil, lost, 0, "choose another with -latch-pcr"},
		"removed":                           {journalOf(9, nil), lost, 0, "removed the register"},
		"opened by another, first start":    {nil, open(2), 0, "opened by somebody else"},
		"opened by another before us":       {journalOf(0, nil), open(2), 0, "opened by somebody else"},
		"opened by another after a reset":   {journalOf(1, earlier), open(2), 0, "opened by somebody else"},
		"opened by another in hibernation":  {journalOf(1, asleep), open(5), 0, "opened by somebody else"},
		"opened by us, written by another":  {journalOf(1, nil), open(5), 0, "opened by somebody else"},
		"open with more than one":           {journalOf(2, nil), open(2), 0, "opened by somebody else"},
		"latch closed by another":           {journalOf(9, nil), otherLatch, 0, "closed by somebody else"},
		"kexec":                             {journalOf(9, func(a *logstore.Anchor) { a.BootID = bytes.Repeat([]byte{8}, 16) }), kexec, 0, "kexec"},
		"no journal":                        {nil, closed(2), 0, "not on record"},
		"journal of an earlier start":       {journalOf(9, earlier), closed(2), 0, "not on record"},
		"journal of another register":       {journalOf(9, func(a *logstore.Anchor) { a.Name = []byte("x") }), closed(2), 0, "not on record"},
		"journal of a NvPCR":                {journalOf(9, func(a *logstore.Anchor) { a.Mode = evidence.AnchorNvPCR }), closed(2), 0, "not on record"},
		"written by another":                {journalOf(9, nil), closed(5), 0, "9 checkpoints make"},
		"two behind":                        {journalOf(9, nil), closed(0), 0, "9 checkpoints make"},
		"empty journal":                     {journalOf(0, nil), closed(1), 0, "0 checkpoints make"},
		"broken before":                     {journalOf(9, func(a *logstore.Anchor) { a.Broken = true }), closed(2), 0, "found broken before"},
	} {
		got, err := judge(c.have, c.found, &judgedNow)
		unexplained, is := errors.AsType[*anchorError](err)
		if c.why == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
		if c.why != "" && (!is || got == whole || got == fresh || !strings.Contains(unexplained.Error(), c.why)) {
			t.Errorf("%s: %d, %v, want %q", name, got, err, c.why)
		}
	}
}
