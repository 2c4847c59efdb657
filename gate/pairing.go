// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"sync"

	"github.com/jurat-dev/jurat/evidence"
)

// Why a verdict, or a part of it, is unknown.
const (
	ReasonNoVerdict = "no-verdict"     // the file that runs was not held: the holder was dead, or cannot see the file
	ReasonDeadline  = "deadline"       // it was held, and let go before its digest was known
	ReasonOverrun   = "gate-overrun"   // it was let go at once: more were held than there are places for
	ReasonAmbiguous = "gate-ambiguous" // several threads were at it, or what the gate and the kernel saw does not fit together
)

// Process is a process as the gate and the kernel's records both name it.
type Process struct {
	PID        uint32 // of the whole process, whichever thread it is about
	PidfdInode uint64 // names it for good; 0 on kernels before 6.9
	Start      uint64 // nanoseconds since boot, maybe rounded down to clock ticks; looked at where PidfdInode is 0
}

// clockTick is the unit of start times in /proc, in nanoseconds.
const clockTick = 10_000_000

func (p Process) is(other Process) bool {
	if p.PidfdInode != 0 && other.PidfdInode != 0 {
		return p.PidfdInode == other.PidfdInode
	}
	return p.Start/clockTick == other.Start/clockTick
}

// Record is what the kernel recorded of an exec, as far as it takes to find
// the files that were held for it.
type Record struct {
	Process     Process
	Parent      uint32          // its process number: where Process has ended, it sees the same files
	At          uint64          // nanoseconds since boot
	Exe         evidence.FileID // the executable
	Text        evidence.FileID // what its text is mapped from: on overlayfs the file below, else Exe
	Stacked     bool            // stat(2) shows other numbers of Exe than the kernel uses: overlayfs, btrfs
	Scripted    bool            // the kernel went from the file it was given to an interpreter
	Interpreter string          // the name it found it by
	Cut         bool            // Interpreter is only the first bytes of it
}

// Verdict is what was held, measured and let go for one exec, before it ran.
type Verdict struct {
	Executable File
	// Script is the file the kernel was told to run and went from to its
	// interpreter; nil where the executable was run by itself.
	Script evidence.Value[*File]
	Loader evidence.Value[*File] // nil: the executable names none
}

// held is what the holder says of one file it has let go.
type held struct {
	process Process
	at      uint64 // while it was held, nanoseconds since boot
	thread  uint32 // which opened it; 0: not asked, or more than one was in exec
	watched bool   // its being closed is told
	file    File
}

// kept is a held file that no exec was found for yet.
type kept struct {
	held
	closed     bool  // the process closed it: the exec it was opened for failed
	prev, next *kept // of all, oldest first
}

// pairing finds the files that were held for an exec the kernel recorded. It
// does nothing else: no clock, no file, no process.
//
// It fails closed. The kernel lets everything through once the holder dies, so
// a record for which nothing was held is the normal sign of a gate that was not
// there: exec then answers unknown. That a script was opened says nothing yet,
// for the exec may have failed after that and another one, out of the gate's
// sight, gone on to the same interpreter. So a script counts only if it was
// watched, was not closed before its interpreter was opened, nothing else was
// opened between the two, no event was lost since, and both were opened by one
// thread.
type pairing struct {
	limit int

	mu    sync.Mutex // guards everything below
	lines map[uint32][]*kept
	ring  kept // sentinel: next is the oldest
	count int
	lost  uint64 // time of the last loss; 0: none
}

// newPairing returns a pairing that keeps at most limit files. The oldest make
// room: an exec whose files are forgotten has no verdict.
func newPairing(limit int) *pairing {
	p := &pairing{limit: limit, lines: make(map[uint32][]*kept)}
	p.ring.prev, p.ring.next = &p.ring, &p.ring
	return p
}

// add takes in a file that was held. Of one process, files may come in another
// order than the kernel held them in: what was measured first was said first.
func (p *pairing) add(h held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.count >= p.limit {
		p.drop(p.ring.next)
	}
	k := &kept{held: h, prev: p.ring.prev, next: &p.ring}
	k.prev.next, k.next.prev = k, k
	p.count++
	line := append(p.lines[h.process.PID], k)
	for i := len(line) - 1; i > 0 && line[i].at < line[i-1].at; i-- {
		line[i], line[i-1] = line[i-1], line[i]
	}
	p.lines[h.process.PID] = line
}

// close takes in that a process closed a file that is watched. It matters as
// long as nothing else was opened after that file.
func (p *pairing) close(who Process, device, inode uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.lines[who.PID]
	last := line[max(0, len(line)-1):]
	if n := len(line); n > 1 && (&step{top: line[n-2]}).covers(line[n-1]) {
		last = line[n-2:]
	}
	for _, k := range last {
		if k.process.is(who) && k.file.ID.Device == device && k.file.ID.Inode == inode {
			k.closed = true
		}
	}
}

// lose takes in that events are missing that happened before the time at.
func (p *pairing) lose(at uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = max(p.lost, at)
}

// forget drops what was held for a process that has ended.
func (p *pairing) forget(who Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take(who, ^uint64(0), nil)
}

// take removes what was held for a process before the time before, and adds it
// to line if that is not nil; the caller holds mu.
func (p *pairing) take(who Process, before uint64, line *[]*kept) {
	for _, k := range append([]*kept(nil), p.lines[who.PID]...) {
		if k.at < before && k.process.is(who) {
			if line != nil {
				*line = append(*line, k)
			}
			p.drop(k)
		}
	}
}

// drop removes one; the caller holds mu.
func (p *pairing) drop(k *kept) {
	line := p.lines[k.process.PID]
	for i := range line {
		if line[i] == k {
			line = append(line[:i:i], line[i+1:]...)
			break
		}
	}
	if len(line) == 0 {
		delete(p.lines, k.process.PID)
	} else {
		p.lines[k.process.PID] = line
	}
	k.prev.next, k.next.prev = k.next, k.prev
	k.prev, k.next = nil, nil
	p.count--
}
