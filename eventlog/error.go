// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import "fmt"

// Code is the class of an [Error]. Codes are stable.
type Code string

// The codes of errors.
const (
	CodeEmpty     Code = "empty"     // nothing at all, which proves nothing
	CodeTooLarge  Code = "too-large" // more than MaxLog bytes, MaxEvents events or MaxEventData bytes in one event
	CodeTruncated Code = "truncated" // the log ends inside an event
	CodeHeader    Code = "header"    // the Spec ID event contradicts itself
	CodeDigest    Code = "digest"    // an event's digests are not those that the header announces
	CodePCR       Code = "pcr"       // a measurement into a PCR that no TPM of a PC has
	CodeRecord    Code = "record"    // a record of a userspace log is not what systemd writes
)

// Error says why a log was refused, and where.
type Error struct {
	Code   Code
	Event  int // number of the event or record, from 0; -1: the log as a whole
	Offset int // byte of the input at which that event begins
	Detail string
}

// Error states place and fact in one line.
func (e *Error) Error() string {
	if e.Event < 0 {
		return "malformed event log: " + e.Detail
	}
	return fmt.Sprintf("malformed event log: event %d at byte %d: %s", e.Event, e.Offset, e.Detail)
}
