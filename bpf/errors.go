// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import (
	"errors"
	"fmt"
)

var (
	// ErrNoEvent is returned by Read when the poll interval passed without one.
	ErrNoEvent = errors.New("no event within the poll interval")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("sensor is closed")
	// ErrNoState is returned for a process the kernel keeps no state for: it
	// ended, or its state could not be made. Such a process is not attested.
	ErrNoState = errors.New("kernel keeps no state for the process")
)

// The reasons for which Open refuses. See [OpenError].
var (
	ErrNoBTF       = errors.New("kernel has no type information (BTF)")
	ErrPermission  = errors.New("not permitted to load kernel programs")
	ErrUnsupported = errors.New("kernel does not take the programs")
	ErrNotFiring   = errors.New("programs are attached but do not fire")
)

// OpenError says why there is no sensor, and what would be needed.
type OpenError struct {
	Reason error  // ErrNoBTF, ErrPermission, ErrUnsupported or ErrNotFiring
	Fact   string // what was seen, and where
	Hint   string // what to do next
	Cause  error  // the kernel's answer, if there was one
}

// Error returns reason and fact.
func (e *OpenError) Error() string { return fmt.Sprintf("%v: %s", e.Reason, e.Fact) }

// Unwrap returns the reason and the cause.
func (e *OpenError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Cause}
}

// RecordError is a record that does not have the form of record.h: the ring
// is not what our programs wrote, or another build wrote it.
type RecordError struct {
	CPU    uint32
	Number uint64
	Fact   string
}

// Error names the record and what is wrong with it.
func (e *RecordError) Error() string {
	return fmt.Sprintf("malformed record %d of cpu %d: %s", e.Number, e.CPU, e.Fact)
}

// errReadBefore is a record that an earlier agent was done with, and was
// killed before it gave it back.
var errReadBefore = errors.New("record read before")
