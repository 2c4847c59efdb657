// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import "bytes"

// What firmware measures into PCR 5 when the operating system takes over
// (Platform Firmware Profile section 10.4.4).
var (
	ebsInvocation = []byte("Exit Boot Services Invocation")
	ebsSuccess    = []byte("Exit Boot Services Returned with Success")
	ebsFailure    = []byte("Exit Boot Services Returned with Failure")
)

// ebs counts these events.
type ebs struct{ invocations, successes, failures, last int }

func (l *Log) exits() ebs {
	s := ebs{last: -1}
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 5 || e.Type != EFIAction {
			continue
		}
		switch data := bytes.TrimRight(e.Data, "\x00"); {
		case bytes.Equal(data, ebsInvocation):
			s.invocations++
		case bytes.Equal(data, ebsSuccess):
			s.successes++
		case bytes.Equal(data, ebsFailure):
			s.failures++
		default:
			continue
		}
		s.last = e.Number
	}
	return s
}

func (f *finder) exitBootServices() {
	s := f.log.exits()
	switch {
	case s.invocations == 0 && s.successes == 0:
		f.add(FindingEBSMissing, -1, "PCR 5 has no \"%s\" and no \"%s\": the log ends before the firmware did, or the firmware left them out", ebsInvocation, ebsSuccess)
	case s.successes == 0:
		f.add(FindingEBSIncomplete, s.last, "PCR 5 has no \"%s\"", ebsSuccess)
	case s.invocations == 0:
		f.add(FindingEBSIncomplete, s.last, "PCR 5 has no \"%s\"", ebsInvocation)
	}
	if s.failures > 0 {
		f.add(FindingEBSFailed, s.last, "ending the boot services failed %s before it worked or the log ends", plural(s.failures, "time", "times"))
	}
}

// Completion is a PCR value that a log gives if events are added that firmware
// is known to leave out of it.
type Completion struct {
	Text  string // what was added
	Value []byte
}

// Completions returns what PCR 5 would be if the events about the end of the
// boot services were not missing from the log (finding "ebs-missing" or
// "ebs-incomplete"). They add nothing to what is known of a machine; but who
// takes a value only with their help must say so, because the log is not whole.
func (l *Log) Completions(a Algorithm) []Completion {
	v := l.Replay(a)
	if _, ok := v.At(5); !ok || a.new() == nil {
		return nil
	}
	measure := func(data []byte) Measurement { return Measurement{5, a.sum(data)} }
	s := l.exits()
	if s.successes > 0 {
		return nil
	}
	invocation, success, failure := measure(ebsInvocation), measure(ebsSuccess), measure(ebsFailure)
	type way struct {
		text string
		all  []Measurement
	}
	ways := []way{
		{"Invocation, Success", []Measurement{invocation, success}},
		{"Invocation, Failure", []Measurement{invocation, failure}},
		{"Invocation, Failure, Success", []Measurement{invocation, failure, success}},
		{"Invocation, Failure, Invocation, Success", []Measurement{invocation, failure, invocation, success}},
	}
	if s.invocations > 0 {
		ways = []way{{"Success", []Measurement{success}}, {"Failure", []Measurement{failure}}, {"Failure, Success", []Measurement{failure, success}}}
	}
	var out []Completion
	for _, w := range ways {
		value, _ := v.Extend(w.all...).At(5)
		out = append(out, Completion{"Exit Boot Services: " + w.text, value})
	}
	return out
}
