// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Snapshot calls f for every process there is, with an event of kind
// KindSeen, and sees to it that each has a state in the kernel. It ends early
// when f returns an error. An agent takes one snapshot after Open; from its
// end on, a process without state counts as one whose state was lost.
func (s *Sensor) Snapshot(f func(*Event) error) error {
	err := s.visit(func(ev *Event) error {
		s.fired[KindSeen].Store(true)
		return f(ev)
	})
	if err != nil {
		return err
	}
	return s.seed()
}

// visit calls f for every process there is.
func (s *Sensor) visit(f func(*Event) error) error {
	s.snapshot.Lock()
	defer s.snapshot.Unlock()
	if err := s.use(); err != nil {
		return err
	}
	defer s.using.RUnlock()
	err := visit(s.objects.OnTask, func(ev *Event) error {
		s.fired[KindSeen].Store(true)
		return f(ev)
	})
	if err != nil {
		return err
	}
	return s.seed()
}

// visit calls f with an event for every process there is.
func visit(iterator *ebpf.Program, f func(*Event) error) error {
	tasks, err := iterate(iterator)
	if err != nil {
		return err
	}
	defer tasks.Close()
	in := bufio.NewReaderSize(tasks, 1<<16)
	raw := make([]byte, execSize)
	var ev Event
	for {
		switch _, err := io.ReadFull(in, raw); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the task iterator: %w", err)
		}
		if _, err := decode(raw, &ev); err != nil {
			return fmt.Errorf("task iterator: %w", err)
		}
		if ev.Kind != KindSeen {
			return fmt.Errorf("task iterator: record of kind %s", ev.Kind)
		}
		if err := f(&ev); err != nil {
			return err
		}
	}
}

// iterate starts an iteration over all tasks. It outlives its link.
func iterate(iterator *ebpf.Program) (io.ReadCloser, error) {
	it, err := link.AttachIter(link.IterOptions{Program: iterator})
	if err != nil {
		return nil, refused("attaching the task iterator", err)
	}
	defer it.Close()
	tasks, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("starting the task iterator: %w", err)
	}
	return tasks, nil
}

// seed tells the programs that every process has been visited.
func (s *Sensor) seed() error {
	s.control.Seeded = 1
	return s.putControl()
}
