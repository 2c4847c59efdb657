// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// Log is a firmware event log: well formed, and not believed. It keeps slices
// of the bytes it was parsed from, which must not be changed afterwards.
type Log struct {
	// Events are all events in the order of the log. In a crypto-agile log the
	// first is the Spec ID event, number 0, as tpm2_eventlog counts.
	Events []Event

	banks   []bank
	agile   bool
	padding int // bytes of zeros after the last event
	slack   int // bytes of the Spec ID event after its vendor information
	vendor  []byte

	once    sync.Once
	covered []coverage // by event, see [Event.Covered]
}

// bank is one line of the Spec ID event: an algorithm and how many bytes its
// digests have.
type bank struct {
	algorithm Algorithm
	size      int
}

// Event is one entry of a log. Only PCR and digest are authenticated, and only
// where a quote bears the replayed value out; type, data and the order of
// events of different PCRs are the log's word.
type Event struct {
	Number int // from 0, the Spec ID event included
	Offset int // byte of the log at which it begins
	PCR    uint32
	Type   Type
	Data   []byte

	digests []byte // as in the log: algorithm and digest, again and again; legacy: 20 bytes
	log     *Log
}

// specID is the signature of the Spec ID event of a crypto-agile log (TCG PC
// Client Platform Firmware Profile section 10.4.5.1).
var specID = []byte("Spec ID Event03\x00")

// Parse reads a log as Linux hands it out in
// /sys/kernel/security/tpm0/binary_bios_measurements: TCG_PCR_EVENT2 after a
// Spec ID event, or TCG_PCR_EVENT throughout (TCG PC Client Platform Firmware
// Profile section 10.2). Banks that are unknown here are skipped by the size
// that the header declares. Zeros after the last event are padding, which
// [Log.Findings] reports; anything else that is not a whole event is an *[Error].
func Parse(raw []byte) (*Log, error) {
	switch {
	case len(raw) == 0:
		return nil, &Error{CodeEmpty, -1, 0, "it is empty"}
	case len(raw) > MaxLog:
		return nil, &Error{CodeTooLarge, -1, 0, fmt.Sprintf("%d bytes, at most %d", len(raw), MaxLog)}
	}
	l := new(Log)
	r := reader{raw: raw}
	// An event never is all zeros: the digest of a legacy one is not, and one
	// of an agile log has a digest.
	last := len(bytes.TrimRight(raw, "\x00"))
	if last == 0 {
		return nil, &Error{CodeEmpty, -1, 0, fmt.Sprintf("%d bytes of zeros", len(raw))}
	}
	for r.at < last {
		if len(l.Events) == MaxEvents {
			return nil, r.errorf(CodeTooLarge, "more than %d events", MaxEvents)
		}
		e := Event{Number: r.event, Offset: r.at, log: l}
		if err := r.readEvent(&e, l); err != nil {
			return nil, err
		}
		if e.Number == 0 && e.Type == NoAction && bytes.HasPrefix(e.Data, specID) {
			if err := l.readHeader(&e, &r); err != nil {
				return nil, err
			}
		} else if e.Number == 0 {
			l.banks = []bank{{SHA1, SHA1.Size()}}
		}
		l.Events = append(l.Events, e)
		r.event, r.start = r.event+1, r.at
	}
	// A few zeros are the beginning of an event of PCR 0 that was cut off; its
	// type would not have been zero.
	if l.padding = len(raw) - r.at; l.padding > 0 && l.padding < 8 {
		return nil, r.errorf(CodeTruncated, "%s left", plural(l.padding, "byte", "bytes"))
	}
	return l, nil
}

// reader goes through a log from the front.
type reader struct {
	raw   []byte
	at    int
	event int // number of the event that is being read
	start int // where it begins
}

func (r *reader) errorf(code Code, format string, args ...any) *Error {
	return &Error{code, r.event, r.start, fmt.Sprintf(format, args...)}
}

func (r *reader) take(n int, what string) ([]byte, *Error) {
	if n > len(r.raw)-r.at {
		return nil, r.errorf(CodeTruncated, "%s: %d bytes wanted, %d left", what, n, len(r.raw)-r.at)
	}
	b := r.raw[r.at : r.at+n : r.at+n]
	r.at += n
	return b, nil
}

func (r *reader) uint32(what string) (uint32, *Error) {
	b, err := r.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// readEvent reads one event. The first is always a TCG_PCR_EVENT.
func (r *reader) readEvent(e *Event, l *Log) error {
	pcr, err := r.uint32("PCR index")
	if err != nil {
		return err
	}
	kind, err := r.uint32("event type")
	if err != nil {
		return err
	}
	e.PCR, e.Type = pcr, Type(kind)
	if pcr >= numPCRs && e.Type != NoAction {
		return r.errorf(CodePCR, "a measurement into PCR %d", pcr)
	}
	if l.agile {
		err = r.readDigests(e, l)
	} else {
		e.digests, err = r.take(SHA1.Size(), "digest")
	}
	if err != nil {
		return err
	}
	size, err := r.uint32("event size")
	if err != nil {
		return err
	}
	if size > MaxEventData {
		return r.errorf(CodeTooLarge, "%d bytes of data, at most %d", size, MaxEventData)
	}
	if e.Data, err = r.take(int(size), "event data"); err != nil {
		return err
	}
	return nil
}

// readDigests reads a TPML_DIGEST_VALUES. Fewer digests than banks are taken,
// and reported by [Log.Findings]; a bank twice or one that the header does not
// announce is not, for its meaning or its size would be a guess.
func (r *reader) readDigests(e *Event, l *Log) *Error {
	count, err := r.uint32("number of digests")
	if err != nil {
		return err
	}
	if count > uint32(len(l.banks)) {
		return r.errorf(CodeDigest, "%d digests, the header announces %d", count, len(l.banks))
	}
	begin := r.at
	var seen uint32 // a bit per bank
	for range count {
		id, err := r.take(2, "digest algorithm")
		if err != nil {
			return err
		}
		algorithm := Algorithm(binary.LittleEndian.Uint16(id))
		i := slices.IndexFunc(l.banks, func(b bank) bool { return b.algorithm == algorithm })
		switch {
		case i < 0:
			return r.errorf(CodeDigest, "a digest of algorithm %v, which the header does not announce", algorithm)
		case seen&(1<<i) != 0:
			return r.errorf(CodeDigest, "two digests of algorithm %v", algorithm)
		}
		seen |= 1 << i
		if _, err := r.take(l.banks[i].size, "digest"); err != nil {
			return err
		}
	}
	e.digests = r.raw[begin:r.at:r.at]
	return nil
}

// readHeader reads the data of the Spec ID event (TCG_EfiSpecIDEvent).
func (l *Log) readHeader(e *Event, r *reader) error {
	const fixed = 28 // signature, platform class, version, errata, uintn size, number of algorithms
	d := e.Data
	if len(d) < fixed {
		return r.errorf(CodeHeader, "a Spec ID event of %d bytes", len(d))
	}
	if e.PCR != 0 {
		return r.errorf(CodeHeader, "a Spec ID event in PCR %d", e.PCR)
	}
	count := binary.LittleEndian.Uint32(d[24:])
	if count == 0 || count > MaxAlgorithms {
		return r.errorf(CodeHeader, "%d algorithms, want 1 to %d", count, MaxAlgorithms)
	}
	d = d[fixed:]
	if len(d) < int(count)*4+1 {
		return r.errorf(CodeHeader, "%d algorithms in %d bytes", count, len(d))
	}
	for range count {
		b := bank{Algorithm(binary.LittleEndian.Uint16(d)), int(binary.LittleEndian.Uint16(d[2:]))}
		d = d[4:]
		known := b.algorithm.Size()
		switch {
		case b.size == 0 || b.size > MaxDigest, known != 0 && b.size != known:
			return r.errorf(CodeHeader, "digests of %v have %d bytes", b.algorithm, b.size)
		case slices.ContainsFunc(l.banks, func(o bank) bool { return o.algorithm == b.algorithm }):
			return r.errorf(CodeHeader, "algorithm %v twice", b.algorithm)
		}
		l.banks = append(l.banks, b)
	}
	vendor := int(d[0])
	if len(d) < 1+vendor {
		return r.errorf(CodeHeader, "%d bytes of vendor information, %d left", vendor, len(d)-1)
	}
	l.agile, l.vendor, l.slack = true, d[1:1+vendor], len(d)-1-vendor
	return nil
}

// Banks returns the algorithms of the log in the order of its header, those
// that nobody here can compute included.
func (l *Log) Banks() []Algorithm {
	out := make([]Algorithm, len(l.banks))
	for i, b := range l.banks {
		out[i] = b.algorithm
	}
	return out
}

// VendorInfo returns what the maker of the firmware put into the header.
func (l *Log) VendorInfo() []byte { return l.vendor }

// Digest returns the event's digest in a bank, and whether it has one. An
// EV_NO_ACTION event may have one; it never was extended.
func (e *Event) Digest(a Algorithm) ([]byte, bool) {
	if e.log == nil {
		return nil, false
	}
	if !e.log.agile || e.Number == 0 {
		return e.digests, a == SHA1 && len(e.digests) == SHA1.Size()
	}
	for d := e.digests; len(d) >= 2; {
		id, size := Algorithm(binary.LittleEndian.Uint16(d)), 0
		for _, b := range e.log.banks {
			if b.algorithm == id {
				size = b.size
			}
		}
		if id == a {
			return d[2 : 2+size : 2+size], true
		}
		d = d[2+size:]
	}
	return nil, false
}

// Measured reports whether the event was extended into its PCR.
func (e *Event) Measured() bool { return e.Type != NoAction }
