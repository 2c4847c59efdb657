// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import "bytes"

// coverage is how the digest of an event relates to its data.
type coverage int

const (
	opaque   coverage = iota // the digest is of something that is not in the log
	covered                  // the digest is of the data, in every bank that can be computed
	mismatch                 // the type says it is, and it is not
)

// Covered reports whether the event's digest is the digest of its data (or of
// the part of it that its type says), in every bank that can be computed here.
// Only then are the words of [Event.Describe] what was measured; otherwise they
// are the log's word for a digest of something else.
func (e *Event) Covered() bool { return e.coverage() == covered }

// coverage is worked out for all events at once, so that no question about a
// log hashes its data again.
func (e *Event) coverage() coverage {
	if e.log == nil || e.Number >= len(e.log.Events) {
		return opaque
	}
	e.log.once.Do(func() {
		e.log.covered = make([]coverage, len(e.log.Events))
		for i := range e.log.Events {
			e.log.covered[i] = e.log.Events[i].cover()
		}
	})
	return e.log.covered[e.Number]
}

func (e *Event) cover() coverage {
	if !e.Measured() {
		return opaque
	}
	candidates, must := e.preimages()
	for _, c := range candidates {
		if e.digestOf(c) {
			return covered
		}
	}
	if must {
		return mismatch
	}
	return opaque
}

// digestOf reports whether the event has a digest that can be computed, and
// each of them is the digest of data.
func (e *Event) digestOf(data []byte) bool {
	if e.log == nil {
		return false
	}
	any := false
	for _, b := range e.log.banks {
		if digest, ok := e.Digest(b.algorithm); ok && b.algorithm.Computable() {
			if !b.algorithm.is(digest, data) {
				return false
			}
			any = true
		}
	}
	return any
}

// preimages returns what the digest may be of, the likeliest first, and whether
// the type of the event says that it must be one of these (Platform Firmware
// Profile section 10.4.1; for boot loaders their sources).
func (e *Event) preimages() (candidates [][]byte, must bool) {
	d := e.Data
	switch e.Type {
	case Separator, SCRTMVersion, Action, EFIVariableDriverConfig, EFIGPTEvent, EFIGPTEvent2, OmitBootDeviceEvents:
		return [][]byte{d}, true
	case EFIAction:
		return [][]byte{d, bytes.TrimRight(d, "\x00")}, true
	case EFIVariableAuthority, EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		candidates = [][]byte{d}
		if v, ok := parseVariable(d); ok && len(v.extra) > 0 {
			candidates = append(candidates, d[:len(d)-1]) // shim before 15.3
		}
		return candidates, true
	case EFIVariableBoot, EFIVariableBoot2:
		// Firmware before and after revision 1.04 differs in which it measures.
		candidates = [][]byte{d}
		if v, ok := parseVariable(d); ok {
			candidates = append(candidates, v.data)
		}
		return candidates, true
	case IPL:
		return e.preimagesIPL()
	case EventTag:
		if _, data, _, ok := tagged(d); ok {
			return [][]byte{d, data}, false
		}
	case EFIHCRTMEvent, EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver, EFIHandoffTables, EFIHandoffTables2,
		EFIPlatformFirmwareBlob, EFIPlatformFirmwareBlob2:
		return nil, false
	}
	return [][]byte{d}, false
}

// preimagesIPL: GRUB measures the text after its prefix, systemd its text in
// UTF-16, both without the zero at the end or, in some versions, with it.
func (e *Event) preimagesIPL() (candidates [][]byte, must bool) {
	if _, rest, ok := grubText(e.Data); ok {
		return [][]byte{bytes.TrimRight(rest, "\x00"), rest}, true
	}
	if name, ok := e.sectionName(); ok {
		return [][]byte{name}, false
	}
	if e.isWideText() {
		whole := bytes.TrimRight(e.Data, "\x00")
		whole = whole[: len(whole)+len(whole)%2 : len(whole)+len(whole)%2] // the upper half of the last character
		candidates = [][]byte{whole, append(whole, 0, 0), e.Data}
		return candidates, false
	}
	return [][]byte{e.Data, bytes.TrimRight(e.Data, "\x00")}, false
}
