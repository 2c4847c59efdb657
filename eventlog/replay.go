// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"slices"
)

// Values are replayed PCR values of one bank. The zero value has none.
type Values struct {
	algorithm Algorithm
	values    [numPCRs][]byte // nil: nothing was measured
}

// Algorithm returns the bank.
func (v Values) Algorithm() Algorithm { return v.algorithm }

// At returns the value of a PCR. It is false for a PCR without measured events,
// whose value no log can tell; it never says zeros instead.
func (v Values) At(pcr int) ([]byte, bool) {
	if pcr < 0 || pcr >= numPCRs || v.values[pcr] == nil {
		return nil, false
	}
	return slices.Clone(v.values[pcr]), true
}

// Indexes returns the PCRs that have a value, in ascending order.
func (v Values) Indexes() []int {
	var out []int
	for pcr, value := range v.values {
		if value != nil {
			out = append(out, pcr)
		}
	}
	return out
}

// Replay works out what the events make of the PCRs of a bank:
//
//	PCR[i] = H(PCR[i] || digest), from zeros
//
// where PCR 0 begins with the locality at which the TPM was started in its last
// byte (TPM 2.0 Library part 1 section 17.6, PC Client Platform TPM Profile
// section 4.6.2). EV_NO_ACTION is not extended. An algorithm that cannot be
// computed here, or that the log does not have, gives no values.
//
// A D-RTM sets PCR 17 to 22 to zeros before it measures, so events there are
// replayed from zeros as well.
func (l *Log) Replay(a Algorithm) Values {
	v := Values{algorithm: a}
	h := a.new()
	if h == nil {
		return v
	}
	for i := range l.Events {
		e := &l.Events[i]
		digest, ok := e.Digest(a)
		if !e.Measured() || !ok {
			continue
		}
		value := v.values[e.PCR]
		if value == nil {
			value = make([]byte, a.Size())
			if e.PCR == 0 {
				value[len(value)-1] = l.startup().locality
			}
		}
		h.Reset()
		h.Write(value)
		h.Write(digest)
		v.values[e.PCR] = h.Sum(value[:0])
	}
	return v
}

// NewValues returns the values of a bank into which nothing was measured.
func NewValues(a Algorithm) Values { return Values{algorithm: a} }

// Measurement is one digest that was extended outside of the firmware's log,
// such as by systemd.
type Measurement struct {
	PCR    int
	Digest []byte // of the bank that is continued
}

// Extend continues a replay, and leaves v as it was. Measurements into PCRs
// that do not exist or with digests of another size are left out.
func (v Values) Extend(all ...Measurement) Values {
	h := v.algorithm.new()
	if h == nil {
		return v
	}
	for _, m := range all {
		if m.PCR < 0 || m.PCR >= numPCRs || len(m.Digest) != v.algorithm.Size() {
			continue
		}
		value := v.values[m.PCR]
		if value == nil {
			value = make([]byte, v.algorithm.Size())
		}
		h.Reset()
		h.Write(value)
		h.Write(m.Digest)
		v.values[m.PCR] = h.Sum(nil)
	}
	return v
}

// startup is what a log says about how the TPM was started.
type startup struct {
	locality byte
	event    int // number of the event that says so, -1: none does
	hcrtm    int // number of the H-CRTM event, -1: none
	problems []problem
}

type problem struct {
	code  string
	event int
	text  string
}

var startupLocality = []byte("StartupLocality\x00")

// startup reads the locality. Only the values 0, 3 and 4 exist; the event counts
// once, and only before PCR 0 has been measured into, for what comes later
// cannot have been known when the TPM was started. An H-CRTM measures at
// locality 4 before the TPM is started, whatever else the log says (Platform
// Firmware Profile sections 3.3.3.1 and 10.4.5.3).
func (l *Log) startup() startup {
	s := startup{event: -1, hcrtm: -1}
	measured := false // into PCR 0
	for i := range l.Events {
		e := &l.Events[i]
		switch {
		case e.PCR == 0 && e.Type == NoAction && bytes.HasPrefix(e.Data, startupLocality):
			s.read(e, measured)
		case e.PCR == 0 && e.Type == EFIHCRTMEvent:
			if measured {
				s.problems = append(s.problems, problem{FindingHCRTMOrder, e.Number, "an H-CRTM event after other measurements into PCR 0, where there cannot be one"})
			} else {
				s.hcrtm = e.Number
			}
			measured = true
		case e.PCR == 0 && e.Measured():
			measured = true
		}
	}
	if s.hcrtm >= 0 {
		if s.event >= 0 && s.locality != 4 {
			s.problems = append(s.problems, problem{FindingHCRTMLocality, s.event, "an H-CRTM starts the TPM at locality 4, the log says otherwise"})
		}
		s.locality = 4
	}
	return s
}

func (s *startup) read(e *Event, measured bool) {
	n := len(startupLocality)
	switch {
	case len(e.Data) != n+1 || e.Data[n] != 0 && e.Data[n] != 3 && e.Data[n] != 4:
		s.problems = append(s.problems, problem{FindingLocalityValue, e.Number, "a start-up locality that there is not (" + hexadecimal(e.Data[n:]) + "); it does not count"})
	case s.event >= 0:
		s.problems = append(s.problems, problem{FindingLocalityTwice, e.Number, "a second start-up locality; it does not count"})
	case measured:
		s.problems = append(s.problems, problem{FindingLocalityLate, e.Number, "a start-up locality after measurements into PCR 0; it does not count"})
	default:
		s.locality, s.event = e.Data[n], e.Number
	}
}

// Locality returns the locality at which the log says the TPM was started (0,
// 3 or 4), and whether it says so at all. A TPM that is reset behind the
// firmware's back can only be started at locality 0, so that a PCR 0 replayed
// from 3 or 4 cannot be made again by an operating system.
func (l *Log) Locality() (int, bool) {
	s := l.startup()
	return int(s.locality), s.event >= 0 || s.hcrtm >= 0
}
