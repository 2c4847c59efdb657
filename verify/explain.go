// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// Source is what makes the quoted value of a PCR.
type Source string

// The sources, and the two ways to have none.
const (
	SourceBootLog  Source = "boot log"
	SourceOSLog    Source = "boot log and operating system's log" // the firmware's events, then the system's own
	SourceIMA      Source = "IMA list"
	SourceLatch    Source = "latch of the register"
	SourceNothing  Source = "nothing measured" // zero
	SourceNoneSaid Source = "unexplained"      // somebody extended it, and no log says who
)

// Explained is one quoted PCR and what makes its value.
type Explained struct {
	PCR    int           `json:"pcr"`
	Value  evidence.Hash `json:"value"`
	Source Source        `json:"source"`
	// Boot is the value at the end of the boot log. What the operating system
	// extends afterwards hides nothing of it: reference values are held against
	// this one. Where no log makes the PCR it is the quoted value.
	Boot evidence.Hash `json:"boot"`
}

// Explain says of each quoted PCR what makes its value, ascending.
func (r Result) Explain() []Explained {
	v := r.get()
	var out []Explained
	for _, pcr := range v.pcrs.Indexes() {
		out = append(out, v.explain(pcr))
	}
	return out
}

func (v *verified) explain(pcr int) Explained {
	value, _ := v.pcrs.At(pcr)
	e := Explained{PCR: pcr, Value: value, Boot: value, Source: SourceNoneSaid}
	digest := evidence.LatchDigest(v.nvName, v.next.BootID)
	switch {
	case v.boot != nil && v.boot.makes(pcr, value):
		e.Source = SourceBootLog
	case v.ima != nil && pcr == imaPCR:
		e.Source = SourceIMA
	case len(v.nvName) > 0 && pcr == v.latch && value == extend(evidence.Hash{}, digest[:]):
		e.Source = SourceLatch
	case value.IsZero():
		e.Source = SourceNothing
	default:
		if base, made := continued(v.boot, v.os, pcr, value); made {
			e.Source, e.Boot = SourceOSLog, base
		}
	}
	return e
}

// continued reports whether the operating system's log goes on from the end of
// the boot log to this value, and returns where it went on from. A PCR is a chain
// of digests: what goes on from a value has that value in it.
func continued(boot *Boot, os *eventlog.Userspace, pcr int, value evidence.Hash) (base evidence.Hash, made bool) {
	if os == nil {
		return base, false
	}
	start := eventlog.NewValues(eventlog.SHA256)
	if boot != nil {
		start = boot.values
	}
	if at, any := start.At(pcr); any && len(at) == sha256.Size {
		base = evidence.Hash(at)
	}
	end, any := os.Replay(start).At(pcr)
	return base, any && bytes.Equal(end, value[:])
}
