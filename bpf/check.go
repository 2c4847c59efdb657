// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Finding is something wrong with the sensor itself.
type Finding struct {
	Name   string // what: one of those that Check lists
	Detail string // the fact and the place; the same fact has the same words
}

// ftraceSwitch is the switch that turns off every lsm, fentry and fmod_ret
// program at once, without a trace in any of them.
const ftraceSwitch = "/proc/sys/kernel/ftrace_enabled"

// guard remembers what the sensor did itself, to know what others did.
type guard struct {
	mu       sync.Mutex
	programs map[ebpf.ProgramID]bool   // loaded when the sensor was opened, or known to be harmless
	own      map[string]bool           // name and tag of each program of ours
	loaded   map[string]ebpf.ProgramID // what each link runs
	marks    map[uint64]uint64         // generation that MarkMeasured wrote, by pidfd inode
}

func (g *guard) begin(s *Sensor) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.programs, g.own, g.loaded = make(map[ebpf.ProgramID]bool), make(map[string]bool), make(map[string]ebpf.ProgramID)
	if g.marks == nil {
		g.marks = make(map[uint64]uint64)
	}
	for _, a := range s.attached {
		info, err := a.program.program.Info()
		if err != nil {
			return fmt.Errorf("asking the kernel about program %s: %w", a.name, err)
		}
		g.loaded[a.name], _ = info.ID()
	}
	for _, p := range s.programs() {
		info, err := p.program.Info()
		if err != nil {
			return fmt.Errorf("asking the kernel about program %s: %w", p.name, err)
		}
		g.own[info.Name+" "+info.Tag] = true
	}
	if s.continuity.Adopted { // marks of the earlier agent are as good as its other state
		err := visit(s.objects.OnTask, func(ev *Event) error {
			if ev.Flags.Has(FlagMeasured) {
				g.marks[ev.Process.PidfdInode] = uint64(ev.Process.Generation)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for id := range programIDs() {
		g.programs[id] = true
	}
	return nil
}

// noteMark remembers a mark before it is made.
func (s *Sensor) noteMark(pidfd int, generation uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(pidfd, &st); err != nil {
		return fmt.Errorf("looking at pidfd %d: %w", pidfd, err)
	}
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	s.guard.marks[st.Ino] = generation
	return nil
}

// Check looks for signs that somebody works against the sensor, and returns
// what it found, nil when there is nothing: ftrace-off, program-replaced,
// pin-replaced, map-written, foreign-reader, state-written, mark-forged,
// foreign-program, hooks-silent, hooks-crowded. It may take milliseconds for each thousand processes.
func (s *Sensor) Check() []Finding {
	s.snapshot.Lock()
	defer s.snapshot.Unlock()
	s.wake()
	s.reading.Lock()
	if s.use() != nil {
		s.reading.Unlock()
		return nil
	}
	defer s.using.RUnlock()
	found := append(s.checkMaps(), s.checkHooks()...)
	s.reading.Unlock()
	found = append(found, checkFtrace()...)
	found = append(found, s.checkPrograms()...)
	found = append(found, s.checkStates()...)
	return append(found, s.checkForeign()...)
}

func checkFtrace() []Finding {
	switch b, err := os.ReadFile(ftraceSwitch); {
	case errors.Is(err, os.ErrNotExist): // a kernel without function tracing
	case err != nil:
		return []Finding{{"ftrace-unknown", "reading " + ftraceSwitch + ": " + err.Error()}}
	case strings.TrimSpace(string(b)) != "1":
		return []Finding{{"ftrace-off", ftraceSwitch + " is " + strings.TrimSpace(string(b)) + ": lsm and trampoline programs do not run"}}
	}
	return nil
}

// checkPrograms sees that each link runs the program it was made for, and
// that the pins are there.
func (s *Sensor) checkPrograms() (found []Finding) {
	for _, a := range s.attached {
		info, err := a.link.Info()
		switch {
		case err != nil:
			found = append(found, Finding{"program-replaced", a.attach + ": " + err.Error()})
		case info.Program != s.guard.loaded[a.name]:
			found = append(found, Finding{"program-replaced", fmt.Sprintf("%s runs program %d, ours is %d", a.attach, info.Program, s.guard.loaded[a.name])})
		}
	}
	if s.continuity.Pinned {
		for _, name := range s.pins.missing(s.maps, s.attached) {
			found = append(found, Finding{"pin-replaced", s.pins.dir() + "/" + name + " is gone, or leads elsewhere"})
		}
	}
	return found
}

// checkMaps holds what only the agent writes against what it wrote, and what
// only grows against what it was.
func (s *Sensor) checkMaps() (found []Finding) {
	var now control
	if err := s.maps[mapControl].Lookup(uint32(0), &now); err != nil || now != s.control {
		found = append(found, Finding{"map-written", fmt.Sprintf("control is %+v, not what the agent wrote: %+v", now, s.control)})
	}
	if err := s.readCounters(s.table); err != nil {
		return append(found, Finding{"map-written", err.Error()})
	}
	for at := range s.cpus {
		if s.position(at) != s.released[at] {
			found = append(found, Finding{"map-written", fmt.Sprintf("positions of ring and cpu %d are not what the agent wrote", at)})
		}
		if s.counter(at, counterNumber) < s.consumed[at].Load() {
			found = append(found, Finding{"map-written", fmt.Sprintf("the kernel's count of records of ring and cpu %d went back", at)})
		}
	}
	for _, r := range []*ring{s.ring, s.opens} {
		if r != nil && (r.foreign.Load() > 0 || r.consumed() != r.freed) {
			found = append(found, Finding{"foreign-reader", "somebody else reads one of the rings"})
		}
	}
	return found
}

// checkHooks asks the kernel's count of what the tiers above tracepoint missed,
// in the counters that checkMaps has read.
func (s *Sensor) checkHooks() (found []Finding) {
	silent := false
	for at := range s.possible {
		silent = silent || s.counter(at, counterSilent) > 0
	}
	if silent {
		found = append(found, Finding{"hooks-silent", "programs were executed past " + s.committed() + ", which each exec passes: " + ftraceSwitch + " was 0, or the hooks were taken away"})
	}
	var crowded uint64
	if s.tier != TierTracepoint && (s.watching.Variables[lsmVarCrowded].Get(&crowded) != nil || crowded > 0) {
		found = append(found, Finding{"hooks-crowded", "a hook found no memory or no free slot, and what it saw is lost"})
	}
	return found
}

// checkStates holds the kernel's state of each process against the process.
func (s *Sensor) checkStates() (found []Finding) {
	stale, live := make(map[Instance]int), make(map[uint64]bool)
	before := s.markedInodes()
	for try := range staleTries {
		if try > 0 {
			time.Sleep(staleWait) // an exec that was under way is over by then
		}
		found = nil
		err := visit(s.objects.OnTask, func(ev *Event) error {
			p := ev.Process.Instance
			live[p.PidfdInode] = true
			if ev.Flags.Has(FlagStale) {
				stale[p]++
			}
			if ev.Flags.Has(FlagMeasured) && p.PidfdInode != 0 && !s.marked(p) {
				found = append(found, Finding{"mark-forged", fmt.Sprintf("process %d started at %d ns is marked as measured, and not by this agent", p.PID, p.Start)})
			}
			return nil
		})
		if err != nil {
			return []Finding{{"state-unknown", err.Error()}}
		}
		if len(stale) == 0 {
			break
		}
	}
	s.forget(before, live)
	for p, n := range stale {
		if n == staleTries {
			found = append(found, Finding{"state-written", fmt.Sprintf("the kernel state of process %d started at %d ns speaks of another program", p.PID, p.Start)})
		}
	}
	return found
}

func (s *Sensor) markedInodes() []uint64 {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	return slices.Collect(maps.Keys(s.guard.marks))
}

// forget drops the marks of processes that have ended.
func (s *Sensor) forget(inodes []uint64, live map[uint64]bool) {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	for _, inode := range inodes {
		if !live[inode] {
			delete(s.guard.marks, inode)
		}
	}
}

func (s *Sensor) marked(p Instance) bool {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	generation, ok := s.guard.marks[p.PidfdInode]
	return ok && generation == uint64(p.Generation)
}

// meddling are the types of programs that can watch, answer for or change
// what the rest of the kernel does (watch.bpf.c has the same list).
var meddling = []ebpf.ProgramType{ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable,
	ebpf.Tracing, ebpf.StructOps, ebpf.Extension, ebpf.LSM, ebpf.Syscall}

// checkForeign lists programs that were loaded since the sensor was opened,
// and are not what a sensor of this build loads. Without CAP_SYS_ADMIN the
// kernel lists none.
func (s *Sensor) checkForeign() (found []Finding) {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	for id := range programIDs() {
		if s.guard.programs[id] {
			continue
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it is gone
		}
		info, err := p.Info()
		p.Close()
		if err == nil && slices.Contains(meddling, info.Type) && !s.guard.own[info.Name+" "+info.Tag] {
			found = append(found, Finding{"foreign-program", fmt.Sprintf("%v program %d (%s, tag %s) was loaded", info.Type, id, info.Name, info.Tag)})
			continue
		}
		s.guard.programs[id] = true
	}
	return found
}

// programIDs yields the ids of all loaded programs.
func programIDs() func(func(ebpf.ProgramID) bool) {
	return func(yield func(ebpf.ProgramID) bool) {
		for id := ebpf.ProgramID(0); ; {
			next, err := ebpf.ProgramGetNextID(id)
			if err != nil || !yield(next) {
				return
			}
			id = next
		}
	}
}
