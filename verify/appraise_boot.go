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

// bootPCR accepts a PCR by its value, or by each event that made it.
func (a *Appraisal) bootPCR(v *verified, ref *Reference, pcr int) {
	check := fmt.Sprintf("pcr-%d", pcr)
	expected := expectation(Set[evidence.Hash]{Of: ref.Boot.PCRs[pcr]}, evidence.Hash.String)
	value, covered := v.pcrs.At(pcr)
	if !covered {
		a.add(AttestorBoot, check, expected, []string{"not quoted"}, ClaimNone, "the broker's policy has to demand this PCR")
		return
	}
	events, byEvent := ref.Boot.Events[pcr]
	if slices.Contains(ref.Boot.PCRs[pcr], value) || !byEvent {
		a.judge(AttestorBoot, check, slices.Contains(ref.Boot.PCRs[pcr], value), expected, []string{value.String()}, learnBoot)
		return
	}
	want, got := events.firstDifference(v.boot, pcr, value)
	if got == "" {
		a.pass(AttestorBoot, check, []string{"events that are all accepted"}, []string{value.String()})
		return
	}
	a.fail(AttestorBoot, check, []string{want}, []string{got}, learnBoot)
}

// firstDifference says in words which event of a PCR is the first that no
// learned boot had, or which one that they all had is missing; nothing where
// there is none. Events that the quoted value does not bear out are no events.
func (b BootEvents) firstDifference(boot *Boot, pcr int, value evidence.Hash) (want, got string) {
	if boot == nil {
		return "a boot log", "none"
	}
	if !boot.makes(pcr, value) {
		return "events that make " + value.String(), "a boot log whose events do not"
	}
	seen := make(map[evidence.Hash]bool)
	for i := range boot.log.Events {
		e := &boot.log.Events[i]
		digest, has := e.Digest(eventlog.SHA256)
		if int(e.PCR) != pcr || !e.Measured() || !has {
			continue
		}
		d := evidence.Hash(digest)
		if !slices.ContainsFunc(b.Accepted, func(known BootEvent) bool { return known.Digest == d }) {
			return b.instead(seen), fmt.Sprintf("event %d: %s: sha-256:%s", e.Number, e.Describe(), d)
		}
		seen[d] = true
	}
	for _, known := range b.Accepted {
		if known.Always && !seen[known.Digest] {
			return known.String(), "no such event"
		}
	}
	return "", ""
}

// instead is what would have been accepted where an unknown event stands: the
// first accepted ones that were not seen yet.
func (b BootEvents) instead(seen map[evidence.Hash]bool) string {
	for _, known := range b.Accepted {
		if !seen[known.Digest] {
			return known.String()
		}
	}
	return "no further event"
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
	a.judge(AttestorBoot, "secure-boot", set.Any || slices.Contains(set.Of, string(state)), expectation(set, plain), []string{observed},
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
	a.judge(AttestorBoot, "kernel-command-line", ok, expectation(set, plain), observed, learnBoot)
}

// findings lets through only those oddities of a log that somebody accepted
// for the class.
func (a *Appraisal) findings(boot *Boot, ref *Reference) {
	if boot == nil {
		return
	}
	var observed []string
	for _, f := range boot.facts.Findings {
		if !slices.Contains(ref.Boot.Findings, f.Code) {
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

func plain(s string) string { return s }

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
			added += learnText(&b.Findings, f.Code)
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

func (b *BootReference) learnEvents(pcr int, boot *Boot) (added int) {
	if b.Events == nil {
		b.Events = make(map[int]BootEvents)
	}
	known, again := b.Events[pcr]
	seen := make(map[evidence.Hash]bool)
	for i := range boot.log.Events {
		e := &boot.log.Events[i]
		digest, has := e.Digest(eventlog.SHA256)
		if int(e.PCR) != pcr || !e.Measured() || !has || seen[evidence.Hash(digest)] {
			continue
		}
		d := evidence.Hash(digest)
		seen[d] = true
		if !slices.ContainsFunc(known.Accepted, func(k BootEvent) bool { return k.Digest == d }) {
			known.Accepted = append(known.Accepted, BootEvent{Digest: d, Text: clean(e.Describe()), Always: !again})
			added++
		}
	}
	for i := range known.Accepted {
		if k := &known.Accepted[i]; k.Always && !seen[k.Digest] {
			k.Always = false
			added++
		}
	}
	b.Events[pcr] = known
	return added
}
