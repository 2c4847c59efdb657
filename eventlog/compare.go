// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// Known is a digest that was seen in a PCR before, and what it was in words.
type Known struct {
	Digest   []byte
	Text     string
	Required bool // it was in every log that was learned
}

// Known returns what was measured into a PCR, in order: to be learned, or to be
// compared with [Log.Compare] later. Each entry is required.
func (l *Log) Known(a Algorithm, pcr int) []Known {
	var out []Known
	for _, e := range l.into(a, pcr) {
		digest, _ := e.Digest(a)
		out = append(out, Known{bytes.Clone(digest), e.Describe(), true})
	}
	return out
}

// Union puts together what several logs measured into one PCR: every digest
// once, required where all of them have it.
func Union(learned ...[]Known) []Known {
	var out []Known
	index := make(map[string]int)
	logs := make(map[string]int) // how many have it
	for _, list := range learned {
		seen := make(map[string]bool)
		for _, k := range list {
			key := string(k.Digest)
			if seen[key] {
				continue
			}
			seen[key] = true
			if i, ok := index[key]; ok {
				out[i].Required = out[i].Required && k.Required
			} else {
				index[key] = len(out)
				out = append(out, k)
			}
			logs[key]++
		}
	}
	for i := range out {
		out[i].Required = out[i].Required && logs[string(out[i].Digest)] == len(learned)
	}
	return out
}

// Difference is the first thing in a PCR that is not as it was.
type Difference struct {
	PCR     int
	Event   int    // number in the log that was looked at; -1: nothing there, see Missing
	Digest  []byte // what is there; of something missing, what should be
	Missing bool   // something that was there before is not
	Text    string // in words
}

// into returns the events of a PCR that a bank has.
func (l *Log) into(a Algorithm, pcr int) []*Event {
	var out []*Event
	for i := range l.Events {
		e := &l.Events[i]
		if _, ok := e.Digest(a); ok && e.Measured() && int(e.PCR) == pcr {
			out = append(out, e)
		}
	}
	return out
}

// Against holds the digests of a PCR against a set: each must be known, and what
// is required must be there. Order and repetition do not count; the value of the
// PCR counts them, so that this explains a value and does not stand for it.
func (l *Log) Against(a Algorithm, pcr int, known []Known) (bool, Difference) {
	accepted := make(map[string]bool, len(known))
	for _, k := range known {
		accepted[string(k.Digest)] = true
	}
	seen := make(map[string]bool)
	for _, e := range l.into(a, pcr) {
		digest, _ := e.Digest(a)
		seen[string(digest)] = true
		if !accepted[string(digest)] {
			return false, Difference{pcr, e.Number, bytes.Clone(digest), false,
				fmt.Sprintf("PCR %d, event %d %s: digest %s is not among the accepted", pcr, e.Number, e.Describe(), hex.EncodeToString(digest))}
		}
	}
	for _, k := range known {
		if k.Required && !seen[string(k.Digest)] {
			return false, missing(pcr, k)
		}
	}
	return true, Difference{PCR: pcr, Event: -1}
}

func missing(pcr int, k Known) Difference {
	return Difference{pcr, -1, bytes.Clone(k.Digest), true,
		fmt.Sprintf("PCR %d: %s with digest %s is missing", pcr, clean(k.Text), hex.EncodeToString(k.Digest))}
}

// Compare holds the digests of a PCR against those of an earlier boot, in their
// order, and returns the first that differs.
func (l *Log) Compare(a Algorithm, pcr int, before []Known) (bool, Difference) {
	events := l.into(a, pcr)
	for i, e := range events {
		digest, _ := e.Digest(a)
		what := fmt.Sprintf("PCR %d, event %d %s: digest %s", pcr, e.Number, e.Describe(), hex.EncodeToString(digest))
		if i == len(before) {
			return false, Difference{pcr, e.Number, bytes.Clone(digest), false, what + " comes after what was there before"}
		}
		if !bytes.Equal(digest, before[i].Digest) {
			return false, Difference{pcr, e.Number, bytes.Clone(digest), false,
				what + ", before it was " + clean(before[i].Text) + " with " + hex.EncodeToString(before[i].Digest)}
		}
	}
	if len(events) < len(before) {
		return false, missing(pcr, before[len(events)])
	}
	return true, Difference{PCR: pcr, Event: -1}
}
