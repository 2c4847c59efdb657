// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"fmt"
	"slices"
)

var (
	separatorZero  = []byte{0, 0, 0, 0}
	separatorError = []byte{0xff, 0xff, 0xff, 0xff}
)

// place names an event by its number.
func (e *Event) place() string { return fmt.Sprintf("event %d", e.Number) }

// events looks at each event by itself and in the order of its PCR.
func (f *finder) events() {
	for i := range f.log.Events {
		e := &f.log.Events[i]
		if !e.Measured() {
			continue
		}
		f.separator(e)
		f.data(e)
		f.kind(e)
		if e.PCR == 7 {
			f.policyEvent(e)
		}
		f.measured[e.PCR]++
	}
}

func (f *finder) separator(e *Event) {
	if e.Type != Separator {
		if f.separators[e.PCR] > 0 && !mayFollowSeparator(e) {
			f.add(FindingAfterSeparator, e.Number, "%v after the separator of PCR %d: %s", e.Type, e.PCR, e.Describe())
		}
		return
	}
	f.separators[e.PCR]++
	if e.PCR > 7 { // Windows closes PCR 12 to 14 with a word of its own
		return
	}
	switch {
	case bytes.Equal(e.Data, separatorError):
		f.add(FindingSeparatorError, e.Number, "PCR %d was closed because the firmware met an error", e.PCR)
	case !bytes.Equal(e.Data, separatorZero):
		f.add(FindingSeparatorValue, e.Number, "the separator of PCR %d is %s", e.PCR, hexadecimal(e.Data))
	}
	if f.separators[e.PCR] == 2 {
		f.add(FindingSeparatorTwice, e.Number, "PCR %d is closed a second time", e.PCR)
	}
}

// mayFollowSeparator tells what firmware and boot loaders measure after they
// have closed a PCR: boot loaders into 4, disks and actions into 5, authorities
// into 7, configuration that is only made then into 1, late drivers into 2.
func mayFollowSeparator(e *Event) bool {
	switch e.PCR {
	case 0, 3, 6:
		return false
	case 1:
		return e.Type == EFIVariableBoot || e.Type == EFIVariableBoot2 || e.Type == EFIHandoffTables || e.Type == EFIHandoffTables2 ||
			e.Type == PlatformConfigFlags || e.Type == EventTag || e.Type == EFIAction
	case 2:
		return imageNames[e.Type] != "" || e.Type == EFISPDMFirmwareBlob
	case 7:
		return e.Type == EFIVariableAuthority || e.Type == EFIVariableDriverConfig // the latter has a code of its own
	}
	return true
}

// data holds the digest against the data.
func (f *finder) data(e *Event) {
	if e.Type != Separator && e.PCR <= 7 && f.hasSeparatorDigest(e) {
		f.add(FindingSeparatorType, e.Number, "%v in PCR %d has the digest of a separator", e.Type, e.PCR)
		return
	}
	if e.PCR == 12 && e.Type == IPL && e.coverage() == opaque && e.isWideText() {
		if s, _ := ucs2(e.Data); !stubTexts[s] {
			f.add(FindingCommandLineUncovered, e.Number, "PCR 12 has the text \"%s\", and the digest of something else", s)
		}
	}
	if e.coverage() == mismatch {
		f.add(FindingDigest, e.Number, "the digest of %v in PCR %d is not that of its data: %s", e.Type, e.PCR, e.Describe())
	}
}

// hasSeparatorDigest reports whether any bank has the digest of a separator.
func (f *finder) hasSeparatorDigest(e *Event) bool {
	for i, b := range f.log.banks {
		digest, ok := e.Digest(b.algorithm)
		if ok && f.closing[i][0] != nil && (bytes.Equal(digest, f.closing[i][0]) || bytes.Equal(digest, f.closing[i][1])) {
			return true
		}
	}
	return false
}

// kind holds the type against the PCR and the data.
func (f *finder) kind(e *Event) {
	switch {
	case e.Type == Unused, e.Type == PrebootCert:
		f.add(FindingTypeReserved, e.Number, "%v in PCR %d", e.Type, e.PCR)
	case !e.Type.known():
		f.add(FindingTypeUnknown, e.Number, "%v in PCR %d, %s", e.Type, e.PCR, plural(len(e.Data), "byte", "bytes"))
	case !belongs(e):
		f.add(FindingTypePCR, e.Number, "%v does not belong into PCR %d", e.Type, e.PCR)
	}
	if what := disguised(e); what != "" {
		f.add(FindingTypeFlip, e.Number, "%v in PCR %d has the data of %s", e.Type, e.PCR, what)
	}
}

// belongs holds an event type against the PCRs that it may be in (Platform
// Firmware Profile section 3.3.4). Types that are used everywhere always belong.
func belongs(e *Event) bool {
	var pcrs []uint32
	switch e.Type {
	case SCRTMContents, SCRTMVersion, EFIHCRTMEvent:
		pcrs = []uint32{0}
	case EFIVariableBoot, EFIVariableBoot2, EFIHandoffTables, EFIHandoffTables2:
		pcrs = []uint32{1}
	case EFIVariableDriverConfig:
		pcrs = []uint32{1, 3, 5, 7}
	case EFIVariableAuthority, EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		pcrs = []uint32{7}
	case EFIBootServicesDriver, EFIRuntimeServicesDriver:
		pcrs = []uint32{0, 2, 4}
	case EFIBootServicesApplication:
		pcrs = []uint32{0, 2, 4}
	case EFIGPTEvent, EFIGPTEvent2:
		pcrs = []uint32{5}
	case POSTCode, POSTCode2, EFIPlatformFirmwareBlob, EFIPlatformFirmwareBlob2:
		pcrs = []uint32{0, 1, 2, 4}
	case IPL, IPLPartitionData:
		return e.PCR >= 4 && e.PCR != 6 && e.PCR != 7
	default:
		return true
	}
	return slices.Contains(pcrs, e.PCR)
}

// disguised recognises data that say themselves what they are, under another
// type: a command line that is to be overlooked, a variable that is to be.
func disguised(e *Event) string {
	if _, _, ok := grubText(e.Data); ok && e.Type != IPL {
		return "GRUB"
	}
	switch e.Type {
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2, EFIVariableAuthority, EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		return ""
	}
	if v, ok := parseVariable(e.Data); ok && (v.owner == guidGlobal || v.owner == guidImageSecurity) && v.name != "" {
		return "the variable " + clean(v.name)
	}
	return ""
}

// policyEvent looks at PCR 7.
func (f *finder) policyEvent(e *Event) {
	switch e.Type {
	case EFIVariableDriverConfig:
		f.policyVariable(e)
	case EFIVariableAuthority:
		v, ok := parseVariable(e.Data)
		if !ok {
			f.add(FindingVariableMalformed, e.Number, "the authority in PCR 7 cannot be read")
		} else if v.name == "MokSBState" && len(v.data) > 0 && v.data[0] == 1 {
			f.add(FindingShimInsecure, e.Number, "MokSBState is 1: shim validates nothing")
		}
	case EFIAction, Action:
		if bytes.HasPrefix(e.Data, []byte("UEFI Debug Mode")) {
			f.add(FindingDebugMode, e.Number, "the firmware was started with its debug mode on")
		}
	}
}

func (f *finder) policyVariable(e *Event) {
	v, ok := parseVariable(e.Data)
	if !ok || len(v.extra) > 0 {
		f.add(FindingVariableMalformed, e.Number, "the variable in PCR 7 cannot be read")
		return
	}
	i := securityVariable(v)
	if i < 0 {
		if f.separators[7] > 0 {
			f.add(FindingAfterSeparator, e.Number, "variable %s after the separator of PCR 7", clean(v.name))
		}
		return
	}
	if f.separators[7] > 0 {
		f.add(FindingVariableLate, e.Number, "variable %s after the separator of PCR 7", v.name)
	}
	if f.variables[i] > 0 {
		f.add(FindingVariableTwice, e.Number, "variable %s was measured before", v.name)
	}
	f.variables[i]++
}

// separatorsOnce looks for PCRs that were not closed, or not used at all.
func (f *finder) separatorsOnce() {
	for pcr := range 8 {
		switch {
		case f.measured[pcr] == 0:
			f.add(FindingNoEvents, -1, "nothing was measured into PCR %d", pcr)
		case f.separators[pcr] == 0:
			f.add(FindingSeparatorMissing, -1, "PCR %d was never closed by a separator", pcr)
		}
	}
}
