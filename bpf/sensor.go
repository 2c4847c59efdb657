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
	OpenBytes int           // size of the ring of opens, a power of two; 0: DefaultOpenBytes
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
	objects    coreObjects
	watching   *ebpf.Collection // the programs of watch.bpf.c; nil: none
	attached   []attachment
	absent     map[string]string // why a program is not attached, or does not see
	notes      []error           // what went wrong with those
	findsTasks bool
	ring       *ringbuf.Reader
	opens      *ringbuf.Reader // nil: no opens are told
	memory     []*ebpf.Memory  // of the counters, one for each ring
	possible   int             // CPUs there may be
	poll       time.Duration
	control    control
	fired      [KindLost + 1]atomic.Bool
	firedAt    [256]atomic.Bool // by hook

	consumed    []atomic.Uint64 // per ring and CPU: every record up to this number was delivered
	unexplained atomic.Uint64
	closed      atomic.Bool
	snapshot    sync.Mutex   // one iteration at a time: they share a scratch record
	using       sync.RWMutex // held to use objects from any goroutine, and to close them

	reading sync.Mutex // guards what follows
	cpus    []position // per ring and CPU
	record  ringbuf.Record
	busy    bool  // the last read returned a record: there may be more
	held    Event // an open that waits for older events; Kind 0: none
	queue   []Event
	deliver delivery
	table   []byte // copy of the counters
	misses  uint64
	missed  time.Time
}

// attachment is a program at its place.
type attachment struct {
	program
	link link.Link
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
	if o.OpenBytes == 0 {
		o.OpenBytes = DefaultOpenBytes
	}
	for _, size := range []int{o.RingBytes, o.OpenBytes} {
		if page := os.Getpagesize(); size < page || size&(size-1) != 0 || size > 1<<30 {
			return nil, fmt.Errorf("ring of %d bytes: want a power of two from %d to %d", size, page, 1<<30)
		}
	}
	if o.Poll < time.Millisecond || o.Poll > time.Minute {
		return nil, fmt.Errorf("poll interval of %v: want 1ms to 1m", o.Poll)
	}
	s := &Sensor{poll: o.Poll}
	if err := s.start(o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sensor) start(o Options) error {
	if err := s.load(o.RingBytes); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		return err
	}
	if err := s.watch(o.OpenBytes); err != nil {
		return err
	}
	if err := s.openRings(); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.canary(o.Canary, canaryLimit); err != nil {
		return err
	}
	return s.canaryOpens(canaryLimit)
}

func (s *Sensor) load(ringBytes int) error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return &OpenError{Reason: ErrNoBTF, Fact: "reading /sys/kernel/btf/vmlinux: " + err.Error(), Cause: err,
			Hint: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y"}
	}
	var err error
	if s.possible, err = ebpf.PossibleCPU(); err != nil {
		return fmt.Errorf("counting the cpus there may be: %w", err)
	}
	s.absent = make(map[string]string)
	spec, err := loadCore()
	if err != nil {
		return fmt.Errorf("reading the embedded object: %w", err)
	}
	spec.Maps[coreMapEvents].MaxEntries = uint32(ringBytes)
	spec.Maps[coreMapCounters].MaxEntries = uint32(s.possible)
	if err := spec.LoadAndAssign(&s.objects, nil); err != nil {
		return refused("loading", err)
	}
	return nil
}

// openRings maps the rings and the counters of their records.
func (s *Sensor) openRings() (err error) {
	counters := []*ebpf.Map{s.objects.Counters}
	if s.ring, err = ringbuf.NewReader(s.objects.Events); err != nil {
		return refused("opening the event ring", err)
	}
	if s.watching != nil {
		if s.opens, err = ringbuf.NewReader(s.watching.Maps[watchMapOpens]); err != nil {
			return refused("opening the ring of opens", err)
		}
		// It is read only while it holds something: there is nothing to wait for,
		// and nobody is woken for what is in it.
		s.opens.SetDeadline(time.Unix(1, 0))
		counters = append(counters, s.watching.Maps[watchMapOpenCounters])
	}
	for _, m := range counters {
		memory, err := m.Memory()
		if err != nil {
			return refused("mapping the counters", err)
		}
		s.memory = append(s.memory, memory)
	}
	n := s.possible * len(counters)
	s.cpus = make([]position, n)
	for i := range s.cpus {
		s.cpus[i].next = 1
	}
	s.consumed = make([]atomic.Uint64, n)
	s.table = make([]byte, n*counterSize)
	s.deliver = delivery{at: nobody}
	return nil
}

// attach attaches the programs without which there is no sensor.
func (s *Sensor) attach() error {
	for _, p := range s.corePrograms() {
		if p.program == s.objects.OnTask {
			continue // attached for each snapshot
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p.program})
		if err != nil {
			return refused("attaching "+p.attach, err)
		}
		s.attached = append(s.attached, attachment{p, l})
	}
	return nil
}

// control is struct control of record.h.
type control struct {
	AttachedAt uint64
	Seeded     uint64
	AgentStart uint64
	Agent      uint32
	_          uint32
}

// begin tells the programs that all are attached. From then on a process
// without state is one from before, or one whose state was lost.
func (s *Sensor) begin() (err error) {
	if s.control.AttachedAt, err = bootTime(); err != nil {
		return err
	}
	return s.putControl()
}

func (s *Sensor) putControl() error {
	if err := s.objects.Control.Put(uint32(0), &s.control); err != nil {
		return fmt.Errorf("writing to the map control: %w", err)
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
	for _, a := range s.attached {
		errs = append(errs, a.link.Close())
	}
	if s.ring != nil {
		errs = append(errs, s.ring.Flush()) // ends a Read in progress
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.using.Lock()
	defer s.using.Unlock()
	for _, r := range []*ringbuf.Reader{s.ring, s.opens} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	if s.watching != nil {
		s.watching.Close()
	}
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
func (s *Sensor) Since() uint64 { return s.control.AttachedAt }

// bootTime is the clock of the records: nanoseconds since boot, suspend included.
func bootTime() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("reading the boot clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}
