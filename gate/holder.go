// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Digester hashes what an open file holds, or remembers its digest.
type Digester interface {
	// Digest returns what it hashed, as fstat shows it, and the digest. It
	// returns before long when ctx ends. fd stays the caller's.
	Digest(ctx context.Context, fd int) (evidence.FileID, evidence.Value[evidence.Digest])
}

const (
	workers  = 4    // files measured at once; they mostly wait for the disk
	waiting  = 1024 // files read from the kernel that no worker is at, each a descriptor
	dead     = 3 * time.Second
	pulse    = 250 * time.Millisecond // how often the reader shows that it reads
	sendTask = 10 * time.Second       // how long the holder waits for its task
)

// ErrUnsupported says that this kernel, or this process, cannot hold execs.
var ErrUnsupported = errors.New("execs cannot be held")

// holder is the process that holds execs.
type holder struct {
	task     task
	digester Digester
	ctx      context.Context
	end      context.CancelCauseFunc
	fd       int // of fanotify
	switched deadMan
	self     int32
	slow     chan *hold   // read, and not measured yet
	asked    atomic.Int64 // execs of this process itself
	quick    quick
	watches  watches
	mounts   mountWatch
	out      sender
}

// Hold holds every exec on the host until the process that started it, at the
// other end of conn, is gone. It is the whole of a process: that must start no
// program, since it would wait for itself, and it is killed by the kernel when
// it stops answering. Hold returns why it ended; only ending the process lets
// go of what is held for certain.
func Hold(conn int, d Digester) error {
	ctx, end := context.WithCancelCause(context.Background())
	h := &holder{
		digester: d, ctx: ctx, end: end, fd: -1, self: int32(os.Getpid()), slow: make(chan *hold, waiting),
		watches: watches{users: make(map[uint32][]watch)},
		mounts:  mountWatch{visited: make(map[uint64]uint64)}, out: sender{fd: conn},
	}
	err := h.open()
	if err != nil {
		h.out.say(append([]byte{sayFailed}, err.Error()...))
		return err
	}
	h.out.say([]byte{sayReady})
	<-ctx.Done()
	if err := context.Cause(ctx); err != errGone {
		return err
	}
	return nil
}

// errGone ends a holder in good order.
var errGone = errors.New("the agent is gone")

// open sets the marks and sees an exec of this very process being held.
func (h *holder) open() error {
	if err := h.learnTask(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // the kernel would start a program for the core
		return fmt.Errorf("having this process dump no core: %w", err)
	}
	moreFiles()
	const flags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_MARKS | unix.FAN_REPORT_PIDFD
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC|unix.O_NOATIME)
	if err != nil {
		return fmt.Errorf("%w: fanotify_init: %w (it takes CAP_SYS_ADMIN and CONFIG_FANOTIFY_ACCESS_PERMISSIONS)", ErrUnsupported, err)
	}
	h.fd = fd
	if h.switched, err = newDeadMan(dead); err != nil {
		return err
	}
	go h.read()
	for range workers {
		go h.work()
	}
	go h.listen()
	if err := h.markAll(); err != nil {
		return err
	}
	return h.fire()
}

// learnTask waits for the first message.
func (h *holder) learnTask() error {
	if ready, err := readable(h.out.fd, sendTask); err != nil || !ready {
		return fmt.Errorf("waiting for a task: %w", errors.Join(err, errMessage))
	}
	buf := make([]byte, maxMessage)
	n, err := unix.Read(h.out.fd, buf)
	if err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	if err := json.Unmarshal(buf[:max(n, 0)], &h.task); err != nil || h.task.Deadline <= 0 {
		return fmt.Errorf("task %q: %w", buf[:max(n, 0)], errors.Join(err, errMessage))
	}
	return nil
}

// moreFiles lets this process open as many files as it may: where it cannot
// open one, the kernel refuses the exec.
func moreFiles() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

// listen looks through the mount namespaces it is told of, and ends the holder
// when nobody is at the other end.
func (h *holder) listen() {
	var buf [4]byte
	for {
		n, err := unix.Read(h.out.fd, buf[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_, _ = readable(h.out.fd, time.Minute)
		case err != nil || n == 0:
			h.end(errGone)
			return
		case n == len(buf):
			h.lookThrough(uint32(buf[0]) | uint32(buf[1])<<8 | uint32(buf[2])<<16 | uint32(buf[3])<<24)
		}
	}
}

// sender is the way to the agent. Nobody waits for it: what does not fit is
// lost, and the agent is told that something was.
type sender struct {
	mu   sync.Mutex // guards what follows, and the order of messages
	fd   int
	buf  []byte
	lost bool
}

func (l *sender) say(message []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(message)
}

func (l *sender) held(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = h.append(l.buf[:0])
	l.send(l.buf)
}

// send sends a message; the caller holds mu.
func (l *sender) send(message []byte) {
	if l.lost {
		var note [9]byte
		if !l.try(appendLost(note[:0], sinceBoot())) {
			return
		}
		l.lost = false
	}
	l.lost = !l.try(message)
}

func (l *sender) try(message []byte) bool {
	for {
		err := unix.Sendto(l.fd, message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

// readable waits until fd can be read, or its other end is gone.
func readable(fd int, limit time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(limit/time.Millisecond))
	if err == unix.EINTR {
		err = nil
	}
	return n > 0, err
}
