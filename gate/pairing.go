// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"sync"

	"github.com/jurat-dev/jurat/evidence"
)

// Why a verdict, or a part of it, is unknown.
const (
	ReasonNoVerdict = "no-verdict"     // the file that runs was not held: the gate was dead, overrun, or cannot see the file
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
	Process    Process
	At         uint64 // when the last of the files was held, nanoseconds since boot
	Executable File
	// Script is the file the kernel was told to run and went from to its
	// interpreter; nil where the executable was run by itself.
	Script evidence.Value[*File]
	Loader evidence.Value[*File] // nil: the executable names none
}

// Watch is a file being watched for its being closed.
type Watch interface{ Release() }

// Held is one file that was, or is, held for a process. Its fields belong to
// the Pairing it is in.
type Held struct {
	process    Process
	at         uint64
	file       File
	settled    bool   // file is set
	watched    bool   // its being closed is, or was, watched
	closed     bool   // the process closed it: the exec it was opened for failed
	thread     uint32 // which opened it; 0: not asked, or more than one was in exec
	watch      Watch
	prev, next *Held // of all, oldest first
}

// Pairing finds the files that were held for an exec the kernel recorded. It
// does nothing else: no clock, no file, no process.
//
// It fails closed. The gate lets everything through once its holder dies, so a
// record for which nothing was held is the normal sign of a gate that was not
// there: [Pairing.Exec] then answers unknown. That a script was opened says
// nothing yet, for the exec may have failed after that and another one, out of
// the gate's sight, gone on to the same interpreter. So a script counts only if
// it was watched, was not closed before its interpreter was opened, nothing
// else was opened between the two, no event was lost since, and both were
// opened by one thread.
type Pairing struct {
	limit int

	mu    sync.Mutex // guards everything below
	lines map[uint32][]*Held
	ring  Held // sentinel: next is the oldest
	count int
	lost  uint64 // time of the last loss; 0: none
}

// NewPairing returns a Pairing that remembers at most limit files. The oldest
// make room: an exec whose files are forgotten has no verdict.
func NewPairing(limit int) *Pairing {
	p := &Pairing{limit: limit, lines: make(map[uint32][]*Held)}
	p.ring.prev, p.ring.next = &p.ring, &p.ring
	return p
}

// Begin takes in that a file is held for a process, in the order in which the
// kernel held them. at is a time while it is.
func (p *Pairing) Begin(who Process, at uint64) *Held {
	h := &Held{process: who, at: at}
	p.mu.Lock()
	line := p.lines[who.PID]
	var free []Watch
	if len(line) > 0 { // the file before has done its part
		free = line[len(line)-1].unwatch(free)
	}
	for p.count >= p.limit {
		free = p.drop(p.ring.next, free)
	}
	h.prev, h.next = p.ring.prev, &p.ring
	h.prev.next, h.next.prev = h, h
	p.count++
	p.lines[who.PID] = append(p.lines[who.PID], h)
	p.mu.Unlock()
	release(free)
	return h
}

// Follows reports whether the file before this one asks for an interpreter
// still: then it matters who else in the process is in exec.
func (p *Pairing) Follows(h *Held) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.lines[h.process.PID]
	for i := len(line) - 1; i > 0; i-- {
		if line[i] == h {
			before := line[i-1]
			return before.process.is(h.process) && before.settled && !before.closed && !before.file.Form.program()
		}
	}
	return false
}

// Settle says which file it is that is held, before it is let go, and which
// thread opened it, 0 if that is not known. w, if not nil, watches the file:
// Closed will be called when it is closed.
func (p *Pairing) Settle(h *Held, f File, thread uint32, w Watch) {
	p.mu.Lock()
	h.file, h.settled, h.thread, h.watched = f, true, thread, w != nil
	line := p.lines[h.process.PID]
	last := len(line) > 0 && line[len(line)-1] == h
	if last {
		h.watch = w
	}
	p.mu.Unlock()
	if !last && w != nil { // it came too late to matter
		w.Release()
	}
}

// Closed takes in that a process closed a file that is watched. It matters as
// long as nothing else was opened after that file.
func (p *Pairing) Closed(who Process, device, inode uint64) {
	p.mu.Lock()
	var free []Watch
	line := p.lines[who.PID]
	last := line[max(0, len(line)-1):]
	if n := len(line); n > 1 && (&step{top: line[n-2]}).covers(line[n-1]) {
		last = line[n-2:]
	}
	for _, h := range last {
		if h.process.is(who) && h.file.ID.Device == device && h.file.ID.Inode == inode {
			h.closed = true
			free = h.unwatch(free)
		}
	}
	p.mu.Unlock()
	release(free)
}

// Lost takes in that events are missing that happened before the time at.
func (p *Pairing) Lost(at uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = max(p.lost, at)
}

// Forget drops what was held for a process that has ended.
func (p *Pairing) Forget(who Process) {
	p.mu.Lock()
	free := p.take(who, ^uint64(0), nil)
	p.mu.Unlock()
	release(free)
}

// Len returns how many files are remembered.
func (p *Pairing) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// take removes what was held for a process before the time before, and adds it
// to line if that is not nil; the caller holds mu.
func (p *Pairing) take(who Process, before uint64, line *[]*Held) (free []Watch) {
	for _, h := range append([]*Held(nil), p.lines[who.PID]...) {
		if h.at < before && h.process.is(who) {
			if line != nil {
				*line = append(*line, h)
			}
			free = p.drop(h, free)
		}
	}
	return free
}

// drop removes one; the caller holds mu.
func (p *Pairing) drop(h *Held, free []Watch) []Watch {
	line := p.lines[h.process.PID]
	for i := range line {
		if line[i] == h {
			line = append(line[:i:i], line[i+1:]...)
			break
		}
	}
	if len(line) == 0 {
		delete(p.lines, h.process.PID)
	} else {
		p.lines[h.process.PID] = line
	}
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
	p.count--
	return h.unwatch(free)
}

func (h *Held) unwatch(free []Watch) []Watch {
	if h.watch != nil {
		free = append(free, h.watch)
		h.watch = nil
	}
	return free
}

func release(free []Watch) {
	for _, w := range free {
		w.Release()
	}
}
