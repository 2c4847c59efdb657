// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// mapControl and mapPositions are maps that more than one object knows.
const (
	mapControl   = coreMapControl
	mapPositions = "positions"
)

// load loads the core. Maps that were adopted it uses, the others it makes.
func (s *Sensor) load(o Options) error {
	s.absent = make(map[string]string)
	spec, err := loadCore()
	if err != nil {
		return fmt.Errorf("reading the embedded object: %w", err)
	}
	spec.Maps[coreMapEvents].MaxEntries = uint32(o.RingBytes)
	spec.Maps[coreMapCounters].MaxEntries = uint32(s.possible)
	if err := spec.LoadAndAssign(&s.objects, s.shared(spec)); err != nil {
		return refused("loading", err)
	}
	if s.maps != nil {
		return nil
	}
	positions, err := ebpf.NewMap(&ebpf.MapSpec{Name: mapPositions, Type: ebpf.Array, KeySize: 4, ValueSize: positionSize,
		MaxEntries: uint32(2 * s.possible), Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return refused("making the map of the reader's positions", err)
	}
	s.maps = map[string]*ebpf.Map{mapPositions: positions}
	return s.share(map[string]*ebpf.Map{
		coreMapEvents: s.objects.Events, coreMapCounters: s.objects.Counters, coreMapStates: s.objects.States,
		coreMapMeasured: s.objects.Measured, coreMapControl: s.objects.Control, coreMapHost: s.objects.Host,
		coreMapPending: s.objects.Pending, coreMapScratch: s.objects.Scratch,
	})
}

// share lets the objects that are loaded after this one use its maps.
func (s *Sensor) share(maps map[string]*ebpf.Map) error {
	for name, m := range maps {
		if s.maps[name] != nil {
			continue
		}
		clone, err := m.Clone()
		if err != nil {
			return fmt.Errorf("sharing the map %s: %w", name, err)
		}
		s.maps[name] = clone
	}
	return nil
}

// shared are the options that make an object use the maps that are there.
func (s *Sensor) shared(spec *ebpf.CollectionSpec) *ebpf.CollectionOptions {
	options := &ebpf.CollectionOptions{MapReplacements: make(map[string]*ebpf.Map)}
	for name := range spec.Maps {
		if m := s.maps[name]; m != nil {
			options.MapReplacements[name] = m
		}
	}
	return options
}

// openRings maps the rings and the counters of their records.
func (s *Sensor) openRings() (err error) {
	counters := []*ebpf.Map{s.objects.Counters}
	if s.ring, err = openRing(s.objects.Events); err != nil {
		return refused("opening the event ring", err)
	}
	if s.watching != nil {
		if s.opens, err = openRing(s.watching.Maps[watchMapOpens]); err != nil {
			return refused("opening the ring of opens", err)
		}
		counters = append(counters, s.watching.Maps[watchMapOpenCounters])
	}
	for _, m := range counters {
		memory, err := m.Memory()
		if err != nil {
			return refused("mapping the counters", err)
		}
		s.memory = append(s.memory, memory)
	}
	n := s.possible * len(counters)
	s.cpus, s.begun, s.consumed, s.released = make([]position, n), make([]uint64, n), make([]atomic.Uint64, n), make([]released, n)
	if s.positions, err = unix.Mmap(s.maps[mapPositions].FD(), 0, positionSize*2*s.possible,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return refused("mapping the reader's positions", err)
	}
	for at := range s.cpus {
		r := s.position(at)
		s.released[at] = r
		s.cpus[at] = position{next: r.number + 1, drops: r.drops}
		s.begun[at] = r.number + 1
		s.consumed[at].Store(r.number)
	}
	s.table = make([]byte, n*counterSize)
	s.deliver = delivery{at: nobody}
	return nil
}

// attach attaches the programs without which there is no sensor.
func (s *Sensor) attach() error {
	for _, p := range s.corePrograms() {
		if p.program == s.objects.OnTask {
			continue // attached for each snapshot
		}
		err := s.place(p, func() (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: p.program})
		})
		if errors.Is(err, errStrange) {
			return err
		}
		if err != nil {
			return refused("attaching "+p.attach, err)
		}
	}
	return nil
}
