// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// boot holds the PCR values and the boot log against what machines of the class
// boot like.
func (a *Appraisal) boot(v *verified, ref *Reference) {
	pcrs := ref.Boot.indexes()
	if len(pcrs) == 0 {
		a.add(AttestorBoot, "pcrs", []string{"accepted values or events of at least one PCR"}, []string{"none in the reference values"}, ClaimNone,
			"boot the machine in its good state, then: jurat boot learn HOST")
		return
	}
	for _, pcr := range pcrs {
		a.bootPCR(v, ref, pcr)
	}
	a.secureBoot(v.boot, ref)
	a.commandLines(v.boot, ref)
	a.findings(v.boot, ref)
}

const learnBoot = "if firmware, boot loader, kernel or command line were changed on purpose: jurat boot learn HOST"

// bootPCR accepts a PCR by its value, or by each event that made it. What the
// operating system extended after the boot log ended, and wrote down, is set
// aside: a value that goes on from an accepted one has that one in it.
func (a *Appraisal) bootPCR(v *verified, ref *Reference, pcr int) {
	check := fmt.Sprintf("pcr-%d", pcr)
	expected := expectation(Set[evidence.Hash]{Of: ref.Boot.PCRs[pcr]}, evidence.Hash.String)
	value, covered := v.pcrs.At(pcr)
	if !covered {
		a.add(AttestorBoot, check, expected, []string{"not quoted"}, ClaimNone, "the broker's policy has to demand this PCR")
		return
	}
	if e := v.explain(pcr); e.Source == SourceOSLog {
		value = e.Boot
	}
	events, byEvent := ref.Boot.Events[pcr]
	if slices.Contains(ref.Boot.PCRs[pcr], value) || !byEvent {
		a.judge(AttestorBoot, check, slices.Contains(ref.Boot.PCRs[pcr], value), expected, []string{value.String()}, learnBoot)
		return
	}
	expected = []string{fmt.Sprintf("events among the %d accepted", len(events))}
	switch {
	case v.boot == nil:
		a.add(AttestorBoot, check, expected, []string{"no boot log"}, ClaimNone, learnBoot)
	case !v.boot.makes(pcr, value):
		a.fail(AttestorBoot, check, expected, []string{"a boot log whose events do not make " + value.String()}, learnBoot)
	default:
		ok, first := v.boot.log.Against(eventlog.SHA256, pcr, learned(events))
		observed := []string{value.String()}
		if !ok {
			observed = []string{first.Text}
		}
		a.judge(AttestorBoot, check, ok, expected, observed, learnBoot)
	}
}

// secureBoot wants a state that the reference values name. Unknown is not off,
// and neither is on.
func (a *Appraisal) secureBoot(boot *Boot, ref *Reference) {
	state, reason := eventlog.SecureBootUnknown, "no boot log"
	if boot != nil {
		state, reason = boot.facts.SecureBoot, boot.facts.Reason
	}
	observed := string(state)
	if reason != "" {
		observed += ": " + reason
	}
	set := ref.Boot.SecureBoot
	a.judge(AttestorBoot, "secure-boot", set.Any || slices.Contains(set.Of, string(state)), expectation(set, asText), []string{observed},
		"turn Secure Boot on in the firmware setup; boot.secure_boot of the machine class says what is accepted")
}

// NoCommandLine stands in reference values for a boot log without a kernel
// command line.
const NoCommandLine = "none"

func (a *Appraisal) commandLines(boot *Boot, ref *Reference) {
	var observed []string
	if boot != nil {
		observed = boot.facts.CommandLines
	}
	if len(observed) == 0 {
		observed = []string{NoCommandLine}
	}
	set, ok := ref.Boot.CommandLines, true
	for _, line := range observed {
		ok = ok && (set.Any || slices.Contains(set.Of, line))
	}
	a.judge(AttestorBoot, "kernel-command-line", ok, expectation(set, asText), observed, learnBoot)
}

// findings lets through only those oddities of a log that somebody accepted
// for the class.
func (a *Appraisal) findings(boot *Boot, ref *Reference) {
	if boot == nil {
		return
	}
	var observed []string
	for _, f := range boot.facts.Findings {
		if f.Severity != eventlog.Note && !slices.Contains(ref.Boot.Findings, f.Code) {
			text := f.Code + ": " + f.Text
			if f.Event >= 0 {
				text = fmt.Sprintf("%s (event %d)", text, f.Event)
			}
			observed = append(observed, text)
		}
	}
	expected := []string{"nothing odd in the boot log"}
	if len(ref.Boot.Findings) > 0 {
		expected = []string{fmt.Sprintf("nothing odd but %v", ref.Boot.Findings)}
	}
	if observed == nil {
		a.pass(AttestorBoot, "boot-log", expected, []string{"nothing else"})
		return
	}
	a.fail(AttestorBoot, "boot-log", expected, observed, "jurat eventlog show explains the log; boot.findings of the machine class accepts findings by their code")
}

func asText(s string) string { return s }

// indexes lists the PCRs that the reference values are about, ascending.
func (b *BootReference) indexes() []int {
	all := slices.Concat(slices.Collect(maps.Keys(b.PCRs)), slices.Collect(maps.Keys(b.Events)))
	slices.Sort(all)
	return slices.Compact(all)
}

// Learn accepts how a host booted: the values that were quoted, and the log that
// makes them, which may be nil. It returns how many things were not accepted
// before. Several boots may be learned; what only some of them have is accepted
// and not demanded.
func (b *BootReference) Learn(pcrs map[int]evidence.Hash, boot *Boot) (added int) {
	if b.PCRs == nil {
		b.PCRs = make(map[int][]evidence.Hash)
	}
	for _, pcr := range slices.Sorted(maps.Keys(pcrs)) {
		if !slices.Contains(b.PCRs[pcr], pcrs[pcr]) {
			b.PCRs[pcr] = append(b.PCRs[pcr], pcrs[pcr])
			added++
		}
		if boot != nil && boot.makes(pcr, pcrs[pcr]) {
			added += b.learnEvents(pcr, boot)
		}
	}
	state, lines := string(eventlog.SecureBootUnknown), []string{}
	if boot != nil {
		state, lines = string(boot.facts.SecureBoot), boot.facts.CommandLines
		for _, f := range boot.facts.Findings {
			if f.Severity != eventlog.Note {
				added += learnText(&b.Findings, f.Code)
			}
		}
	}
	if len(lines) == 0 {
		lines = []string{NoCommandLine}
	}
	if !b.SecureBoot.Any {
		added += learnText(&b.SecureBoot.Of, state)
	}
	for _, line := range lines {
		if !b.CommandLines.Any {
			added += learnText(&b.CommandLines.Of, line)
		}
	}
	return added
}

func learnText(list *[]string, text string) int {
	if slices.Contains(*list, text) {
		return 0
	}
	*list = append(*list, text)
	return 1
}

// learnEvents adds what the log measured into a PCR. What not every learned log
// has is not required from then on.
func (b *BootReference) learnEvents(pcr int, boot *Boot) (added int) {
	if b.Events == nil {
		b.Events = make(map[int][]BootEvent)
	}
	sets := [][]eventlog.Known{boot.log.Known(eventlog.SHA256, pcr)}
	if before, again := b.Events[pcr]; again {
		sets = slices.Insert(sets, 0, learned(before))
	}
	var events []BootEvent
	for _, k := range eventlog.Union(sets...) {
		events = append(events, BootEvent{Digest: evidence.Hash(k.Digest), Text: clean(k.Text), Required: k.Required})
	}
	for i := range events {
		if i >= len(b.Events[pcr]) || events[i].Required != b.Events[pcr][i].Required {
			added++
		}
	}
	b.Events[pcr] = events
	return added
}

func learned(events []BootEvent) []eventlog.Known {
	out := make([]eventlog.Known, len(events))
	for i, e := range events {
		out[i] = eventlog.Known{Digest: e.Digest[:], Text: e.Text, Required: e.Required}
	}
	return out
}
