// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// mountWatch notices file systems that are mounted.
type mountWatch struct {
	blind []Blind // of this process's namespace; of who looks around

	mu      sync.Mutex        // guards visited
	visited map[uint64]uint64 // mount namespace -> when it was looked through
}

const (
	maxVisited = 4096
	revisit    = 1_000_000_000 // nanoseconds before one is looked through again
)

// ErrNotFiring says that the marks are set, and an exec was not held.
var ErrNotFiring = errors.New("an exec was not held")

// markAll marks all file systems there are, and goes on marking.
func (h *holder) markAll() error {
	if h.task.Only != nil {
		for _, path := range h.task.Only {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("opening %s: %w", path, err)
			}
			err = h.mark(fd)
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	}
	// It polls as changed when it has. A bare descriptor: nobody closes it.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /proc/self/mountinfo", err)
	}
	if err := h.lookAround(); err != nil {
		return err
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range processes {
		if pid, err := strconv.ParseUint(p.Name(), 10, 32); err == nil {
			h.lookThrough(uint32(pid))
		}
	}
	go h.followMounts(table)
	return nil
}

// followMounts marks what is mounted.
func (h *holder) followMounts(table int) {
	fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			h.end(fmt.Errorf("waiting for mounts: %w", err))
			return
		}
		if err := h.lookAround(); err != nil {
			h.end(fmt.Errorf("looking for mounts: %w", err))
			return
		}
	}
}

// lookAround marks what this process's own mount namespace holds.
func (h *holder) lookAround() error {
	blind, err := h.markMounts("/proc/self")
	if err != nil {
		return err
	}
	if slices.Equal(blind, h.mounts.blind) {
		return nil
	}
	h.mounts.blind = blind
	for {
		text, err := json.Marshal(blind)
		if err != nil || len(text) < maxMessage {
			h.out.say(append([]byte{sayBlind}, text...))
			return err
		}
		blind = blind[:len(blind)/2]
	}
}

// lookThrough marks what the mount namespace of a process holds: what is
// mounted there shows nowhere else. What cannot be marked stays unmarked; an
// exec from it has no verdict.
func (h *holder) lookThrough(pid uint32) {
	if h.task.Only != nil {
		return
	}
	proc := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	var theirs, own unix.Stat_t
	if unix.Stat(proc+"/ns/mnt", &theirs) != nil || unix.Stat("/proc/self/ns/mnt", &own) != nil || theirs.Ino == own.Ino {
		return
	}
	m, now := &h.mounts, sinceBoot()
	m.mu.Lock()
	at, known := m.visited[theirs.Ino]
	fresh := known && now-at < revisit
	if !fresh {
		if len(m.visited) >= maxVisited {
			clear(m.visited)
		}
		m.visited[theirs.Ino] = now
	}
	m.mu.Unlock()
	if !fresh {
		_, _ = h.markMounts(proc) // it may have ended meanwhile
	}
}

// fire has the kernel ask about an exec of this very process, to see that it
// asks: a mark alone proves nothing.
func (h *holder) fire() error {
	before, path := h.asked.Load(), "/proc/self/exe"
	if h.task.Only != nil || !execCheck(path) {
		dir := os.TempDir()
		if len(h.task.Only) > 0 {
			dir = h.task.Only[0]
		}
		f, err := os.CreateTemp(dir, "jurat-gate-*")
		if err != nil {
			return fmt.Errorf("%w: making the canary: %w", ErrNotFiring, err)
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString("jurat: not a program\n")
		if err = errors.Join(err, f.Chmod(0o700), f.Close()); err != nil {
			return fmt.Errorf("%w: making the canary: %w", ErrNotFiring, err)
		}
		path = f.Name()
		if !execCheck(path) {
			execNothing(path)
		}
	}
	if h.asked.Load() == before {
		return fmt.Errorf("%w: the kernel did not ask about %s", ErrNotFiring, path)
	}
	return nil
}
