// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Config is what a Meter needs to know.
type Config struct {
	Kernel Kernel           // the sensor's state; required
	Files  int              // digests kept, each with a descriptor; 0: from DefaultFiles up, as many as the limit of open files allows
	Now    func() time.Time // wall clock, which file times follow; nil: time.Now
	Boot   func() uint64    // nanoseconds since boot, suspend included; nil: the kernel's
	// Altered hears of each file whose digest was known and that is not what was
	// hashed any more; it is named as the kernel named it before. May be nil.
	Altered func(evidence.FileID)
	// Environment names the variables whose values are recorded.
	Environment []string
	// Inputs is the directory where the host's operator declares what units
	// read besides code: a file for each unit, "agent.service" or, for all of a
	// template, "agent@.service", with one absolute path a line. "": there is none.
	Inputs string
}

// Meter measures processes. It may be used by several goroutines.
type Meter struct {
	kernel    Kernel
	now       func() time.Time
	boot      func() uint64
	names     []string
	inputs    string
	runtimes  runtimes
	cache     *cache
	gate      chan struct{} // the lane of small files
	passes    passes
	life      context.Context // of the passes
	end       context.CancelFunc
	work      sync.WaitGroup
	procDir   int
	pagemap   int       // of this process
	pageFlags int       // of the host, -1: not to be had
	fdFS      procfs.FS // /proc/self/fd, where procfs finds a directory by descriptor
	cgroups   *cgroups
	own       evidence.Namespaces
}

// Open opens /proc and the cgroup tree of this host.
func Open(c Config) (*Meter, error) {
	if c.Kernel == nil {
		return nil, fmt.Errorf("measure: no source of kernel state")
	}
	if len(c.Environment) > evidence.MaxPairs {
		return nil, fmt.Errorf("measure: %d environment variables to record, at most %d", len(c.Environment), evidence.MaxPairs)
	}
	m := &Meter{
		kernel: c.Kernel, now: c.Now, boot: c.Boot, names: slices.Clone(c.Environment),
		gate: make(chan struct{}, smallLane), procDir: -1, pagemap: -1, pageFlags: -1,
		passes: passes{lane: make(chan struct{}, largeLane), running: make(map[passKey]*pass)},
		inputs: c.Inputs, runtimes: "/",
	}
	m.life, m.end = context.WithCancel(context.Background())
	if m.now == nil {
		m.now = time.Now
	}
	if m.boot == nil {
		m.boot = sinceBoot
	}
	if c.Files == 0 {
		c.Files = filesKept()
	}
	m.cache = newCache(c.Files)
	m.cache.altered = c.Altered
	if err := m.open(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func filesKept() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return DefaultFiles
	}
	return int(min(max(limit.Cur/8, DefaultFiles), maxFiles))
}

func (m *Meter) open() (err error) {
	if m.procDir, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening /proc: %w", err)
	}
	if m.pagemap, err = unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening /proc/self/pagemap: %w", err)
	}
	if m.pageFlags, err = unix.Open("/proc/kpageflags", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		m.pageFlags = -1 // no file on an overlay can be bound to its mapping
	}
	if m.fdFS, err = procfs.NewFS("/proc/self/fd"); err != nil {
		return fmt.Errorf("opening /proc/self/fd: %w", err)
	}
	self, err := procfs.Self()
	if err != nil {
		return fmt.Errorf("reading /proc/self: %w", err)
	}
	ns, err := self.Namespaces()
	if err != nil {
		return fmt.Errorf("reading /proc/self/ns: %w", err)
	}
	m.own = namespaceNumbers(ns)
	m.cgroups, err = openCgroups()
	return err
}

// Close closes every file the Meter holds.
func (m *Meter) Close() {
	m.end()
	m.work.Wait()
	m.cache.flush()
	for _, fd := range []int{m.procDir, m.pagemap, m.pageFlags} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if m.cgroups != nil {
		m.cgroups.close()
	}
}

// Flush forgets every digest. The agent calls it when the clock was set: a
// ctime from before proves nothing then.
func (m *Meter) Flush() { m.cache.flush() }

// Sweep closes files that were deleted, or not run for as long as idle. The
// agent calls it now and then, so that the cache keeps no file system busy.
func (m *Meter) Sweep(idle time.Duration) { m.cache.sweep(m.now().Add(-idle)) }

// CacheUse is how the digest cache does.
type CacheUse struct {
	Files        int
	Hits, Misses uint64
}

// CacheUse returns how the digest cache does.
func (m *Meter) CacheUse() CacheUse {
	m.cache.mu.Lock()
	defer m.cache.mu.Unlock()
	return CacheUse{Files: len(m.cache.entries), Hits: m.cache.hits, Misses: m.cache.misses}
}

func sinceBoot() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// Digest returns the digest of what an open file holds, and which file it
// hashed, as fstat shows it. fd stays the caller's. It returns before long when
// ctx ends.
func (m *Meter) Digest(ctx context.Context, fd int) (evidence.FileID, evidence.Value[evidence.Digest]) {
	seen, err := fstat(fd)
	if err != nil {
		return seen.id, evidence.Unknown[evidence.Digest](reasonUnreadable)
	}
	s := source{path: fd, seen: seen, limit: MaxFile}
	d := m.digest(ctx, &s)
	return s.seen.id, d
}
