// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// inode names a file while it is open.
type inode struct{ device, number uint64 }

// watches are the marks that tell when a script is closed. One mark serves
// every process that has the script in exec at the moment.
type watches struct {
	mu     sync.Mutex // guards counts, and setting and removing marks
	counts map[inode]int
}

// closeWatch is one use of a mark.
type closeWatch struct {
	gate *Gate
	fd   int
	file inode
}

// watchClose has the kernel report who closes the file; nil when it does not.
func (g *Gate) watchClose(fd int, id evidence.FileID) Watch {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	w := &closeWatch{gate: g, fd: own, file: inode{id.Device, id.Inode}}
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	if g.watch.counts[w.file] == 0 {
		if err := unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD, unix.FAN_CLOSE_NOWRITE, own, ""); err != nil {
			unix.Close(own)
			return nil
		}
	}
	g.watch.counts[w.file]++
	return w
}

// Release ends this use of the mark.
func (w *closeWatch) Release() {
	g := w.gate
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	if g.watch.counts[w.file]--; g.watch.counts[w.file] == 0 {
		delete(g.watch.counts, w.file)
		// The gate may be closed, and its marks gone with it.
		unix.FanotifyMark(g.fd, unix.FAN_MARK_REMOVE, unix.FAN_CLOSE_NOWRITE, w.fd, "")
	}
	unix.Close(w.fd)
}
