// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// canary runs a helper process and waits for its fork, exec and exit to
// arrive. That a program is attached proves nothing: kernels attach programs
// that never run. What else arrives meanwhile is kept for Read.
func (s *Sensor) canary(argv []string, limit time.Duration) error {
	if err := s.catchUp(limit); err != nil {
		return err
	}
	began, err := bootTime()
	if err != nil {
		return err
	}
	bird, err := startCanary(argv)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	backlog, seen, err := s.watchFor(bird.Process.Pid, deadline)
	if err != nil || seen[KindExit] == 0 {
		err = errors.Join(err, bird.Process.Kill())
	}
	bird.Wait() // its status means nothing to us
	s.queue = append(backlog, s.queue...)
	s.deliver.all = true
	return judgeCanary(bird, seen, began, limit, err)
}

// judgeCanary holds what was seen of the helper against what must be.
func judgeCanary(bird *exec.Cmd, seen sightings, began uint64, limit time.Duration, cause error) error {
	missing := make([]string, 0, 3)
	for _, k := range []Kind{KindFork, KindExec, KindExit} {
		if seen[k] == 0 {
			missing = append(missing, k.String())
		}
	}
	if len(missing) > 0 {
		return &OpenError{Reason: ErrNotFiring, Cause: cause,
			Fact: fmt.Sprintf("%s of the helper %s (pid %d) not seen within %v",
				strings.Join(missing, ", "), bird.Path, bird.Process.Pid, limit),
			Hint: "run in the initial pid namespace; if it does, another tracer or the kernel suppresses tracepoints"}
	}
	now, err := bootTime()
	if err != nil {
		return err
	}
	if at := seen[KindExec]; at < began || at > now {
		return &OpenError{Reason: ErrNotFiring,
			Fact: fmt.Sprintf("the helper's exec is dated %d ns since boot, this process was at %d to %d", at, began, now),
			Hint: "run in the initial time namespace"}
	}
	return nil
}

// sightings are when fork, exec and exit of the helper were, by kind; 0: not
// seen.
type sightings [KindSeen]uint64

// watchFor reads until fork, exec and exit of child arrived or the deadline
// passed. It returns all it read and when each was.
func (s *Sensor) watchFor(child int, deadline time.Time) (backlog []Event, seen sightings, err error) {
	backlog, _, err = s.await(deadline, func(ev *Event) bool { return seen.last(ev, child) })
	return backlog, seen, err
}

// last takes in an event and reports whether it is the end of the child.
func (seen *sightings) last(ev *Event, child int) bool {
	if ev.Process.PID != uint32(child) {
		return false
	}
	switch {
	case ev.Kind == KindFork && ev.Parent.PID == uint32(os.Getpid()),
		ev.Kind == KindExec && seen[KindFork] != 0,
		ev.Kind == KindExit && seen[KindExec] != 0:
		seen[ev.Kind] = ev.Time
	}
	return seen[KindExit] != 0
}

// await reads until last says so of an event, or the deadline passed. It
// returns all it read.
func (s *Sensor) await(deadline time.Time, last func(*Event) bool) (backlog []Event, seen bool, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for time.Now().Before(deadline) {
		var ev Event
		if !s.take(&ev) {
			if err := s.step(&ev); errors.Is(err, ErrNoEvent) {
				continue
			} else if err != nil {
				return backlog, false, err
			}
		}
		backlog = append(backlog, ev)
		s.relieve()
		if last(&ev) {
			return backlog, true, nil
		}
	}
	return backlog, false, nil
}

// catchUp reads what is waiting, so that there is room for what comes.
func (s *Sensor) catchUp(limit time.Duration) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	var backlog []Event
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		var ev Event
		if !s.take(&ev) {
			if err := s.step(&ev); errors.Is(err, ErrNoEvent) {
				break
			} else if err != nil {
				return err
			}
		}
		backlog = append(backlog, ev)
		s.relieve()
	}
	s.queue = append(backlog, s.queue...)
	s.deliver.all = true
	return nil
}

// relieve makes room in a ring that is half full of records that were read
// and not delivered yet. An agent that is killed now leaves a hole.
func (s *Sensor) relieve() {
	for _, r := range []*ring{s.ring, s.opens} {
		if r != nil && r.at-r.freed > r.mask/2 {
			r.free(r.at)
		}
	}
}

// startCanary starts argv, or what every host of ours has one of.
func startCanary(argv []string) (*exec.Cmd, error) {
	tries := [][]string{argv}
	if len(argv) == 0 {
		tries = [][]string{{"/bin/true"}, {"/usr/bin/true"}}
	}
	var errs []error
	for _, try := range tries {
		bird := &exec.Cmd{Path: try[0], Args: try, Env: []string{}}
		err := bird.Start()
		if err == nil {
			return bird, nil
		}
		errs = append(errs, err)
	}
	cause := errors.Join(errs...)
	return nil, &OpenError{Reason: ErrNotFiring, Cause: cause,
		Fact: "no helper process could be started: " + strings.ReplaceAll(cause.Error(), "\n", "; "),
		Hint: "allow /bin/true in the unit (ExecPaths=), or set another canary program"}
}
