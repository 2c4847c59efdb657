// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
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
	maps       map[string]*ebpf.Map // those that all objects share, and the pins
	pins       *pins                // nil: not pinned
	continuity Continuity
	adopting   bool             // programs are taken from the pins
	owned      []*ebpf.Program  // opened by us, beside those of the objects
	watching   *ebpf.Collection // the programs of watch.bpf.c; nil: none
	attached   []attachment
	absent     map[string]string // why a program is not attached, or does not see
	notes      []error           // what went wrong with those
	findsTasks bool
	ring       *ring
	opens      *ring          // nil: no opens are told
	memory     []*ebpf.Memory // of the counters, one for each ring
	tier       string
	better     []NoTier // above it
	possible   int      // slots: several for each CPU there may be
	poll       time.Duration
	control    control
	fired      [KindLost + 1]atomic.Bool
	firedAt    [256]atomic.Bool // by hook

	consumed    []atomic.Uint64 // per ring and CPU: every record up to this number was delivered
	begun       []uint64        // likewise: the first number that is ours to deliver
	guard       guard
	positions   []byte // released, per ring and CPU, for the next agent
	unexplained atomic.Uint64
	closed      atomic.Bool
	snapshot    sync.Mutex   // one iteration at a time: they share a scratch record
	using       sync.RWMutex // held to use objects from any goroutine, and to close them

	hurry chan struct{} // wakes the reader out of its wait

	reading  sync.Mutex // guards what follows
	cpus     []position // per ring and CPU
	released []released // likewise
	timer    *time.Timer
	empty    int   // reads in a row that found nothing
	held     Event // an open that waits for older events; Kind 0: none
	queue    []Event
	deliver  delivery
	table    []byte // copy of the counters
	misses   uint64
	missed   time.Time
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
	s := &Sensor{poll: o.Poll, hurry: make(chan struct{}, 1)}
	if err := s.start(o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sensor) start(o Options) (err error) {
	if err := s.survey(); err != nil {
		return err
	}
	var reason string
	s.pins, reason, err = openPins(o.Pin, layoutName(o, s.possible))
	if err != nil {
		s.notes = append(s.notes, err)
	}
	if s.pins != nil && s.pins.existsOther() {
		reason = ReasonVersion
	}
	if s.pins != nil && s.pins.exists() {
		if err = s.adopt(o); err == nil {
			return s.proveBeside(o.Canary)
		}
		s.unload()
		s.tier, s.continuity, reason = "", Continuity{}, ReasonStrange
		s.notes = append(s.notes, err)
		if err := s.pins.discard(); err != nil {
			return fmt.Errorf("removing pins that are not ours: %w", err)
		}
	}
	if err := s.fresh(o); err != nil {
		return err
	}
	if s.pins == nil {
		s.continuity.Reason = reason
		return nil
	}
	return s.pin(cmp.Or(reason, ReasonFirst))
}

// survey finds out about this host.
func (s *Sensor) survey() error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return &OpenError{Reason: ErrNoBTF, Fact: "reading /sys/kernel/btf/vmlinux: " + err.Error(), Cause: err,
			Hint: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y"}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting the cpus there may be: %w", err)
	}
	s.possible = cpus * slotsPerCPU
	return nil
}

// fresh makes maps and attaches programs, as if there had been none.
func (s *Sensor) fresh(o Options) error {
	if err := s.load(o); err != nil {
		return err
	}
	if err := s.identify(s.objects.OnTask); err != nil {
		return err
	}
	if err := s.attach(); err != nil {
		return err
	}
	if err := s.climb(o); err != nil {
		return err
	}
	if err := s.openRings(); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	return s.prove(o.Canary)
}

// prove sees the programs fire.
func (s *Sensor) prove(canary []string) error {
	if err := s.canary(canary, canaryLimit); err != nil {
		return err
	}
	if err := s.canaryOpens(canaryLimit); err != nil {
		return err
	}
	return s.guard.begin(s)
}

// proveBeside does the same for programs that were adopted, and leaves what
// waits in the rings there.
func (s *Sensor) proveBeside(canary []string) error {
	if err := s.canaryBeside(canary, canaryLimit); err != nil {
		return err
	}
	if err := s.canaryOpensBeside(canaryLimit); err != nil {
		return err
	}
	return s.guard.begin(s)
}

// pin leaves the set to the next agent.
func (s *Sensor) pin(reason string) error {
	s.continuity.Reason = reason
	if err := s.pins.keep(s.maps, s.attached, s.objects.OnTask); err != nil {
		s.continuity.Reason = ReasonUnpinned
		s.notes = append(s.notes, err)
		return s.pins.discard()
	}
	s.continuity.Pinned = true
	return nil
}

// control is struct control of record.h.
type control struct {
	AttachedAt uint64
	Seeded     uint64
	AgentStart uint64
	Agent      uint32
	Hooks      uint32 // the tier whose hooks see each exec, as in hookTiers; 0: none
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
	if err := s.maps[mapControl].Put(uint32(0), &s.control); err != nil {
		return fmt.Errorf("writing to the map control: %w", err)
	}
	return nil
}

// Close detaches the programs and frees what they kept, unless they are
// pinned. A Read in progress returns ErrClosed.
func (s *Sensor) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.wake() // ends a Read in progress
	s.reading.Lock()
	defer s.reading.Unlock()
	s.using.Lock()
	defer s.using.Unlock()
	err := s.unload()
	if s.pins != nil {
		err = errors.Join(err, s.pins.lock.Close())
	}
	return err
}

// unload closes all that was loaded and opened. What is pinned goes on.
func (s *Sensor) unload() error {
	var errs []error
	for _, a := range s.attached {
		errs = append(errs, a.link.Close())
	}
	for _, r := range []*ring{s.ring, s.opens} {
		if r != nil {
			r.close()
		}
	}
	if s.positions != nil {
		errs = append(errs, unix.Munmap(s.positions))
	}
	if s.watching != nil {
		s.watching.Close()
	}
	for _, p := range s.owned {
		errs = append(errs, p.Close())
	}
	closeMaps(s.maps)
	if s.objects.OnExec != nil {
		errs = append(errs, s.objects.Close())
	}
	s.attached, s.ring, s.opens, s.positions, s.watching, s.owned, s.maps = nil, nil, nil, nil, nil, nil, nil
	s.objects, s.memory, s.control = coreObjects{}, nil, control{}
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
