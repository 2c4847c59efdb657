// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"os"
	"time"
)

// A sensor that was adopted has records waiting that belong to whoever reads
// next. So it is seen to fire from beside: records are looked at in their ring,
// and stay there.

// peek is a second reader of r that begins behind all that is in it now and
// gives nothing back.
func (r *ring) peek() *ring {
	return &ring{consumer: r.consumer, producer: r.producer, data: r.data, mask: r.mask, at: r.produced(), freed: r.freed}
}

// canaryBeside is canary for a sensor that was adopted. Where the ring has no
// room, that the kernel counts what it drops is as good as its records.
func (s *Sensor) canaryBeside(argv []string, limit time.Duration) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	before, err := s.Losses()
	if err != nil {
		return err
	}
	beside := s.ring.peek()
	began, err := bootTime()
	if err != nil {
		return err
	}
	bird, err := startCanary(argv)
	if err != nil {
		return err
	}
	var seen sightings
	err = s.lookBeside(beside, limit, func(ev *Event) bool { return seen.last(ev, bird.Process.Pid) }, func() (bool, error) {
		now, err := s.Losses()
		if err != nil || now.Exec == before.Exec || now.Fork == before.Fork || now.Exit == before.Exit {
			return false, err
		}
		seen[KindFork], seen[KindExec], seen[KindExit] = began, began, began
		return true, nil
	})
	if seen[KindExit] == 0 {
		bird.Process.Kill()
	}
	bird.Wait() // its status means nothing to us
	return judgeCanary(bird, seen, began, limit, err)
}

// canaryOpensBeside is canaryOpens for a sensor that was adopted.
func (s *Sensor) canaryOpensBeside(limit time.Duration) error {
	if !s.tellsOpens() {
		return nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	before, err := s.Losses()
	if err != nil {
		return err
	}
	beside := s.opens.peek()
	inode, err := openCanary()
	if err != nil {
		return err
	}
	seen := false
	err = s.lookBeside(beside, limit, func(ev *Event) bool {
		seen = ev.Kind == KindOpen && ev.Process.PID == uint32(os.Getpid()) && ev.Opened.File.Inode == inode
		return seen
	}, func() (bool, error) {
		now, err := s.Losses()
		seen = err == nil && now.Open != before.Open
		return seen, err
	})
	if err == nil && !seen {
		s.noOpens()
	}
	return err
}

// lookBeside looks at what comes until last says so of an event, full says so
// when there is nothing, or the limit has passed.
func (s *Sensor) lookBeside(beside *ring, limit time.Duration, last func(*Event) bool, full func() (bool, error)) error {
	var ev Event
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		raw, err := beside.next()
		if err != nil {
			return err
		}
		if raw == nil {
			if enough, err := full(); enough || err != nil {
				return err
			}
			time.Sleep(200 * time.Microsecond)
			continue
		}
		if _, err := decode(raw, &ev); err != nil {
			return err
		}
		s.fired[ev.Kind].Store(true)
		s.firedAt[ev.Hook].Store(true)
		if last(&ev) {
			return nil
		}
	}
	return nil
}
