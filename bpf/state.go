// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// State is what the kernel keeps about a process. Its zero value is not
// measured.
type State struct {
	Generation uint32
	Measured   bool // MarkMeasured was called for this very generation
	Seen       bool // runs a program whose exec was before the sensor: what it opened before is not known
	Taints     Taints
	OpensLost  bool // a file that this program opened was not told

	CredentialsChanged bool // see Process
}

// Bits of Flags (record.h).
const (
	stateSeen        = 1 << 0
	stateCredentials = 1 << 1
)

// kernelState is struct state of record.h.
type kernelState struct {
	Generation uint64
	ExecTime   uint64
	Flags      uint64
	Taint      [taintBytes]byte
	Program    [2][taintBytes]byte
	_          [4]uint32
}

// State returns the state of the process that pidfd refers to. A process that
// ended and was not waited for has one still: ask pidfd whether it lives.
func (s *Sensor) State(pidfd int) (State, error) {
	if err := s.use(); err != nil {
		return State{}, err
	}
	defer s.using.RUnlock()
	st, _, err := s.state(pidfd)
	return st, err
}

// state also returns the generation in full width. It reads until no exec
// came in between.
func (s *Sensor) state(pidfd int) (State, uint64, error) {
	for range stateTries {
		before, err := s.kernelState(pidfd)
		if err != nil {
			return State{}, 0, err
		}
		var measured uint64
		err = s.objects.Measured.Lookup(int32(pidfd), &measured)
		known := err == nil
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return State{}, 0, fmt.Errorf("reading the measured generation of pidfd %d: %w", pidfd, err)
		}
		after, err := s.kernelState(pidfd)
		if err != nil {
			return State{}, 0, err
		}
		if after != before {
			continue
		}
		taints, err := foldTaints(after.Taint)
		own, ownErr := foldTaints(after.Program[after.Generation&1])
		if err := errors.Join(err, ownErr); err != nil {
			return State{}, 0, fmt.Errorf("state of pidfd %d: %w", pidfd, err)
		}
		taints |= own
		return State{
			Generation:         generation(after.Generation),
			Measured:           known && measured == after.Generation,
			Seen:               after.Flags&stateSeen != 0,
			Taints:             taints &^ taintOpensLost,
			CredentialsChanged: after.Flags&stateCredentials != 0,
			OpensLost:          taints&taintOpensLost != 0,
		}, after.Generation, nil
	}
	return State{}, 0, fmt.Errorf("state of pidfd %d: changed on each of %d reads", pidfd, stateTries)
}

func (s *Sensor) kernelState(pidfd int) (kernelState, error) {
	var st kernelState
	err := s.objects.States.Lookup(int32(pidfd), &st)
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return st, ErrNoState
	case err != nil:
		return st, fmt.Errorf("reading the state of pidfd %d: %w", pidfd, err)
	}
	return st, nil
}

// MarkMeasured says that the process was measured while it was at generation,
// and reports whether it still is. The mark counts for that generation only:
// an exec before, during or after the call leaves the process unmeasured.
func (s *Sensor) MarkMeasured(pidfd int, generation uint32) (bool, error) {
	if err := s.use(); err != nil {
		return false, err
	}
	defer s.using.RUnlock()
	_, full, err := s.state(pidfd)
	if err != nil {
		return false, err
	}
	if full != uint64(generation) {
		return false, nil
	}
	if err := s.noteMark(pidfd, full); err != nil {
		return false, err
	}
	if err := s.objects.Measured.Update(int32(pidfd), full, ebpf.UpdateAny); err != nil {
		return false, fmt.Errorf("marking pidfd %d as measured: %w", pidfd, err)
	}
	st, full, err := s.state(pidfd)
	if err != nil {
		return false, err
	}
	return st.Measured && full == uint64(generation), nil
}
