// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	Note    Severity = "note"    // honest machines have it; worth knowing
	Warning Severity = "warning" // trust is less, or firmware is careless
	Alarm   Severity = "alarm"   // honest firmware does not do this, or a conclusion would be wrong
)

// Finding is something about a log that a reader should know before believing
// it. None of them makes a log unreadable.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Event    int      `json:"event"` // number, -1: the log as a whole
	Text     string   `json:"text"`
}

// The codes of findings. They are stable.
const (
	FindingSeparatorMissing = "separator-missing"
	FindingSeparatorTwice   = "separator-twice"
	FindingSeparatorError   = "separator-error"
	FindingSeparatorValue   = "separator-value"
	FindingSeparatorType    = "separator-type"
	FindingAfterSeparator   = "after-separator"
	FindingDigest           = "digest-mismatch"
	FindingNoEvents         = "pcr-empty"

	FindingTypeUnknown  = "type-unknown"
	FindingTypeReserved = "type-reserved"
	FindingTypePCR      = "type-pcr"
	FindingTypeFlip     = "type-flip"

	FindingVariableTwice     = "secure-boot-variable-twice"
	FindingVariableLate      = "secure-boot-variable-late"
	FindingVariableMissing   = "secure-boot-variable-missing"
	FindingVariableMalformed = "variable-malformed"
	FindingDebugMode         = "debug-mode"
	FindingSecureBootUnknown = "secure-boot-unknown"
	FindingNothingAuthorised = "secure-boot-nothing-authorised"
	FindingMOKAuthority      = "mok-authority"
	FindingShimInsecure      = "shim-validation-off"

	FindingLocalityValue = "locality-value"
	FindingLocalityTwice = "locality-twice"
	FindingLocalityLate  = "locality-late"
	FindingHCRTMOrder    = "hcrtm-order"
	FindingHCRTMLocality = "hcrtm-locality"

	FindingKernelUnmeasured     = "kernel-unmeasured"
	FindingCommandLineSeveral   = "kernel-cmdline-several"
	FindingCommandLineUncovered = "kernel-cmdline-uncovered"
	FindingEBSMissing           = "ebs-missing"
	FindingEBSIncomplete        = "ebs-incomplete"
	FindingEBSFailed            = "ebs-failed"

	FindingBankSHA1     = "bank-sha1-only"
	FindingBankUnknown  = "bank-unknown"
	FindingBankCoverage = "bank-coverage"

	FindingPadding     = "padding"
	FindingHeaderSlack = "header-slack"
	FindingSuppressed  = "more"
)

// FindingInfo describes one code.
type FindingInfo struct {
	Code     string
	Severity Severity
	Meaning  string
}

var findingTable = [...]FindingInfo{
	{FindingSeparatorMissing, Alarm, "one of PCR 0 to 7 was never closed: what the firmware measured cannot be told from what came later"},
	{FindingSeparatorTwice, Alarm, "one of PCR 0 to 7 was closed more than once"},
	{FindingSeparatorError, Alarm, "the firmware closed a PCR because of an error"},
	{FindingSeparatorValue, Alarm, "a separator is neither 00000000 nor ffffffff"},
	{FindingSeparatorType, Alarm, "an event has the digest of a separator and calls itself something else"},
	{FindingAfterSeparator, Warning, "an event comes after the separator of its PCR, where firmware does not measure any more"},
	{FindingDigest, Alarm, "the digest is not that of the data, though the type of the event says so: the data are made up"},
	{FindingNoEvents, Warning, "nothing was measured into one of PCR 0 to 7: its value says nothing"},
	{FindingTypeUnknown, Note, "the type of an event has no name here"},
	{FindingTypeReserved, Warning, "an event has a type that nobody may use"},
	{FindingTypePCR, Warning, "the type of an event does not belong into its PCR"},
	{FindingTypeFlip, Alarm, "an event calls itself something else than what its data are"},
	{FindingVariableTwice, Alarm, "a Secure Boot variable was measured twice"},
	{FindingVariableLate, Alarm, "a Secure Boot variable comes after the separator, where an operating system can write what it likes"},
	{FindingVariableMissing, Warning, "a Secure Boot variable was not measured"},
	{FindingVariableMalformed, Alarm, "a variable in PCR 7 cannot be read"},
	{FindingDebugMode, Alarm, "the firmware runs with its debug mode on"},
	{FindingSecureBootUnknown, Warning, "the log does not say whether Secure Boot was on"},
	{FindingNothingAuthorised, Alarm, "Secure Boot was on, and it authorised no image: it verified nothing of what runs"},
	{FindingMOKAuthority, Warning, "an image was authorised by a key that the machine's owner enrolled, not the firmware's"},
	{FindingShimInsecure, Alarm, "shim was told not to validate images"},
	{FindingLocalityValue, Alarm, "a start-up locality that does not exist"},
	{FindingLocalityTwice, Alarm, "the start-up locality is given twice"},
	{FindingLocalityLate, Alarm, "the start-up locality is given after PCR 0 was measured into"},
	{FindingHCRTMOrder, Alarm, "an H-CRTM event that is not the first measurement of PCR 0"},
	{FindingHCRTMLocality, Warning, "H-CRTM event and start-up locality contradict each other"},
	{FindingKernelUnmeasured, Alarm, "no image was measured that could be or load the kernel: the PCRs say nothing about which kernel runs"},
	{FindingCommandLineSeveral, Alarm, "more than one kernel command line was measured: one of them was used"},
	{FindingCommandLineUncovered, Warning, "the digest of what looks like a kernel command line is not that of its text"},
	{FindingEBSMissing, Warning, "the log does not say that the boot services ended: PCR 5 may only replay with the events that are missing"},
	{FindingEBSIncomplete, Warning, "the log says that the boot services were to end, and not how that went"},
	{FindingEBSFailed, Note, "ending the boot services was tried and failed"},
	{FindingBankSHA1, Alarm, "SHA-1 is the only bank: digests can be forged"},
	{FindingBankUnknown, Note, "a bank cannot be computed here and was skipped"},
	{FindingBankCoverage, Alarm, "a bank lacks the digest of an event: whoever extends it can make up another boot"},
	{FindingPadding, Note, "zeros follow the last event"},
	{FindingHeaderSlack, Note, "the header has bytes that it does not account for"},
	{FindingSuppressed, Note, "there are more findings than are listed"},
}

// FindingCodes lists every code there is.
func FindingCodes() []FindingInfo { return slices.Clone(findingTable[:]) }

// maxFindings keeps a log of nothing but faults from becoming a list of 65536.
const maxFindings = 256

// Findings checks what a log says against what firmware may say, in the order
// of the log. The rules are those that replay does not enforce: replay
// authenticates PCR and digest and nothing else.
func (l *Log) Findings() []Finding {
	f := &finder{log: l, closing: make([][2][]byte, len(l.banks))}
	for i, b := range l.banks {
		if b.algorithm.Computable() {
			f.closing[i] = [2][]byte{b.algorithm.sum(separatorZero), b.algorithm.sum(separatorError)}
		}
	}
	f.form()
	f.events()
	f.separatorsOnce()
	f.secureBoot()
	f.system()
	slices.SortStableFunc(f.found, func(a, b Finding) int { return a.Event - b.Event })
	if f.more > 0 {
		f.found = append(f.found, Finding{FindingSuppressed, Note, -1, fmt.Sprintf("and %d more", f.more)})
	}
	return f.found
}

// finder collects findings.
type finder struct {
	log   *Log
	found []Finding
	more  int

	closing [][2][]byte // for each bank the digests of a separator, nil: cannot be computed

	separators [numPCRs]int // before the event that is being looked at
	measured   [numPCRs]int
	variables  [len(secureBootVariables)]int
}

func (f *finder) add(code string, event int, format string, args ...any) {
	if len(f.found) == maxFindings {
		f.more++
		return
	}
	severity := Warning
	for _, info := range findingTable {
		if info.Code == code {
			severity = info.Severity
		}
	}
	f.found = append(f.found, Finding{code, severity, event, clean(fmt.Sprintf(format, args...))})
}

// form is about the log as a whole.
func (f *finder) form() {
	l := f.log
	if l.padding > 0 {
		f.add(FindingPadding, -1, "%s of zeros after the last event", plural(l.padding, "byte", "bytes"))
	}
	if l.slack > 0 {
		f.add(FindingHeaderSlack, 0, "%s at the end of the header that it does not account for", plural(l.slack, "byte", "bytes"))
	}
	strong := false
	for _, b := range l.banks {
		if !b.algorithm.Computable() {
			f.add(FindingBankUnknown, -1, "bank %v is skipped: its digests cannot be computed here", b.algorithm)
		} else if b.algorithm != SHA1 {
			strong = true
		}
	}
	if !strong {
		f.add(FindingBankSHA1, -1, "the only bank that can be replayed is SHA-1")
	}
	f.coverage()
	for _, p := range l.startup().problems {
		f.add(p.code, p.event, "%s", p.text)
	}
}

// coverage compares which events the banks cover. A bank the firmware left out
// of some event can be extended by anybody afterwards (CVE-2021-42299).
func (f *finder) coverage() {
	for _, b := range f.log.banks {
		lacking, first := 0, -1
		for i := range f.log.Events {
			e := &f.log.Events[i]
			if _, ok := e.Digest(b.algorithm); !ok && e.Measured() {
				if lacking++; first < 0 {
					first = e.Number
				}
			}
		}
		if lacking > 0 {
			f.add(FindingBankCoverage, first, "bank %v lacks the digests of %s, the first in this event", b.algorithm, plural(lacking, "event", "events"))
		}
	}
}

// secureBoot is about the state of Secure Boot and what came of it.
func (f *finder) secureBoot() {
	state, reason := f.log.SecureBoot()
	if state == SecureBootUnknown {
		f.add(FindingSecureBootUnknown, -1, "Secure Boot is unknown: %s", reason)
	}
	p := f.log.policy()
	for i, v := range secureBootVariables {
		if f.measured[7] > 0 && p.count[i] == 0 {
			f.add(FindingVariableMissing, -1, "variable %s was not measured before the separator of PCR 7", v.name)
		}
	}
	images := 0
	for _, a := range f.log.Authorities() {
		if !a.Image {
			continue
		}
		images++
		if strings.HasPrefix(a.Variable, "MokList") {
			f.add(FindingMOKAuthority, a.Event, "%s", a.Text)
		}
	}
	if state == SecureBootOn && images == 0 {
		f.add(FindingNothingAuthorised, -1, "Secure Boot was on, but no certificate or hash authorised any image: it verified nothing of what runs")
	}
}

// system is about the operating system.
func (f *finder) system() {
	if ok, why := f.log.KernelMeasured(); !ok {
		f.add(FindingKernelUnmeasured, -1, "%s", why)
	}
	lines := f.log.KernelCommandLines()
	if len(lines) > 1 {
		f.add(FindingCommandLineSeveral, -1, "%d different kernel command lines were measured, the first \"%s\"", len(lines), lines[0])
	}
	f.exitBootServices()
}
