// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// position is how far the reader is in the numbering of one CPU.
type position struct {
	next  uint64 // number of the next record
	drops uint64 // the kernel's losses among the numbers before next
	mark  uint64 // finished by the kernel when the ring was last seen empty
}

// delivery is whose records to publish as consumed at the next Read: the
// caller is then done with them.
type delivery struct {
	cpu int // nobody: none
	all bool
}

const nobody = -1

// Read waits for the next event, at most the poll interval, and writes it to
// ev. It returns ErrNoEvent when there was none, ErrClosed after Close, and a
// *RecordError for a record that is not ours; reading may go on after it, and
// the hole it leaves is reported as lost. Read does not allocate.
func (s *Sensor) Read(ev *Event) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	if s.take(ev) {
		return nil
	}
	s.publish()
	return s.step(ev)
}

// step reads one record, or looks for losses once the ring is empty.
func (s *Sensor) step(ev *Event) error {
	if !s.busy {
		// The reader rounds the wait down to milliseconds.
		s.ring.SetDeadline(time.Now().Add(s.poll + 900*time.Microsecond))
	}
	err := s.ring.ReadInto(&s.record)
	s.busy = err == nil
	switch {
	case err == nil:
		return s.accept(s.record.RawSample, ev)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
		if err := s.idle(time.Now()); err != nil {
			if s.closed.Load() {
				return ErrClosed
			}
			return err
		}
		if s.take(ev) {
			return nil
		}
		return ErrNoEvent
	case errors.Is(err, os.ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("reading the event ring: %w", err)
	}
}

// take moves the oldest queued event to ev.
func (s *Sensor) take(ev *Event) bool {
	if len(s.queue) == 0 {
		return false
	}
	*ev = s.queue[0]
	s.queue = s.queue[1:]
	return true
}

// publish tells the other goroutines what the caller is done with.
func (s *Sensor) publish() {
	switch {
	case s.deliver.all:
		for cpu := range s.cpus {
			s.consumed[cpu].Store(s.cpus[cpu].next - 1)
		}
	case s.deliver.cpu != nobody:
		s.consumed[s.deliver.cpu].Store(s.cpus[s.deliver.cpu].next - 1)
	}
	s.deliver = delivery{cpu: nobody}
}

// accept decodes a record and reports what is missing before it.
func (s *Sensor) accept(raw []byte, ev *Event) error {
	drops, err := decode(raw, ev)
	if err != nil {
		return err
	}
	if int(ev.CPU) >= len(s.cpus) || ev.Kind == KindSeen {
		return malformed(ev, "%s in the ring of a host with %d cpus", ev.Kind, len(s.cpus))
	}
	p := &s.cpus[ev.CPU]
	if ev.Number < p.next {
		return malformed(ev, "read before: number %d is next", p.next)
	}
	s.fired[ev.Kind].Store(true)
	s.deliver.cpu = int(ev.CPU)
	if ev.Number == p.next {
		p.next++
		return nil
	}
	s.lose(ev.CPU, ev.Number, drops)
	p.next = ev.Number + 1
	s.queue = append(s.queue, *ev)
	s.take(ev)
	return nil
}

// lose reports the numbers from next up to, but not including, number. As
// many as the kernel counted as dropped are explained; drops is its count.
func (s *Sensor) lose(cpu uint32, number, drops uint64) {
	p := &s.cpus[cpu]
	missing := number - p.next
	full := min(missing, drops-min(drops, p.drops))
	p.next, p.drops = number, p.drops+full
	s.report(cpu, full, CauseRingFull)
	s.report(cpu, missing-full, CauseUnexplained)
	s.unexplained.Add(missing - full)
}

func (s *Sensor) report(cpu uint32, count uint64, cause Cause) {
	if count > 0 {
		s.queue = append(s.queue, Event{Kind: KindLost, CPU: cpu, Lost: Lost{CPU: cpu, Count: count, Cause: cause}})
	}
}

// idle runs when the ring was seen empty. A record that the kernel had
// finished when the ring was empty the last time, and that has not come
// since, will not come: no later record need show the hole.
func (s *Sensor) idle(now time.Time) error {
	if err := s.readCounters(s.table); err != nil {
		return err
	}
	for cpu := range s.cpus {
		p := &s.cpus[cpu]
		if p.mark >= p.next {
			s.lose(uint32(cpu), p.mark+1, s.counter(cpu, counterDrops))
			s.deliver.all = true
		}
		p.mark = s.counter(cpu, counterDone)
	}
	if now.Sub(s.missed) < missInterval {
		return nil
	}
	s.missed = now
	misses, err := s.skipped()
	if err != nil {
		return err
	}
	s.report(0, misses-min(misses, s.misses), CauseSkipped)
	s.misses = misses
	return nil
}

// Offsets in struct counters (record.h).
const (
	counterNumber  = 0
	counterDone    = 8
	counterDrops   = 16
	counterDropped = 24
	counterStorage = counterDropped + 8*8
)

func (s *Sensor) readCounters(table []byte) error {
	if _, err := s.memory.ReadAt(table, 0); err != nil {
		return fmt.Errorf("reading the kernel's counters: %w", err)
	}
	return nil
}

func (s *Sensor) counter(cpu, offset int) uint64 {
	return binary.LittleEndian.Uint64(s.table[cpu*counterSize+offset:])
}

// skipped is how often the kernel skipped one of our programs because it was
// running already. Such an event has no number.
func (s *Sensor) skipped() (uint64, error) {
	var sum uint64
	for _, p := range [...]*ebpf.Program{s.objects.OnExec, s.objects.OnFork, s.objects.OnExit, s.objects.OnCgroup} {
		stats, err := p.Stats()
		if err != nil {
			return 0, fmt.Errorf("reading the statistics of a program: %w", err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}
