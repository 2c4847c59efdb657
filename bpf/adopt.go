// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
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
	// Pinned too: to open a program by its number takes CAP_SYS_ADMIN.
	runs, err := ebpf.LoadPinnedProgram(filepath.Join(s.pins.dir(), pinProgram+p.name), nil)
	if err != nil {
		return nil, err
	}
	have, err := runs.Info()
	id, _ := have.ID()
	switch {
	case err != nil:
	case id != info.Program:
		err = fmt.Errorf("the link runs program %d, pinned is %d", info.Program, id)
	case have.Type != fresh.Type || have.Tag != fresh.Tag || have.Name != fresh.Name:
		err = fmt.Errorf("%v %s with tag %s, want %v %s with %s", have.Type, have.Name, have.Tag, fresh.Type, fresh.Name, fresh.Tag)
	default:
		if err = samePlace(info, p); err == nil {
			err = sameMaps(have, fresh)
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

// sameMaps wants both programs to use the same maps: those that are pinned.
func sameMaps(have, fresh *ebpf.ProgramInfo) error {
	haveIDs, _ := have.MapIDs()
	freshIDs, _ := fresh.MapIDs()
	slices.Sort(haveIDs)
	slices.Sort(freshIDs)
	if !slices.Equal(haveIDs, freshIDs) {
		return fmt.Errorf("uses maps %v, want %v", haveIDs, freshIDs)
	}
	return nil
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
	iterator, err := ebpf.LoadPinnedProgram(filepath.Join(s.pins.dir(), pinProgram+coreProgOnTask), nil)
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
	s.continuity = Continuity{Adopted: true, Pinned: true, Next: s.begun}
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
