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
	maxWatched = 512              // files watched at once, each a descriptor and a mark
	watchFor   = 10 * time.Second // how long an exec may take from its script to its interpreter
)

// watches are the marks that tell when a script is closed. One mark serves
// every process that has the script in exec at the moment.
type watches struct {
	mu    sync.Mutex // guards what follows, and setting and removing marks
	files map[inode]*watched
	users map[uint32]int // files watched for a process
}

type watched struct {
	fd    int
	users []watchUser
}

type watchUser struct {
	who   Process
	since time.Time
}

// follows reports whether the process opened a file before that asks for an
// interpreter: then it matters who in the process opens the next.
func (w *watches) follows(who Process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.users[who.PID] > 0
}

// add has the kernel report who closes the file; false when it does not.
func (w *watches) add(h *holder, fd int, id evidence.FileID, who Process) bool {
	file := inode{id.Device, id.Inode}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.files[file]
	if at == nil {
		if len(w.files) >= maxWatched {
			return false
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false
		}
		if err := unix.FanotifyMark(h.fd, unix.FAN_MARK_ADD, unix.FAN_CLOSE_NOWRITE, own, ""); err != nil {
			unix.Close(own)
			return false
		}
		at = &watched{fd: own}
		w.files[file] = at
	}
	at.users = append(at.users, watchUser{who, time.Now()})
	w.users[who.PID]++
	return true
}

// closed takes in that a process closed a file, and tells the agent if the
// file was watched for it.
func (w *watches) closed(h *holder, who Process, file inode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := w.files[file]; at != nil {
		w.release(h, file, at, func(u *watchUser) bool { return u.who.PID == who.PID && u.who.is(who) })
	}
}

// sweep ends watches whose file should have been closed long ago: whoever was
// to close it was killed, or somebody else kept it from being opened. For the
// agent it counts as closed.
func (w *watches) sweep(h *holder, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for file, at := range w.files {
		w.release(h, file, at, func(u *watchUser) bool { return now.Sub(u.since) > watchFor })
	}
}

// clear ends all watches: that a file was closed may have been among what the
// kernel dropped.
func (w *watches) clear(h *holder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for file, at := range w.files {
		w.release(h, file, at, func(*watchUser) bool { return true })
	}
}

// release ends those watches of a file; the caller holds mu.
func (w *watches) release(h *holder, file inode, at *watched, which func(*watchUser) bool) {
	at.users = slices.DeleteFunc(at.users, func(u watchUser) bool {
		if !which(&u) {
			return false
		}
		if w.users[u.who.PID]--; w.users[u.who.PID] <= 0 {
			delete(w.users, u.who.PID)
		}
		h.out.say(appendClosed(nil, u.who, file))
		return true
	})
	if len(at.users) == 0 {
		delete(w.files, file)
		unix.FanotifyMark(h.fd, unix.FAN_MARK_REMOVE, unix.FAN_CLOSE_NOWRITE, at.fd, "") // it fails where the mark is gone already
		unix.Close(at.fd)
	}
}
