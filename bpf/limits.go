// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import "time"

// Limits of the record format (record.h).
const (
	textMax      = 128 // bytes of filename, interp and argv that a record carries
	pathMax      = 256 // bytes of the path of an opened file
	taintBytes   = 32
	headerSize   = 40
	processSize  = 72
	parentSize   = 32
	fileSize     = 64
	digestSize   = 8 + 32
	counterSize  = 128
	positionSize = 16
	execSize     = headerSize + processSize + parentSize + 3*fileSize + digestSize + 88 + 32 + 32 + 16 + 3*textMax
	forkSize     = headerSize + processSize + parentSize + 8
	exitSize     = headerSize + processSize + 8
	cgroupSize   = headerSize + processSize + 8
	taintSize    = headerSize + processSize + parentSize + 16
	openSize     = headerSize + processSize + fileSize + 16 + pathMax
	slotsPerCPU  = 4
	commSize     = 16
	recordFormat = 2
)

// Limits of this implementation.
const (
	// DefaultRingBytes holds about 9,000 exec records.
	DefaultRingBytes = 8 << 20
	// DefaultOpenBytes holds about 9,000 records of opens.
	DefaultOpenBytes = 4 << 20
	// DefaultPoll is how long a record may wait in the ring. Waking the
	// reader for each record costs the traced program ten times more than
	// the tracing.
	DefaultPoll = 2 * time.Millisecond

	idlePolls = 64                    // empty ones in a row, after which the wait grows
	idlePoll  = 50 * time.Millisecond // to this; at 5,000 execs a second, 300 KiB of the ring

	canaryLimit  = 5 * time.Second // for the helper process to be seen
	staleTries   = 3               // looks at a state that is not its process's
	staleWait    = 20 * time.Millisecond
	missInterval = time.Second // between looks at the kernel's count of skipped programs
	stateTries   = 16          // to read a state no exec is changing
)
