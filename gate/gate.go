// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// HolderCommand is the one argument with which the program of this process is
// started to hold execs: it then calls [Hold] with [HolderConn].
const (
	HolderCommand = "hold-execs"
	HolderConn    = 3
)

const (
	// DefaultDeadline is how long a file is held at most.
	DefaultDeadline = 2 * time.Second

	keptFiles   = 1 << 14          // files held whose exec was not recorded yet
	lineBytes   = 16 << 20         // of messages that were not read yet
	startLimit  = 30 * time.Second // for a holder to set its marks
	firstRest   = 100 * time.Millisecond
	longestRest = 30 * time.Second
)

// Options are what Open is told.
type Options struct {
	Logger   *slog.Logger
	Deadline time.Duration // how long a file is held at most; 0: DefaultDeadline
	only     []string      // paths on the file systems that are marked; nil: all
}

// Gate has another process hold every exec on the host, and knows which files
// were held for which exec.
type Gate struct {
	*pairing
	options Options
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conn   int        // to the holder; -1: there is none
	pid    int        // of the last holder
	newest uint64     // time of the newest file the holder told of
	buf    []byte
}

// Open starts the process that holds execs and returns once it does.
func Open(ctx context.Context, o Options) (*Gate, error) {
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	g := &Gate{pairing: newPairing(keptFiles), options: o, conn: -1, buf: make([]byte, maxMessage)}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	conn, cmd, err := g.start(ctx)
	if err != nil {
		g.cancel()
		return nil, err
	}
	g.group.Go(func() { g.keep(conn, cmd) })
	return g, nil
}

// Close ends the holder, which lets go what it holds.
func (g *Gate) Close() {
	g.cancel()
	g.group.Wait()
}

// Exec returns what was held for an exec that the kernel recorded, and forgets
// it. Where a file was not held, the file systems that the process sees are
// looked through for one that is not marked yet.
func (g *Gate) Exec(r *Record) evidence.Value[Verdict] {
	g.mu.Lock()
	defer g.mu.Unlock()
	// A file is told of before it is let go, so before the exec is recorded:
	// once something newer was read, all there is was read.
	if g.newest <= r.At {
		g.drain()
	}
	v := g.pairing.exec(r)
	if v.Reason() == ReasonNoVerdict {
		g.visit(r.Process.PID)
		g.visit(r.Parent) // it may have ended
	}
	return v
}

// Visit has the file systems that a process sees looked through for one that
// is not marked yet: it may have mounted something.
func (g *Gate) Visit(pid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.visit(pid)
}

// visit tells the holder; the caller holds mu. What does not get through is
// asked again with the next exec there.
func (g *Gate) visit(pid uint32) {
	if g.conn >= 0 {
		_ = unix.Sendto(g.conn, binary.LittleEndian.AppendUint32(nil, pid), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	}
}

// Forget drops what was held for a process that has ended.
func (g *Gate) Forget(who Process) { g.pairing.forget(who) }

// drain reads what the holder says; the caller holds mu.
func (g *Gate) drain() {
	for g.conn >= 0 {
		n, err := recv(g.conn, g.buf, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0:
			g.hangUp()
			return
		}
		switch data := g.buf[:n]; data[0] {
		case sayBlind:
			g.tellBlind(data[1:])
		default:
			if err := g.pairing.message(data); err != nil {
				g.options.Logger.Error("the exec gate's holder is not understood", "error", err)
				g.hangUp()
				return
			}
			if data[0] == sayHeld {
				g.newest = max(g.newest, binary.LittleEndian.Uint64(data[1+20:]))
			}
		}
	}
}

// hangUp ends the line to the holder, which then ends, and keep starts another;
// the caller holds mu.
func (g *Gate) hangUp() {
	if g.conn >= 0 {
		_ = unix.Shutdown(g.conn, unix.SHUT_RDWR) // it may be down already
		g.conn = -1
	}
	g.pairing.lose(sinceBoot())
}

func (g *Gate) tellBlind(text []byte) {
	var blind []Blind
	if json.Unmarshal(text, &blind) != nil {
		return
	}
	for _, b := range blind {
		g.options.Logger.Warn("execs of files on a file system are not held", "path", b.Path, "type", b.Type, "reason", b.Reason)
	}
}

// start starts a holder and waits until it holds.
func (g *Gate) start(ctx context.Context) (conn int, cmd *exec.Cmd, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "holder")
	defer theirs.Close()
	// Without the privilege it is as much as anybody may have.
	_ = unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, lineBytes)
	cmd = exec.Command("/proc/self/exe", HolderCommand)
	cmd.Args[0] = os.Args[0]
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		unix.Close(pair[0])
		return -1, nil, fmt.Errorf("starting the process that holds execs: %w", err)
	}
	theirs.Close()
	if err := g.await(ctx, pair[0]); err != nil {
		unix.Close(pair[0])
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		return -1, nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conn, g.pid = pair[0], cmd.Process.Pid
	return pair[0], cmd, nil
}

// await sends a holder its task and waits until it is at it.
func (g *Gate) await(ctx context.Context, conn int) error {
	text, err := json.Marshal(task{Deadline: int64(g.options.Deadline), Only: g.options.only})
	if err != nil {
		return err
	}
	if err := unix.Sendto(conn, text, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("telling the holder its task: %w", err)
	}
	buf := make([]byte, maxMessage)
	for end := time.Now().Add(startLimit); time.Now().Before(end) && ctx.Err() == nil; {
		if ready, err := readable(conn, 100*time.Millisecond); err != nil || !ready {
			continue
		}
		n, err := recv(conn, buf, 0)
		switch {
		case err != nil || n == 0:
			return fmt.Errorf("the holder ended before it held: %w", errors.Join(err, os.ErrClosed))
		case buf[0] == sayReady:
			return nil
		case buf[0] == sayFailed:
			return fmt.Errorf("%w: %s", ErrUnsupported, buf[1:n])
		case buf[0] == sayBlind:
			g.tellBlind(buf[1:n])
		default: // others run programs already
			if err := g.pairing.message(buf[:n]); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("waiting for the holder: %w", errors.Join(ctx.Err(), os.ErrDeadlineExceeded))
}

// keep starts another holder when one ends, until the gate is closed.
func (g *Gate) keep(conn int, cmd *exec.Cmd) {
	for rest := firstRest; ; {
		began := time.Now()
		stop := context.AfterFunc(g.ctx, func() { _ = unix.Shutdown(conn, unix.SHUT_RDWR) })
		down(conn)
		stop()
		g.finish()
		unix.Close(conn)
		_ = cmd.Process.Kill() // it may have ended by itself
		go reap(cmd)
		if g.ctx.Err() != nil {
			return
		}
		g.options.Logger.Error("execs are not held any more: the holder ended")
		if time.Since(began) > longestRest {
			rest = firstRest
		}
		if conn, cmd = g.restart(&rest); cmd == nil {
			return
		}
		g.options.Logger.Info("execs are held again")
	}
}

// restart starts another holder after a rest that grows with each try; nil: the
// gate is closed.
func (g *Gate) restart(rest *time.Duration) (int, *exec.Cmd) {
	for {
		select {
		case <-time.After(*rest):
		case <-g.ctx.Done():
			return -1, nil
		}
		*rest = min(2**rest, longestRest)
		conn, cmd, err := g.start(g.ctx)
		if err == nil {
			return conn, cmd
		}
		if g.ctx.Err() == nil {
			g.options.Logger.Error("execs are not held", "error", err)
		}
	}
}

// reap waits for a holder that was killed. A debugger may keep what is left of
// it for as long as it likes.
func reap(cmd *exec.Cmd) { _ = cmd.Wait() }

// down waits until the other end of a line is gone.
func down(conn int) {
	for {
		fds := []unix.PollFd{{Fd: int32(conn)}}
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// finish reads what a holder said before it ended.
func (g *Gate) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drain()
	g.hangUp()
}

func recv(fd int, buf []byte, flags int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, flags)
		if err != unix.EINTR {
			return n, err
		}
	}
}
