// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import "sync/atomic"

// Mark is a place in the stream of events, and in the rings.
type Mark struct {
	released    []released
	ring, opens uint64
}

// released is how far the agent is done with the records of one ring and CPU,
// as in the map positions.
type released struct {
	number uint64 // of the last record
	drops  uint64 // the kernel's losses among those up to number
}

// Mark sets m behind the event that Read delivered last, and reports whether
// that was possible: while an event is read and not delivered yet, it is not.
// For the goroutine that reads.
func (s *Sensor) Mark(m *Mark) bool {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed.Load() || s.held.Kind != 0 || len(s.queue) > 0 {
		return false
	}
	m.released = m.released[:0]
	for at := range s.cpus {
		m.released = append(m.released, released{s.cpus[at].next - 1, s.cpus[at].drops})
	}
	m.ring = s.ring.at
	if s.opens != nil {
		m.opens = s.opens.at
	}
	return true
}

// Release gives the records before m back to the kernel. Until then they keep
// their room in the ring, and an agent that comes after this one is delivered
// them again: release what is written down.
func (s *Sensor) Release(m *Mark) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed.Load() {
		return
	}
	for at, r := range m.released {
		s.released[at] = r
		atomic.StoreUint64(word(s.positions[at*positionSize+8:]), r.drops)
		atomic.StoreUint64(word(s.positions[at*positionSize:]), r.number)
	}
	s.ring.free(m.ring)
	if s.opens != nil {
		s.opens.free(m.opens)
	}
}

// Released returns, per ring and CPU, the number of the last record that was
// released.
func (s *Sensor) Released() []uint64 {
	s.reading.Lock()
	defer s.reading.Unlock()
	numbers := make([]uint64, len(s.released))
	for at, r := range s.released {
		numbers[at] = r.number
	}
	return numbers
}

// position returns what is written for the next agent.
func (s *Sensor) position(at int) released {
	return released{atomic.LoadUint64(word(s.positions[at*positionSize:])), atomic.LoadUint64(word(s.positions[at*positionSize+8:]))}
}
