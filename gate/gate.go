// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
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

// Observer is told what an operator and the log have to know. It is called
// from the gate's own goroutines, one call at a time each; execs wait meanwhile.
type Observer interface {
	// Lost says that the kernel's queue was full: execs went on unheld.
	Lost()
	// Blind lists the file systems whose files are not held, whenever that changes.
	Blind([]Blind)
}

// Options are what Open is told.
type Options struct {
	Digester Digester
	Observer Observer // may be nil
	// Deadline is how long a file is held at most, from when the gate learns of
	// it; 0: DefaultDeadline.
	Deadline time.Duration
	// Workers is how many files are measured at once; 0: DefaultWorkers.
	Workers int
	// Canary is a directory to make a file in, on a file system that may hold
	// executables: where the kernel cannot be asked whether it would execute a
	// file (before Linux 6.14), Open tries to. "": the one for temporary files.
	Canary string
	// Only limits the gate to the file systems that hold these paths; nil: all
	// that are mounted, and those mounted later.
	Only []string
}

const (
	// DefaultDeadline is how long a file is held at most.
	DefaultDeadline = 2 * time.Second
	// DefaultWorkers is how many files are measured at once. They mostly wait
	// for the disk.
	DefaultWorkers = 8

	remembered = 1 << 16 // files held whose exec was not recorded yet
	waiting    = 1 << 14 // files read from the kernel that no worker is at
)

var (
	// ErrUnsupported says that this kernel, or this process, cannot hold execs.
	ErrUnsupported = errors.New("execs cannot be held")
	// ErrNotFiring says that the marks are set, and an exec was not held.
	ErrNotFiring = errors.New("an exec was not held")
)

// Gate holds every exec on the host until what it runs was measured.
type Gate struct {
	*Pairing
	options Options
	fd      int      // of file, to set marks
	file    *os.File // fanotify
	self    int32
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup
	closing atomic.Bool
	fatal   atomic.Pointer[error]

	slow   chan *hold   // read, and not measured yet
	canary atomic.Int64 // execs of this process itself
	quick  quick
	counts counts
	watch  watches

	mounts mountWatch
	limits restore
}

// Counts say what a gate did.
type Counts struct {
	Held     uint64 // files held and measured
	Own      uint64 // opened by this very process: let go at once
	Deadline uint64 // let go before their digest was known
	Overrun  uint64 // let go at once: too many were held
	Lost     uint64 // times the kernel's queue was full
	Refused  uint64 // the kernel refused an exec because this process could not open the file
}

type counts struct{ held, own, deadline, overrun, lost, refused atomic.Uint64 }

// Open sets the marks, sees an exec being held, and goes on holding until
// Close. From now on this process can start no other program: the one it would
// start is held until this process lets it go, and the Go runtime may stand
// still until it runs. Whatever tries waits until Close.
func Open(o Options) (g *Gate, err error) {
	if o.Digester == nil {
		return nil, errors.New("gate: nobody to make digests")
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	const flags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_MARKS | unix.FAN_REPORT_PIDFD
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC|unix.O_NOATIME)
	if err != nil {
		return nil, fmt.Errorf("%w: fanotify_init: %w (it takes CAP_SYS_ADMIN and CONFIG_FANOTIFY_ACCESS_PERMISSIONS)", ErrUnsupported, err)
	}
	g = &Gate{
		Pairing: NewPairing(remembered), options: o, fd: fd, file: os.NewFile(uintptr(fd), "fanotify"), self: int32(os.Getpid()),
		slow: make(chan *hold, waiting), watch: watches{counts: make(map[inode]int)}, mounts: mountWatch{wake: -1},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	syscall.ForkLock.RLock()
	if err := g.limits.set(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.group.Go(g.read)
	for range o.Workers {
		g.group.Go(g.work)
	}
	if err := g.watchMounts(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	if err := g.fire(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Close lets go what is held, and all execs after. Marks end with it.
func (g *Gate) Close() error {
	if g.closing.Swap(true) {
		return nil
	}
	g.cancel()
	err := g.file.Close()
	if errors.Is(err, os.ErrClosed) { // it stopped by itself
		err = nil
	}
	g.closeMounts()
	g.group.Wait()
	for len(g.slow) > 0 {
		unix.Close((<-g.slow).fd)
	}
	err = errors.Join(err, g.limits.undo())
	syscall.ForkLock.RUnlock()
	return err
}

// Err returns why the gate stopped holding by itself, nil while it holds.
func (g *Gate) Err() error {
	if err := g.fatal.Load(); err != nil {
		return *err
	}
	return nil
}

// Counts returns what the gate did so far.
func (g *Gate) Counts() Counts {
	c := &g.counts
	return Counts{Held: c.held.Load(), Own: c.own.Load(), Deadline: c.deadline.Load(), Overrun: c.overrun.Load(), Lost: c.lost.Load(), Refused: c.refused.Load()}
}

// Exec returns what was held for an exec that the kernel recorded. Where there
// is nothing, the file systems that the process sees are looked through for one
// that is not marked yet.
func (g *Gate) Exec(r *Record) evidence.Value[Verdict] {
	v := g.Pairing.Exec(r)
	if v.Reason() == ReasonNoVerdict {
		g.visit(r.Process.PID)
	}
	return v
}

// restore is what a process that holds execs must not be, and was before.
type restore struct{ dumpable int }

// set makes that this process dumps no core: the kernel would start the
// program that takes it, which waits for this process, which waits for it.
func (r *restore) set() error {
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("asking whether this process dumps core: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("having this process dump no core: %w", err)
	}
	r.dumpable = was
	return nil
}

func (r *restore) undo() error {
	if r.dumpable != 1 { // 2 cannot be set
		return nil
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}
