// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
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
	table *os.File // /proc/self/mountinfo: polls as changed when it has
	wake  int      // eventfd

	mu        sync.Mutex // guards closing the two, and what follows
	following bool
	asked     []uint32          // processes whose mount namespace is to be looked through
	blind     []Blind           // of this process's namespace
	visited   map[uint64]uint64 // mount namespace -> when it was looked through
}

const (
	maxVisits = 64            // namespaces waiting to be looked through
	revisit   = 1_000_000_000 // nanoseconds before one is looked through again
)

// watchMounts marks all file systems there are, and goes on marking.
func (g *Gate) watchMounts() (err error) {
	m := &g.mounts
	m.visited = make(map[uint64]uint64)
	if g.options.Only != nil {
		for _, path := range g.options.Only {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("opening %s: %w", path, err)
			}
			err = g.mark(fd)
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	}
	if m.table, err = os.Open("/proc/self/mountinfo"); err != nil {
		return err
	}
	if m.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if err := g.lookAround(); err != nil {
		return err
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, p := range processes {
		if pid, err := strconv.ParseUint(p.Name(), 10, 32); err == nil {
			g.lookThrough(uint32(pid))
		}
	}
	m.mu.Lock()
	m.following = true
	m.mu.Unlock()
	g.group.Go(g.followMounts)
	return nil
}

// closeMounts ends what watchMounts began.
func (g *Gate) closeMounts() {
	g.nudge()
	m := &g.mounts
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.following {
		m.close()
	}
}

// close closes the descriptors; the caller holds mu.
func (m *mountWatch) close() {
	if m.table != nil {
		m.table.Close()
	}
	if m.wake >= 0 {
		unix.Close(m.wake)
	}
	m.table, m.wake = nil, -1
}

// followMounts marks what is mounted, until the gate is closed.
func (g *Gate) followMounts() {
	m := &g.mounts
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.close()
	}()
	fds := []unix.PollFd{{Fd: int32(m.table.Fd()), Events: unix.POLLPRI}, {Fd: int32(m.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			g.stop(fmt.Errorf("waiting for mounts: %w", err))
			return
		}
		if g.ctx.Err() != nil {
			return
		}
		if fds[1].Revents != 0 {
			var n [8]byte
			unix.Read(m.wake, n[:])
		}
		if fds[0].Revents != 0 {
			if err := g.lookAround(); err != nil {
				g.stop(fmt.Errorf("looking for mounts: %w", err))
				return
			}
		}
		m.mu.Lock()
		asked := m.asked
		m.asked = nil
		m.mu.Unlock()
		for _, pid := range asked {
			g.lookThrough(pid)
		}
	}
}

// lookAround marks what this process's own mount namespace holds.
func (g *Gate) lookAround() error {
	blind, err := g.markMounts("/proc/self")
	if err != nil {
		return err
	}
	m := &g.mounts
	m.mu.Lock()
	news := !slices.Equal(blind, m.blind)
	m.blind = blind
	m.mu.Unlock()
	if news && g.options.Observer != nil {
		g.options.Observer.Blind(slices.Clone(blind))
	}
	return nil
}

// lookThrough marks what the mount namespace of a process holds: what is
// mounted there shows nowhere else. What cannot be marked stays unmarked; an
// exec from it has no verdict.
func (g *Gate) lookThrough(pid uint32) {
	proc := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	var theirs, own unix.Stat_t
	if unix.Stat(proc+"/ns/mnt", &theirs) != nil || unix.Stat("/proc/self/ns/mnt", &own) != nil || theirs.Ino == own.Ino {
		return
	}
	m, now := &g.mounts, sinceBoot()
	m.mu.Lock()
	at, known := m.visited[theirs.Ino]
	fresh := known && now-at < revisit
	if !fresh {
		if len(m.visited) >= 4096 {
			clear(m.visited)
		}
		m.visited[theirs.Ino] = now
	}
	m.mu.Unlock()
	if !fresh {
		g.markMounts(proc)
	}
}

// visit has the mount namespace of a process looked through soon.
func (g *Gate) visit(pid uint32) {
	m := &g.mounts
	if g.options.Only != nil {
		return
	}
	m.mu.Lock()
	full := len(m.asked) >= maxVisits
	if !full {
		m.asked = append(m.asked, pid)
	}
	m.mu.Unlock()
	if !full {
		g.nudge()
	}
}

// nudge has followMounts look what there is to do.
func (g *Gate) nudge() {
	m := &g.mounts
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wake >= 0 {
		unix.Write(m.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// Blind returns the file systems of this process's mount namespace whose files
// are not held, in the order in which they are mounted.
func (g *Gate) Blind() []Blind {
	g.mounts.mu.Lock()
	defer g.mounts.mu.Unlock()
	return slices.Clone(g.mounts.blind)
}

var errCanary = errors.New("the kernel did not ask")

// fire has the kernel ask about an exec of this very process, to see that it
// asks: a mark alone proves nothing.
func (g *Gate) fire() error {
	before := g.canary.Load()
	path := "/proc/self/exe"
	if g.options.Only != nil || !execCheck(path) {
		f, err := os.CreateTemp(g.canaryDir(), "jurat-gate-*")
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
	if g.canary.Load() == before {
		return fmt.Errorf("%w: %w about %s", ErrNotFiring, errCanary, path)
	}
	return nil
}

func (g *Gate) canaryDir() string {
	switch {
	case g.options.Canary != "":
		return g.options.Canary
	case len(g.options.Only) > 0:
		return g.options.Only[0]
	}
	return os.TempDir()
}
