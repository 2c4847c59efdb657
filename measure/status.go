// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// status is what procfs leaves out of /proc/PID/status.
type status struct {
	tracer     uint32 // thread, 0: none
	groups     []uint32
	noNewPrivs bool
	seccomp    uint32
}

// parseStatus reads those lines of /proc/PID/status; each must be there once.
// The kernel escapes newlines in the one line a process writes, its name.
func parseStatus(data []byte) (s status, err error) {
	var seen [4]int
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "TracerPid":
			seen[0]++
			s.tracer, err = number32(value)
		case "Groups":
			seen[1]++
			s.groups, err = groupList(value)
		case "NoNewPrivs":
			seen[2]++
			var n uint32
			n, err = number32(value)
			s.noNewPrivs = n != 0
		case "Seccomp":
			seen[3]++
			s.seccomp, err = number32(value)
		}
		if err != nil {
			return status{}, fmt.Errorf("status field %s: %w", key, err)
		}
	}
	if seen != [4]int{1, 1, 1, 1} {
		return status{}, fmt.Errorf("status has TracerPid, Groups, NoNewPrivs, Seccomp %d times, want each once", seen)
	}
	return s, nil
}

func number32(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err
}

func groupList(b []byte) ([]uint32, error) {
	words := bytes.Fields(b)
	if len(words) > maxGroups {
		return nil, errTooMany
	}
	out := make([]uint32, len(words))
	for i, w := range words {
		var err error
		if out[i], err = number32(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// credentials reads who the process is. Numbers are those of the initial user
// namespace.
func (t *target) credentials() (evidence.Value[evidence.Credentials], evidence.Value[[]uint32]) {
	p, err := t.proc.NewStatus()
	if err != nil {
		return unread[evidence.Credentials](err), unread[[]uint32](err)
	}
	data, err := t.read("status", maxStatus)
	if err != nil {
		return unread[evidence.Credentials](err), unread[[]uint32](err)
	}
	s, err := parseStatus(data)
	if err != nil {
		return unread[evidence.Credentials](err), unread[[]uint32](err)
	}
	u, g := p.UIDs, p.GIDs
	return evidence.Known(evidence.Credentials{
		UID: uint32(u[0]), EUID: uint32(u[1]), SUID: uint32(u[2]), FSUID: uint32(u[3]),
		GID: uint32(g[0]), EGID: uint32(g[1]), SGID: uint32(g[2]), FSGID: uint32(g[3]),
		Inheritable: p.CapInh, Permitted: p.CapPrm, Effective: p.CapEff, Bounding: p.CapBnd, Ambient: p.CapAmb,
		NoNewPrivs: s.noNewPrivs, Seccomp: s.seccomp,
	}), evidence.Known(s.groups)
}

// tracer returns the thread that traces any thread of the process, 0 where
// none does. Tracing is by thread: the leader's status does not speak for the
// others.
func (t *target) tracer() evidence.Value[uint32] {
	fd, err := unix.Openat(t.dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unread[uint32](err)
	}
	dir := os.NewFile(uintptr(fd), "task")
	defer dir.Close()
	names, err := dir.Readdirnames(maxThreads + 1)
	if err != nil {
		return unread[uint32](err)
	}
	if len(names) > maxThreads {
		return evidence.Unknown[uint32](reasonTooMany)
	}
	for _, name := range names {
		data, err := t.read("task/"+name+"/status", maxStatus)
		if gone(err) {
			continue // a thread that has ended
		}
		if err != nil {
			return unread[uint32](err)
		}
		s, err := parseStatus(data)
		if err != nil {
			return unread[uint32](err)
		}
		if s.tracer != 0 {
			return evidence.Known(s.tracer)
		}
	}
	return evidence.Known[uint32](0)
}

// unread is a field that could not be read, and why.
func unread[T any](err error) evidence.Value[T] {
	switch {
	case errors.Is(err, ErrExited) || gone(err) || errors.Is(err, os.ErrNotExist):
		return evidence.Unknown[T](reasonExited)
	case errors.Is(err, ErrChanged) || errors.Is(err, errRaced):
		return evidence.Unknown[T](reasonRaced)
	case errors.Is(err, errTooLarge):
		return evidence.Unknown[T](reasonTooLarge)
	case errors.Is(err, errTooMany):
		return evidence.Unknown[T](reasonTooMany)
	}
	return evidence.Unknown[T](reasonUnreadable)
}
