// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// errStrange is a pinned program that is not the one we would load.
var errStrange = errors.New("pinned program is not ours")

// place attaches a program, or takes its link from the pins of an earlier
// agent after holding what it runs against p, fresh from our own object.
func (s *Sensor) place(p program, attach func() (link.Link, error)) error {
	if !s.adopting {
		l, err := attach()
		if err != nil {
			return err
		}
		s.attached = append(s.attached, attachment{program: p, link: l})
		return nil
	}
	l, err := link.LoadPinnedLink(filepath.Join(s.pins.dir(), pinLink+p.name), nil)
	if err != nil {
		return fmt.Errorf("%w: link of %s: %v", errStrange, p.name, err)
	}
	runs, err := s.ours(l, p)
	if err != nil {
		l.Close()
		return fmt.Errorf("%w: %s: %v", errStrange, p.name, err)
	}
	s.owned = append(s.owned, runs)
	p.program = runs
	s.attached = append(s.attached, attachment{program: p, link: l})
	return nil
}

// ours opens the program that a pinned link runs, if it is at the same place,
// has the same instructions and uses the same maps as the one in p.
func (s *Sensor) ours(l link.Link, p program) (*ebpf.Program, error) {
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	fresh, err := p.program.Info()
	if err != nil {
		return nil, err
	}
	runs, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return nil, err
	}
	have, err := runs.Info()
	switch {
	case err != nil:
	case have.Type != fresh.Type || have.Tag != fresh.Tag || have.Name != fresh.Name:
		err = fmt.Errorf("%v %s with tag %s, want %v %s with %s", have.Type, have.Name, have.Tag, fresh.Type, fresh.Name, fresh.Tag)
	default:
		if err = samePlace(info, p); err == nil {
			err = s.sameMaps(have, fresh)
		}
	}
	if err != nil {
		runs.Close()
		return nil, err
	}
	return runs, nil
}

// samePlace holds the place of a link against the section of p, as far as the
// kernel tells (perf events from 6.6 on).
func samePlace(info *link.Info, p program) error {
	place := filepath.Base(p.attach)
	if t := info.RawTracepoint(); t != nil && t.Name != place {
		return fmt.Errorf("attached to %s", t.Name)
	}
	if e := info.PerfEvent(); e != nil {
		if t := e.Tracepoint(); t != nil && t.Tracepoint != place {
			return fmt.Errorf("attached to %s", t.Tracepoint)
		}
	}
	return nil
}

// sameMaps wants both programs to use the same shared maps, and constants of
// their own that are equal.
func (s *Sensor) sameMaps(have, fresh *ebpf.ProgramInfo) error {
	shared := make(map[ebpf.MapID]bool)
	for _, m := range s.maps {
		shared[mapID(m)] = true
	}
	haveIDs, _ := have.MapIDs()
	freshIDs, _ := fresh.MapIDs()
	var own [2][]ebpf.MapID
	var common [2][]ebpf.MapID
	for i, ids := range [2][]ebpf.MapID{haveIDs, freshIDs} {
		for _, id := range ids {
			if shared[id] {
				common[i] = append(common[i], id)
			} else {
				own[i] = append(own[i], id)
			}
		}
		slices.Sort(common[i])
		slices.Sort(own[i])
	}
	if !slices.Equal(common[0], common[1]) || len(own[0]) != len(own[1]) {
		return fmt.Errorf("uses maps %v, want %v", haveIDs, freshIDs)
	}
	for i := range own[0] {
		a, errA := contents(own[0][i])
		b, errB := contents(own[1][i])
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("constants in map %d differ", own[0][i])
		}
	}
	return nil
}

// contents returns the one value of a frozen map of constants.
func contents(id ebpf.MapID) ([]byte, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	if info.Type != ebpf.Array || info.MaxEntries != 1 || !info.Frozen() {
		return nil, fmt.Errorf("map %d (%s) is not frozen constants", id, info.Name)
	}
	return m.LookupBytes(uint32(0))
}

// adopt takes over the set that an earlier agent left: its maps, what is in
// them, and its programs as they run. Our own programs are loaded beside them
// for comparison only.
func (s *Sensor) adopt(o Options) (err error) {
	s.adopting = true
	defer func() { s.adopting = false }()
	if s.maps, err = pinnedMaps(s.pins.dir()); err != nil {
		return err
	}
	if err := s.maps[mapControl].Lookup(uint32(0), &s.control); err != nil {
		return fmt.Errorf("reading the map control: %w", err)
	}
	iterator, err := ebpf.LoadPinnedProgram(filepath.Join(s.pins.dir(), pinIterator), nil)
	if err != nil {
		return err
	}
	defer iterator.Close()
	// First of all, or our own loading is a stranger's.
	if err := s.identify(iterator); err != nil {
		return err
	}
	if err := s.load(o); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		return err
	}
	if err := s.climbAgain(o); err != nil {
		return err
	}
	if err := s.openRings(); err != nil {
		return err
	}
	s.continuity = Continuity{Adopted: true, Next: s.begun}
	return nil
}

// identify tells the programs who the agent is: its pid alone would be taken
// for the next process that has it.
func (s *Sensor) identify(iterator *ebpf.Program) error {
	self := uint32(os.Getpid())
	s.control.Agent, s.control.AgentStart = self, 0
	err := visit(iterator, func(ev *Event) error {
		if ev.Process.PID == self {
			s.control.AgentStart = ev.Process.Start
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.putControl()
}
