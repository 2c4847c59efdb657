// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// answer is what the kernel is told about a file that is held.
type answer uint32

// allow lets the file run. A gate that denies will have a second one.
const allow answer = unix.FAN_ALLOW

// hold is one file being held.
type hold struct {
	fd    int
	began time.Time
	held  *Held
	timer *time.Timer // of a file that a worker measures

	mu   sync.Mutex // guards what follows
	file File
	gone bool // it was let go
}

// read takes events from the kernel and never waits for anything else, so that
// a file that is slow to read holds up only who runs it. A file whose digest is
// at hand it measures itself: that costs no switch to another thread. Should it
// be wrong about one, another reader takes over.
func (g *Gate) read() {
	var buf [eventSize]byte
	var stuck atomic.Bool
	var now *hold
	late := time.AfterFunc(time.Hour, func() {
		stuck.Store(true)
		g.late(now)
		g.group.Go(g.read)
	})
	late.Stop()
	for !stuck.Load() {
		ev, ok := g.next(buf[:])
		if !ok {
			return
		}
		h := g.take(&ev)
		switch {
		case h == nil:
		case g.identify(h) && g.quick.has(h.file.ID):
			now = h
			late.Reset(g.options.Deadline)
			g.finish(g.ctx, h)
			if !late.Stop() {
				return
			}
		default:
			g.queue(h)
		}
	}
}

// queue has a worker measure h, and lets it go when its time is up, whatever
// the worker is doing.
func (g *Gate) queue(h *hold) {
	h.timer = time.AfterFunc(g.options.Deadline, func() { g.late(h) })
	select {
	case g.slow <- h:
	default:
		h.timer.Stop()
		g.counts.overrun.Add(1)
		g.give(h, ReasonOverrun)
		unix.Close(h.fd)
	}
}

// late lets h go, should it be held still.
func (g *Gate) late(h *hold) {
	if g.give(h, ReasonDeadline) {
		g.counts.deadline.Add(1)
	}
}

// work measures what the reader does not.
func (g *Gate) work() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case h := <-g.slow:
			ctx, cancel := context.WithTimeout(g.ctx, g.options.Deadline-time.Since(h.began))
			g.finish(ctx, h)
			cancel()
			h.timer.Stop()
		}
	}
}

// take takes in one event; nil where nothing is to be measured.
func (g *Gate) take(ev *event) *hold {
	if ev.mask&unix.FAN_Q_OVERFLOW != 0 {
		g.counts.lost.Add(1)
		g.Pairing.Lost(sinceBoot())
		if g.options.Observer != nil {
			g.options.Observer.Lost()
		}
		return nil
	}
	if ev.fd < 0 {
		ev.process()
		return nil
	}
	switch {
	case ev.pid == g.self && ev.mask&unix.FAN_OPEN_EXEC_PERM != 0:
		g.counts.own.Add(1)
		g.canary.Add(1)
		g.respond(int(ev.fd), allow)
		ev.process()
	case ev.mask&unix.FAN_OPEN_EXEC_PERM != 0:
		return &hold{fd: int(ev.fd), began: time.Now(), held: g.Begin(ev.process(), sinceBoot())}
	case ev.pid != g.self:
		var st unix.Stat_t
		if who := ev.process(); unix.Fstat(int(ev.fd), &st) == nil {
			g.Closed(who, uint64(st.Dev), st.Ino)
		}
	default:
		ev.process()
	}
	unix.Close(int(ev.fd))
	return nil
}

// identify finds out which file it is.
func (g *Gate) identify(h *hold) bool {
	var st unix.Stat_t
	if unix.Fstat(h.fd, &st) != nil {
		return false
	}
	h.file.ID = identity(&st)
	return true
}

func identity(st *unix.Stat_t) evidence.FileID {
	return evidence.FileID{Device: uint64(st.Dev), Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(max(st.Size, 0))}
}

// finish measures the file and lets it go.
func (g *Gate) finish(ctx context.Context, h *hold) {
	defer unix.Close(h.fd)
	f := File{ID: h.file.ID}
	var sb unix.Statfs_t
	f.Stacked = unix.Fstatfs(h.fd, &sb) == nil && sb.Type == unix.OVERLAYFS_SUPER_MAGIC
	f.Form, f.Interpreter = formOf(h.fd)
	f.Digest = evidence.Unknown[evidence.Digest](ReasonDeadline)
	h.mu.Lock()
	h.file = f
	h.mu.Unlock()
	f.ID, f.Digest = g.options.Digester.Digest(ctx, h.fd)
	g.quick.note(&f)

	var w Watch
	var thread uint32
	if !f.Form.program() {
		w = g.watchClose(h.fd, f.ID)
	}
	if !f.Form.program() || g.Follows(h.held) {
		thread = opener(h.held.process.PID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		if w != nil {
			w.Release()
		}
		return
	}
	h.gone = true
	g.Settle(h.held, f, thread, w)
	g.counts.held.Add(1)
	g.respond(h.fd, allow)
}

// give lets h go without a digest, and reports whether it was held still.
func (g *Gate) give(h *hold, reason string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return false
	}
	h.gone = true
	h.file.Digest = evidence.Unknown[evidence.Digest](reason)
	g.Settle(h.held, h.file, 0, nil)
	g.respond(h.fd, allow)
	return true
}

// respond answers the kernel. It can only fail once the gate is closed, which
// answers as well.
func (g *Gate) respond(fd int, a answer) {
	r := unix.FanotifyResponse{Fd: int32(fd), Response: uint32(a)}
	g.file.Write(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
}

// formOf reads the form of an open file.
func formOf(fd int) (Form, string) {
	head := heads.Get().(*[headSize]byte)
	defer heads.Put(head)
	n, err := unix.Pread(fd, head[:], 0)
	if err != nil {
		return FormUnread, ""
	}
	return form(head[:n], func(at int64, size int) []byte {
		table := make([]byte, size)
		n, _ := unix.Pread(fd, table, at)
		return table[:max(n, 0)]
	})
}

var heads = sync.Pool{New: func() any { return new([headSize]byte) }}

// quick remembers which files had their digest at hand, so that whoever reads
// events measures them himself. It is about time, nothing else.
type quick struct {
	mu    sync.Mutex // guards files
	files map[evidence.FileID]struct{}
}

const (
	quickFiles = 4096
	quickBytes = 64 << 20 // hashed in a tenth of a second, should it have left the cache
)

func (q *quick) has(id evidence.FileID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.files[id]
	return ok
}

func (q *quick) note(f *File) {
	d, ok := f.Digest.Observed()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !ok || d.Source != evidence.SourceCache || f.ID.Size > quickBytes {
		delete(q.files, f.ID)
		return
	}
	if q.files == nil || len(q.files) >= quickFiles {
		q.files = make(map[evidence.FileID]struct{})
	}
	q.files[f.ID] = struct{}{}
}
