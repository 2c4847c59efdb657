// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"
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
	at  int // index into cpus; nobody: none
	all bool
}

const nobody = -1

// Read waits for the next event, at most the poll interval, and writes it to
// ev. It returns ErrNoEvent when there was none, ErrClosed after Close, and a
// *RecordError for a record that is not ours; reading may go on after it, and
// the hole it leaves is reported as lost. An open comes after all that was
// recorded before it. Read does not allocate.
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

// step reads one record, or looks for losses once the rings are empty.
func (s *Sensor) step(ev *Event) error {
	if s.held.Kind != 0 {
		return s.release(ev)
	}
	if s.opens != nil && !s.ring.pending() && s.opens.pending() {
		if err := s.next(s.opens, ev, s.possible); !errors.Is(err, ErrNoEvent) {
			if err != nil || ev.Kind != KindOpen {
				return err // lost; the open is queued behind it
			}
			s.held = *ev
			return s.release(ev)
		}
	}
	if s.empty > 0 {
		s.wait()
	}
	err := s.next(s.ring, ev, 0)
	if !errors.Is(err, ErrNoEvent) {
		s.empty = 0
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	if s.ring.pending() || s.opens != nil && s.opens.pending() {
		s.empty = 0 // a record is being written
		runtime.Gosched()
		return ErrNoEvent
	}
	s.empty++
	if err := s.idle(time.Now()); err != nil {
		return err
	}
	if s.take(ev) {
		return nil
	}
	return ErrNoEvent
}

// wait waits for the poll interval, or longer when there has been nothing for
// long: a ring has room for what may come meanwhile. Nobody is woken for a
// record: that would cost the traced program ten times what the tracing does.
func (s *Sensor) wait() {
	poll := s.poll
	if s.empty > idlePolls {
		poll = max(poll, min(poll<<min((s.empty-idlePolls)/8, 8), idlePoll))
	}
	if s.timer == nil {
		s.timer = time.NewTimer(poll)
	} else {
		s.timer.Reset(poll)
	}
	select {
	case <-s.timer.C:
	case <-s.hurry:
		s.timer.Stop()
	}
}

// wake ends a wait, now or the next one.
func (s *Sensor) wake() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// release delivers the open that is held, or what was recorded before it.
func (s *Sensor) release(ev *Event) error {
	for s.ring.pending() {
		err := s.next(s.ring, ev, 0)
		if errors.Is(err, ErrNoEvent) {
			runtime.Gosched() // it is being written this very moment
			continue
		}
		if err != nil || ev.Time <= s.held.Time {
			return err
		}
		s.queue = append(s.queue, *ev)
		break
	}
	*ev, s.held = s.held, Event{}
	return nil
}

// next reads one record of a ring whose CPUs begin at base in cpus.
func (s *Sensor) next(r *ring, ev *Event, base int) error {
	for {
		raw, err := r.next()
		if err != nil {
			return err
		}
		if raw == nil {
			return ErrNoEvent
		}
		if err := s.accept(raw, ev, base); !errors.Is(err, errReadBefore) {
			return err
		}
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
	if s.held.Kind != 0 {
		s.deliver.all = true // later: an open is read and not delivered
		return
	}
	switch {
	case s.deliver.all:
		for i := range s.cpus {
			s.consumed[i].Store(s.cpus[i].next - 1)
		}
	case s.deliver.at != nobody:
		s.consumed[s.deliver.at].Store(s.cpus[s.deliver.at].next - 1)
	}
	s.deliver = delivery{at: nobody}
}

// accept decodes a record and reports what is missing before it.
func (s *Sensor) accept(raw []byte, ev *Event, base int) error {
	drops, err := decode(raw, ev)
	if err != nil {
		return err
	}
	if int(ev.CPU) >= s.possible || ev.Kind == KindSeen || (ev.Kind == KindOpen) != (base != 0) {
		return malformed(ev, "%s in a ring of a host with %d cpus", ev.Kind, s.possible)
	}
	at := base + int(ev.CPU)
	p := &s.cpus[at]
	if ev.Number < p.next {
		if ev.Number < s.begun[at] {
			return errReadBefore // by an agent that was killed before it gave it back
		}
		return malformed(ev, "read before: number %d is next", p.next)
	}
	s.fired[ev.Kind].Store(true)
	s.firedAt[ev.Hook].Store(true)
	if s.deliver.at != nobody && s.deliver.at != at {
		s.deliver.all = true
	}
	s.deliver.at = at
	if ev.Number == p.next {
		p.next++
		return nil
	}
	s.lose(at, ev.Number, drops)
	p.next = ev.Number + 1
	s.queue = append(s.queue, *ev)
	s.take(ev)
	return nil
}

// lose reports the numbers from next up to, but not including, number. As
// many as the kernel counted as dropped are explained; drops is its count.
func (s *Sensor) lose(at int, number, drops uint64) {
	p := &s.cpus[at]
	missing := number - p.next
	full := min(missing, drops-min(drops, p.drops))
	p.next, p.drops = number, p.drops+full
	cause, cpu := CauseRingFull, uint32(at)
	if at >= s.possible {
		cause, cpu = CauseOpensFull, uint32(at-s.possible)
	}
	s.report(cpu, full, cause)
	s.report(cpu, missing-full, CauseUnexplained)
	s.unexplained.Add(missing - full)
}

func (s *Sensor) report(cpu uint32, count uint64, cause Cause) {
	if count > 0 {
		s.queue = append(s.queue, Event{Kind: KindLost, CPU: cpu, Lost: Lost{CPU: cpu, Count: count, Cause: cause}})
	}
}

// idle runs when the rings were seen empty. A record that the kernel had
// finished when they were empty the last time, and that has not come since,
// will not come: no later record need show the hole.
func (s *Sensor) idle(now time.Time) error {
	if err := s.readCounters(s.table); err != nil {
		return err
	}
	for at := range s.cpus {
		p := &s.cpus[at]
		if p.mark >= p.next {
			s.lose(at, p.mark+1, s.counter(at, counterDrops))
			s.deliver.all = true
		}
		p.mark = s.counter(at, counterDone)
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
	counterSilent  = counterStorage + 16
)

func (s *Sensor) readCounters(table []byte) error {
	size := s.possible * counterSize
	for i, m := range s.memory {
		if _, err := m.ReadAt(table[i*size:(i+1)*size], 0); err != nil {
			return fmt.Errorf("reading the kernel's counters: %w", err)
		}
	}
	return nil
}

func (s *Sensor) counter(at, offset int) uint64 {
	return binary.LittleEndian.Uint64(s.table[at*counterSize+offset:])
}

// skipped is how often the kernel skipped one of our programs because it was
// running already. Such an event has no number.
func (s *Sensor) skipped() (uint64, error) {
	var sum uint64
	for i := range s.attached {
		stats, err := s.attached[i].program.program.Stats()
		if err != nil {
			return 0, fmt.Errorf("reading the statistics of a program: %w", err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}
