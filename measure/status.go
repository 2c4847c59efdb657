// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// status is what /proc/PID/status says of one thread. procfs reads some of it,
// and not the rest.
type status struct {
	tracer      uint32 // thread, 0: none
	credentials evidence.Credentials
	groups      []uint32
}

// statusFields are the lines that are read.
var statusFields = [...]struct {
	name string
	read func(s *status, value []byte) error
}{
	{"TracerPid", func(s *status, v []byte) error { return number(v, 10, &s.tracer) }},
	{"Uid", func(s *status, v []byte) error {
		c := &s.credentials
		return four(v, &c.UID, &c.EUID, &c.SUID, &c.FSUID)
	}},
	{"Gid", func(s *status, v []byte) error {
		c := &s.credentials
		return four(v, &c.GID, &c.EGID, &c.SGID, &c.FSGID)
	}},
	{"Groups", func(s *status, v []byte) (err error) { s.groups, err = groupList(v); return err }},
	{"CapInh", func(s *status, v []byte) error { return number(v, 16, &s.credentials.Inheritable) }},
	{"CapPrm", func(s *status, v []byte) error { return number(v, 16, &s.credentials.Permitted) }},
	{"CapEff", func(s *status, v []byte) error { return number(v, 16, &s.credentials.Effective) }},
	{"CapBnd", func(s *status, v []byte) error { return number(v, 16, &s.credentials.Bounding) }},
	{"CapAmb", func(s *status, v []byte) error { return number(v, 16, &s.credentials.Ambient) }},
	{"NoNewPrivs", func(s *status, v []byte) error {
		var n uint32
		err := number(v, 10, &n)
		s.credentials.NoNewPrivs = n != 0
		return err
	}},
	{"Seccomp", func(s *status, v []byte) error { return number(v, 10, &s.credentials.Seccomp) }},
}

// parseStatus reads those lines of /proc/PID/status; each must be there once.
// The kernel escapes newlines in the one line a process writes, its name.
func parseStatus(data []byte) (s status, err error) {
	var seen, once [len(statusFields)]int
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		for i := range statusFields {
			if string(key) != statusFields[i].name {
				continue
			}
			seen[i]++
			if err := statusFields[i].read(&s, bytes.TrimSpace(value)); err != nil {
				return status{}, fmt.Errorf("status field %s: %w", key, err)
			}
		}
	}
	for i := range once {
		once[i] = 1
	}
	if seen != once {
		return status{}, fmt.Errorf("status has TracerPid, Uid, Gid, Groups, capabilities, NoNewPrivs, Seccomp %d times, want each once", seen)
	}
	return s, nil
}

func number[T uint32 | uint64](b []byte, base int, to *T) error {
	n, err := strconv.ParseUint(string(b), base, int(unsafe.Sizeof(*to))*8)
	*to = T(n)
	return err
}

// four reads the real, effective, saved and file system's id.
func four(b []byte, to ...*uint32) error {
	words := bytes.Fields(b)
	if len(words) != len(to) {
		return fmt.Errorf("%d ids, want %d", len(words), len(to))
	}
	for i, w := range words {
		if err := number(w, 10, to[i]); err != nil {
			return err
		}
	}
	return nil
}

func groupList(b []byte) ([]uint32, error) {
	words := bytes.Fields(b)
	if len(words) > maxGroups {
		return nil, errTooMany
	}
	out := make([]uint32, len(words))
	for i, w := range words {
		if err := number(w, 10, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// threads is what the status of all threads of a process says. Credentials and
// tracing are by thread: the leader does not speak for the others.
type threads struct {
	credentials evidence.Value[evidence.Credentials] // of the leader; ids are those of the initial user namespace
	groups      evidence.Value[[]uint32]
	tracer      evidence.Value[uint32] // the thread that traces any of them, 0: none
}

// threads reads the status of every thread. A thread that may do more or other
// things than the leader, taints what the leader's says.
func (t *target) threads() (all threads) {
	leader, err := t.status("status")
	if err != nil {
		return noThreads(err)
	}
	all.credentials, all.groups = evidence.Known(leader.credentials), evidence.Known(leader.groups)
	tracer := leader.tracer
	names, err := t.threadNumbers()
	if err != nil {
		return noThreads(err)
	}
	for _, name := range names {
		s, err := t.status("task/" + name + "/status")
		if gone(err) {
			continue // a thread that has ended
		}
		if err != nil {
			return noThreads(err)
		}
		if tracer == 0 {
			tracer = s.tracer
		}
		if !slices.Equal(s.groups, leader.groups) || !within(s.credentials, leader.credentials) {
			all.credentials, all.groups = taint(all.credentials, taintThreads), taint(all.groups, taintThreads)
		}
	}
	all.tracer = evidence.Known(tracer)
	return all
}

func noThreads(err error) threads {
	return threads{unread[evidence.Credentials](err), unread[[]uint32](err), unread[uint32](err)}
}

// within reports whether c is the same as limit, or only more confined: a
// seccomp filter or no_new_privs can only take away.
func within(c, limit evidence.Credentials) bool {
	limit.NoNewPrivs = limit.NoNewPrivs || c.NoNewPrivs
	limit.Seccomp = max(limit.Seccomp, c.Seccomp)
	return c == limit
}

func (t *target) status(name string) (status, error) {
	data, err := t.read(name, maxStatus)
	if err != nil {
		return status{}, err
	}
	return parseStatus(data)
}

// threadNumbers lists the threads.
func (t *target) threadNumbers() ([]string, error) {
	fd, err := unix.Openat(t.dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), "task")
	defer dir.Close()
	names, err := dir.Readdirnames(maxThreads + 1)
	if err == nil && len(names) > maxThreads {
		err = errTooMany
	}
	return names, err
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
