// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// bootDiff is how a host's last boot differs from what is accepted of its class.
// It is for people: what counts is package verify's appraisal of evidence.
type bootDiff struct {
	Host         string    `json:"host"`
	Machine      string    `json:"machine"`
	Seen         string    `json:"seen"`
	OK           bool      `json:"ok"`
	PCRs         []pcrDiff `json:"pcrs"`
	SecureBoot   wordsDiff `json:"secure_boot"`
	CommandLines wordsDiff `json:"command_lines"`
	Findings     wordsDiff `json:"findings"`
}

// pcrDiff is one PCR that the class has something about.
type pcrDiff struct {
	PCR        int           `json:"pcr"`
	OK         bool          `json:"ok"`
	By         string        `json:"by"` // "value" or "events" that are accepted; "": neither is
	Value      evidence.Hash `json:"value"`
	Difference string        `json:"difference"` // the first one, in words
	Event      int           `json:"event"`      // its number in the log; -1: none
	Missing    bool          `json:"missing"`    // what is accepted has something that this boot has not
}

// wordsDiff is a set of words, any of which may be seen.
type wordsDiff struct {
	OK       bool     `json:"ok"`
	Accepted []string `json:"accepted"` // "any": all
	Seen     []string `json:"seen"`
}

func (b *Broker) getBootDiff(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var out *bootDiff
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		boot, err := b.lastBoot(s, r.PathValue("name"))
		if err != nil {
			return err
		}
		machine, _, err := readMachine(s, boot.host.Machine)
		if err != nil {
			return err
		}
		out = boot.diff(&machine.Boot)
		return nil
	})
	if err != nil {
		return b.found("comparing how a host booted", err)
	}
	oauth.WriteJSON(w, http.StatusOK, out)
	return nil
}

// diff holds the boot against the class, as verify's boot attestor would.
func (b *booted) diff(ref *verify.BootReference) *bootDiff {
	out := &bootDiff{Host: b.host.Name, Machine: b.host.Machine, Seen: rfc3339(b.host.Seen), PCRs: []pcrDiff{}}
	about := slices.Concat(slices.Collect(maps.Keys(ref.PCRs)), slices.Collect(maps.Keys(ref.Events)))
	slices.Sort(about)
	about = slices.Compact(about)
	out.OK = len(about) > 0
	for _, pcr := range about {
		one := b.diffPCR(ref, pcr)
		out.PCRs = append(out.PCRs, one)
		out.OK = out.OK && one.OK
	}
	state, lines, odd := string(eventlog.SecureBootUnknown), []string{}, []string{}
	if b.log != nil {
		facts := b.log.Facts()
		state, lines = string(facts.SecureBoot), facts.CommandLines
		for _, f := range facts.Findings {
			if f.Severity != eventlog.Note {
				odd = append(odd, f.Code)
			}
		}
	}
	if len(lines) == 0 {
		lines = []string{verify.NoCommandLine}
	}
	slices.Sort(odd)
	out.SecureBoot = wordsOf(ref.SecureBoot, []string{state})
	out.CommandLines = wordsOf(ref.CommandLines, lines)
	out.Findings = wordsOf(verify.Set[string]{Of: ref.Findings}, slices.Compact(odd))
	out.OK = out.OK && out.SecureBoot.OK && out.CommandLines.OK && out.Findings.OK
	return out
}

func wordsOf(set verify.Set[string], seen []string) wordsDiff {
	out := wordsDiff{OK: true, Accepted: append([]string{}, set.Of...), Seen: seen}
	if set.Any {
		out.Accepted = []string{"any"}
		return out
	}
	for _, word := range seen {
		out.OK = out.OK && slices.Contains(set.Of, word)
	}
	return out
}

func (b *booted) diffPCR(ref *verify.BootReference, pcr int) pcrDiff {
	value, quoted := b.seen.PCRs[pcr]
	out := pcrDiff{PCR: pcr, Value: value, Event: -1}
	events, byEvent := ref.Events[pcr]
	switch {
	case !quoted:
		out.Difference = "not quoted"
	case slices.Contains(ref.PCRs[pcr], value):
		out.OK, out.By = true, "value"
	case !byEvent:
		out.Difference = fmt.Sprintf("the value is not among the %d accepted, and no events are", len(ref.PCRs[pcr]))
	case b.log == nil:
		out.Difference = "the host has no boot log"
	case !replays(b.log, pcr, value):
		out.Difference = "the boot log does not make this value"
	default:
		var first eventlog.Difference
		out.OK, first = b.log.Log().Against(eventlog.SHA256, pcr, accepted(events))
		if out.OK {
			out.By = "events"
		} else {
			out.Difference, out.Event, out.Missing = first.Text, first.Event, first.Missing
		}
	}
	return out
}

func replays(log *verify.Boot, pcr int, value evidence.Hash) bool {
	made, any := log.Log().Replay(eventlog.SHA256).At(pcr)
	return any && slices.Equal(made, value[:])
}

func accepted(events []verify.BootEvent) []eventlog.Known {
	out := make([]eventlog.Known, len(events))
	for i, e := range events {
		out[i] = eventlog.Known{Digest: e.Digest[:], Text: e.Text, Required: e.Required}
	}
	return out
}
