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

// hold is one file being held.
type hold struct {
	fd    int
	began time.Time
	timer *time.Timer // of a file that a worker measures

	mu   sync.Mutex // guards what follows
	said held
	gone bool // it was let go
}

// read takes events from the kernel and never waits for anything else, so that
// a file that is slow to read holds up only who runs it. A file whose digest is
// at hand it measures itself: that costs no switch to another thread. Should it
// be wrong about one, another reader takes over. Only who reads winds the dead
// man's switch.
func (h *holder) read() {
	var buf [eventSize]byte
	var stuck atomic.Bool
	var now *hold
	late := time.AfterFunc(time.Hour, func() {
		stuck.Store(true)
		h.late(now)
		go h.read()
	})
	late.Stop()
	wound := time.Now()
	for !stuck.Load() && h.ctx.Err() == nil {
		if at := time.Now(); at.Sub(wound) >= pulse {
			wound = at
			if err := h.switched.wind(); err != nil {
				h.end(err)
				return
			}
			h.watches.sweep(h, at)
		}
		ev, ok := h.next(buf[:])
		if !ok {
			continue
		}
		f := h.take(&ev)
		switch {
		case f == nil:
		case f.identify() && h.quick.knows(&f.said.file):
			now = f
			late.Reset(time.Duration(h.task.Deadline))
			h.finish(h.ctx, f)
			if !late.Stop() {
				return
			}
		default:
			h.queue(f)
		}
	}
}

// queue has a worker measure f, and lets it go when its time is up, whatever
// the worker is doing.
func (h *holder) queue(f *hold) {
	f.timer = time.AfterFunc(time.Duration(h.task.Deadline), func() { h.late(f) })
	select {
	case h.slow <- f:
	default:
		f.timer.Stop()
		h.give(f, ReasonOverrun)
		unix.Close(f.fd)
	}
}

// late lets f go, should it be held still.
func (h *holder) late(f *hold) { h.give(f, ReasonDeadline) }

// work measures what the reader does not.
func (h *holder) work() {
	for f := range h.slow {
		ctx, cancel := context.WithTimeout(h.ctx, time.Duration(h.task.Deadline)-time.Since(f.began))
		h.finish(ctx, f)
		cancel()
		f.timer.Stop()
	}
}

// take takes in one event; nil where nothing is to be measured.
func (h *holder) take(ev *event) *hold {
	switch {
	case ev.mask&unix.FAN_Q_OVERFLOW != 0:
		h.watches.clear(h)
		h.out.say(appendLost(nil, sinceBoot()))
		return nil
	case ev.fd < 0:
		ev.process()
		return nil
	case ev.mask&unix.FAN_OPEN_EXEC_PERM != 0 && ev.pid != h.self:
		return &hold{fd: int(ev.fd), began: time.Now(), said: held{process: ev.process(), at: sinceBoot()}}
	case ev.mask&unix.FAN_OPEN_EXEC_PERM != 0: // whoever asks is this process: it waits for itself
		h.asked.Add(1)
		h.allow(int(ev.fd))
		ev.process()
	case h.watches.follows(uint32(ev.pid)):
		var st unix.Stat_t
		if who := ev.process(); unix.Fstat(int(ev.fd), &st) == nil {
			h.watches.closed(h, who, inode{uint64(st.Dev), st.Ino})
		}
	default: // somebody else read a script
		ev.process()
	}
	unix.Close(int(ev.fd))
	return nil
}

// identify finds out which file it is.
func (f *hold) identify() bool {
	var st unix.Stat_t
	if unix.Fstat(f.fd, &st) != nil {
		return false
	}
	f.said.file.ID = identity(&st)
	return true
}

func identity(st *unix.Stat_t) evidence.FileID {
	return evidence.FileID{Device: uint64(st.Dev), Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(max(st.Size, 0))}
}

// finish measures the file and lets it go.
func (h *holder) finish(ctx context.Context, f *hold) {
	defer unix.Close(f.fd)
	said := f.said
	if said.file.Form == FormUnread {
		var sb unix.Statfs_t
		said.file.Stacked = unix.Fstatfs(f.fd, &sb) == nil && sb.Type == unix.OVERLAYFS_SUPER_MAGIC
		said.file.Form, said.file.Interpreter = formOf(f.fd)
	}
	said.file.ID, said.file.Digest = h.digester.Digest(ctx, f.fd)
	h.quick.note(&said.file)

	asks := !said.file.Form.program()
	if asks || h.watches.follows(said.process.PID) {
		said.thread = opener(said.process.PID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return
	}
	f.gone = true
	if asks {
		said.watched = h.watches.add(h, f.fd, said.file.ID, said.process)
	}
	h.out.held(&said)
	h.allow(f.fd)
}

// give lets f go without a digest.
func (h *holder) give(f *hold, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return
	}
	f.gone = true
	said := f.said
	said.file.Digest = evidence.Unknown[evidence.Digest](reason)
	h.out.held(&said)
	h.allow(f.fd)
}

// allow lets the kernel go on with a file. It denies nothing: a program that
// was not measured runs, and its record says so.
func (h *holder) allow(fd int) {
	r := unix.FanotifyResponse{Fd: int32(fd), Response: unix.FAN_ALLOW}
	for {
		_, err := unix.Write(h.fd, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
		if err != unix.EINTR {
			return // ENOENT: whoever was held was killed meanwhile
		}
	}
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

// quick remembers files that have their digest at hand, so that whoever reads
// events measures them himself, and of what form they are.
type quick struct {
	mu    sync.Mutex // guards files
	files map[evidence.FileID]File
}

const (
	quickFiles = 4096
	quickBytes = 64 << 20 // hashed in a tenth of a second, should it have left the cache
)

// knows completes what is known of a file but for its digest, if it is.
func (q *quick) knows(f *File) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	known, ok := q.files[f.ID]
	if ok {
		*f = known
	}
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
	if _, had := q.files[f.ID]; had {
		return
	}
	if q.files == nil || len(q.files) >= quickFiles {
		q.files = make(map[evidence.FileID]File)
	}
	known := *f
	known.Digest = evidence.Value[evidence.Digest]{}
	q.files[f.ID] = known
}
