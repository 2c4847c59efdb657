// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// TierTracepoint is the tier of a sensor that observes through typed
// tracepoints only: it can deny nothing.
const TierTracepoint = "tracepoint"

// Options are what Open may be told. The zero value is what an agent wants.
type Options struct {
	RingBytes int           // size of the event ring, a power of two; 0: DefaultRingBytes
	Poll      time.Duration // longest wait of a record in the ring; 0: DefaultPoll

	// Canary is the program Open runs to see the sensor fire, with its
	// arguments; nil: /bin/true. It must end by itself. Where the host allows
	// no such program, name one it allows: the agent's own with an argument
	// that does nothing.
	Canary []string

	// Pin is the directory of a bpf file system below which programs, links
	// and maps are pinned, so that they outlive the agent and the next one
	// adopts them; "": they end with the sensor. See DefaultPin.
	Pin string
}

// Sensor is the loaded, attached and firing set of kernel programs. One
// goroutine at a time reads; the other methods may be called from any.
type Sensor struct {
	objects coreObjects
	links   []link.Link
	ring    *ringbuf.Reader
	memory  *ebpf.Memory // of the counters
	poll    time.Duration
	since   uint64
	fired   [KindSeen + 1]atomic.Bool

	consumed    []atomic.Uint64 // per CPU: every record up to this number was delivered
	unexplained atomic.Uint64
	closed      atomic.Bool
	snapshot    sync.Mutex   // one iteration at a time: they share a scratch record
	using       sync.RWMutex // held to use objects from any goroutine, and to close them

	reading sync.Mutex // guards what follows
	cpus    []position
	record  ringbuf.Record
	busy    bool // the last read returned a record: there may be more
	queue   []Event
	deliver delivery
	table   []byte // copy of the counters
	misses  uint64
	missed  time.Time
}

// Open loads the programs, attaches them and sees them fire. It returns an
// *OpenError when this host cannot have a sensor.
func Open(o Options) (*Sensor, error) {
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.Poll == 0 {
		o.Poll = DefaultPoll
	}
	if page := os.Getpagesize(); o.RingBytes < page || o.RingBytes&(o.RingBytes-1) != 0 || o.RingBytes > 1<<30 {
		return nil, fmt.Errorf("event ring of %d bytes: want a power of two from %d to %d", o.RingBytes, page, 1<<30)
	}
	if o.Poll < time.Millisecond || o.Poll > time.Minute {
		return nil, fmt.Errorf("poll interval of %v: want 1ms to 1m", o.Poll)
	}
	s := &Sensor{poll: o.Poll}
	if err := s.load(o.RingBytes); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.attach(); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.canary(o.Canary, canaryLimit); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sensor) load(ringBytes int) error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return &OpenError{Reason: ErrNoBTF, Fact: "reading /sys/kernel/btf/vmlinux: " + err.Error(), Cause: err,
			Hint: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y"}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting the cpus there may be: %w", err)
	}
	spec, err := loadCore()
	if err != nil {
		return fmt.Errorf("reading the embedded object: %w", err)
	}
	spec.Maps[coreMapEvents].MaxEntries = uint32(ringBytes)
	spec.Maps[coreMapCounters].MaxEntries = uint32(cpus)
	if err := spec.LoadAndAssign(&s.objects, nil); err != nil {
		return refused("loading", err)
	}
	if s.memory, err = s.objects.Counters.Memory(); err != nil {
		return refused("mapping the counters", err)
	}
	if s.ring, err = ringbuf.NewReader(s.objects.Events); err != nil {
		return refused("opening the event ring", err)
	}
	s.cpus = make([]position, cpus)
	for i := range s.cpus {
		s.cpus[i].next = 1
	}
	s.consumed = make([]atomic.Uint64, cpus)
	s.table = make([]byte, cpus*counterSize)
	s.deliver = delivery{cpu: nobody}
	return nil
}

// attach attaches all programs. From then on a process without state is one
// from before, or one whose state was lost: attachedAt tells which.
func (s *Sensor) attach() error {
	for _, p := range s.programs() {
		if p.program == s.objects.OnTask {
			continue // attached for each snapshot
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p.program})
		if err != nil {
			return refused("attaching "+p.attach, err)
		}
		s.links = append(s.links, l)
	}
	var err error
	if s.since, err = bootTime(); err != nil {
		return err
	}
	if err := s.objects.AttachedAt.Set(s.since); err != nil {
		return fmt.Errorf("setting the time of attachment: %w", err)
	}
	return nil
}

// Close detaches the programs and frees what they kept. A Read in progress
// returns ErrClosed.
func (s *Sensor) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	if s.ring != nil {
		errs = append(errs, s.ring.Close()) // ends a Read in progress
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.using.Lock()
	defer s.using.Unlock()
	if s.objects.OnExec != nil {
		errs = append(errs, s.objects.Close())
	}
	return errors.Join(errs...)
}

// use keeps the kernel objects open until the caller calls s.using.RUnlock.
func (s *Sensor) use() error {
	s.using.RLock()
	if s.closed.Load() {
		s.using.RUnlock()
		return ErrClosed
	}
	return nil
}

// Tier names what this sensor can claim, for the evidence.
func (s *Sensor) Tier() string { return TierTracepoint }

// Since returns when all programs were attached, in nanoseconds since boot.
func (s *Sensor) Since() uint64 { return s.since }

// bootTime is the clock of the records: nanoseconds since boot, suspend included.
func bootTime() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("reading the boot clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}
