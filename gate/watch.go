// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// inode names a file while it is open.
type inode struct{ device, number uint64 }

const (
	maxWatches = 4096             // scripts in exec at once
	watchFor   = 10 * time.Second // how long an exec may take from its script to its interpreter
)

// watches are the scripts in exec of which the kernel is to tell when they are
// closed. Their marks are never removed: the kernel lets an exec pass unheld
// while a mark of its file is being removed. They go when the kernel drops the
// inode, which it cannot while the file is in exec.
type watches struct {
	mu    sync.Mutex // guards what follows
	users map[uint32][]watch
	count int
}

type watch struct {
	who   Process
	file  inode
	since time.Time
}

// follows reports whether the process opened a file before that asks for an
// interpreter: then it matters who in the process opens the next.
func (w *watches) follows(pid uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.users[pid]) > 0
}

// add has the kernel tell when the process closes the file; false when it
// does not.
func (w *watches) add(h *holder, fd int, id evidence.FileID, who Process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count >= maxWatches {
		return false
	}
	err := unix.FanotifyMark(h.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_EVICTABLE, unix.FAN_CLOSE_NOWRITE, fd, "")
	if err == unix.EINVAL { // before Linux 5.19 a mark keeps its inode in memory
		err = unix.FanotifyMark(h.fd, unix.FAN_MARK_ADD, unix.FAN_CLOSE_NOWRITE, fd, "")
	}
	if err != nil {
		return false
	}
	w.users[who.PID] = append(w.users[who.PID], watch{who, inode{id.Device, id.Inode}, time.Now()})
	w.count++
	return true
}

// closed takes in that a process closed a file, and tells the agent if that
// was watched.
func (w *watches) closed(h *holder, who Process, file inode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(h, who.PID, func(u *watch) bool { return u.file == file && u.who.is(who) })
}

// sweep ends watches whose file should have been closed long ago: whoever was
// to close it was killed, or somebody else kept it from being opened. For the
// agent it counts as closed.
func (w *watches) sweep(h *holder, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pid := range w.users {
		w.release(h, pid, func(u *watch) bool { return now.Sub(u.since) > watchFor })
	}
}

// clear ends all watches: that a file was closed may have been among what the
// kernel dropped.
func (w *watches) clear(h *holder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pid := range w.users {
		w.release(h, pid, func(*watch) bool { return true })
	}
}

// release ends those watches of a process; the caller holds mu.
func (w *watches) release(h *holder, pid uint32, which func(*watch) bool) {
	left := slices.DeleteFunc(w.users[pid], func(u watch) bool {
		if !which(&u) {
			return false
		}
		w.count--
		h.out.say(appendClosed(nil, u.who, u.file))
		return true
	})
	if w.users[pid] = left; len(left) == 0 {
		delete(w.users, pid)
	}
}
