// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// Position returns, per ring and CPU, the number of the last record the kernel has
// finished. What happened before the call has a number up to it.
func (s *Sensor) Position() ([]uint64, error) {
	table := make([]byte, len(s.table))
	if err := s.readCounters(table); err != nil {
		return nil, err
	}
	at := make([]uint64, len(s.cpus))
	for cpu := range at {
		at[cpu] = binary.LittleEndian.Uint64(table[cpu*counterSize+counterDone:])
	}
	return at, nil
}

// Consumed reports whether every record up to position was delivered, or
// delivered as lost, and the reader came back for more after it.
func (s *Sensor) Consumed(position []uint64) bool {
	if len(position) != len(s.consumed) {
		return false
	}
	for cpu, number := range position {
		if s.consumed[cpu].Load() < number {
			return false
		}
	}
	return true
}

// Barrier returns once every record of what happened before the call was
// consumed. Another goroutine must be reading.
func (s *Sensor) Barrier(ctx context.Context) error {
	position, err := s.Position()
	if err != nil {
		return err
	}
	// Unless the records are all read, wake the reader out of its poll.
	if s.Consumed(position) {
		return nil
	}
	s.wake()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !s.Consumed(position) {
		if s.closed.Load() {
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the reader of kernel events: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Losses are the losses so far.
type Losses struct {
	Exec, Fork, Exit, Cgroup uint64 // records the ring had no room for
	Taint, Open              uint64 // likewise
	Unexplained              uint64 // records that somebody else took
	Storage                  uint64 // process states the kernel could not make
	Skipped                  uint64 // runs of a program the kernel skipped
}

// Losses returns what the kernel and the reader have counted as lost.
func (s *Sensor) Losses() (Losses, error) {
	if err := s.use(); err != nil {
		return Losses{}, err
	}
	defer s.using.RUnlock()
	table := make([]byte, len(s.table))
	if err := s.readCounters(table); err != nil {
		return Losses{}, err
	}
	sum := func(offset int) (n uint64) {
		for cpu := range s.cpus {
			n += binary.LittleEndian.Uint64(table[cpu*counterSize+offset:])
		}
		return n
	}
	dropped := func(k Kind) uint64 { return sum(counterDropped + 8*int(k)) }
	skipped, err := s.skipped()
	if err != nil {
		return Losses{}, err
	}
	return Losses{
		Exec: dropped(KindExec), Fork: dropped(KindFork), Exit: dropped(KindExit), Cgroup: dropped(KindCgroup),
		Taint: dropped(KindTaint), Open: dropped(KindOpen),
		Unexplained: s.unexplained.Load(), Storage: sum(counterStorage), Skipped: skipped,
	}, nil
}
