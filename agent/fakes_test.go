// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
	"github.com/jurat-dev/jurat/tpm"
)

// fakeSensor knows the processes it is told of, and says the events it is
// given.
type fakeSensor struct {
	events chan bpf.Event

	mu       sync.Mutex           // guards what follows
	live     map[uint32]bpf.Event // what a snapshot shows
	states   map[uint32]*bpf.State
	barrier  error
	barriers int
	findings []bpf.Finding
	consumed int // events taken up to now
	said     int
	busy     bool
}

func newFakeSensor() *fakeSensor {
	return &fakeSensor{events: make(chan bpf.Event, 1<<16), live: make(map[uint32]bpf.Event), states: make(map[uint32]*bpf.State)}
}

func (s *fakeSensor) Read(ev *bpf.Event) error {
	s.mu.Lock()
	if s.busy {
		s.busy, s.consumed = false, s.consumed+1
	}
	s.mu.Unlock()
	select {
	case *ev = <-s.events:
		s.mu.Lock()
		s.busy = true
		s.mu.Unlock()
		return nil
	case <-time.After(time.Millisecond):
		return bpf.ErrNoEvent
	}
}

func (s *fakeSensor) Snapshot(f func(*bpf.Event) error) error {
	s.mu.Lock()
	live := maps.Clone(s.live)
	s.mu.Unlock()
	for _, ev := range live {
		if err := f(&ev); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeSensor) Barrier(ctx context.Context) error {
	s.mu.Lock()
	target, err := s.said, s.barrier
	s.barriers++
	s.mu.Unlock()
	for err == nil {
		s.mu.Lock()
		done := s.consumed >= target
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Microsecond):
		}
	}
	return err
}

func (s *fakeSensor) Mark(*bpf.Mark) bool { return true }
func (s *fakeSensor) Release(*bpf.Mark)   {}

func (s *fakeSensor) State(pidfd int) (bpf.State, error) {
	pid, err := peer.PID(pidfd)
	if err != nil {
		return bpf.State{}, bpf.ErrNoState
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[pid]
	if st == nil {
		return bpf.State{}, bpf.ErrNoState
	}
	return *st, nil
}

func (s *fakeSensor) MarkMeasured(pidfd int, generation uint32) (bool, error) {
	pid, err := peer.PID(pidfd)
	if err != nil {
		return false, bpf.ErrNoState
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[pid]
	if st == nil || st.Generation != generation {
		return false, nil
	}
	st.Measured = true
	return true, nil
}

// say has the sensor report events.
func (s *fakeSensor) say(events ...bpf.Event) {
	s.mu.Lock()
	s.said += len(events)
	s.mu.Unlock()
	for _, ev := range events {
		s.events <- ev
	}
}

// exec has the process with that pid run a program.
func (s *fakeSensor) exec(pid uint32, generation uint32) bpf.Instance {
	i := bpf.Instance{PID: pid, Start: 1000, PidfdInode: pidfdInode(pid), Generation: generation}
	s.mu.Lock()
	s.states[pid] = &bpf.State{Generation: generation}
	s.mu.Unlock()
	ev := bpf.Event{Kind: bpf.KindExec, Number: 1, Time: 5000, Process: bpf.Process{Instance: i, TID: pid}, Parent: bpf.Instance{PID: 1, Start: 1}}
	ev.Program.Filename = bpf.NewText("/bin/agent")
	s.mu.Lock()
	s.live[pid] = ev
	s.mu.Unlock()
	s.say(ev)
	return i
}

func pidfdInode(pid uint32) uint64 {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// fakeMeter measures nothing: it says what it is told.
type fakeMeter struct {
	sensor *fakeSensor

	mu      sync.Mutex // guards what follows
	delay   time.Duration
	slow    bool                           // Exec takes as long as it may
	size    int                            // bytes of padding in a measurement
	look    func(n int, s *evidence.State) // changes look number n, from 1
	exec    func(e *measure.Exec)          // hears of each exec
	full    func(pidfd int) error          // hears of each full measurement
	looks   int
	fulls   int
	cached  []measure.Cached
	hashing []measure.Hashing
}

func (m *fakeMeter) Exec(ctx context.Context, e *measure.Exec) evidence.Exec {
	m.mu.Lock()
	exec, slow := m.exec, m.slow
	m.mu.Unlock()
	if slow {
		<-ctx.Done()
	}
	if exec != nil {
		exec(e)
	}
	return evidence.Exec{
		CPU: e.CPU, Record: e.Record, Seen: e.Seen, Parent: e.Parent, Hint: e.Filename, Creds: e.Credentials, Taints: e.Taints,
		Exe: evidence.Known(evidence.File{Path: e.Filename, Digest: evidence.Unknown[evidence.Digest]("exited")}), Cgroup: evidence.Known("/"),
	}
}

func (m *fakeMeter) Process(_ context.Context, pidfd int, f *measure.Facts) (*evidence.Process, *measure.Pins, error) {
	m.mu.Lock()
	m.fulls++
	delay, size, full := m.delay, m.size, m.full
	m.mu.Unlock()
	time.Sleep(delay)
	if full != nil {
		if err := full(pidfd); err != nil {
			return nil, nil, err
		}
	}
	return fakeProcess(f, size), new(measure.Pins), nil
}

func (m *fakeMeter) Look(pidfd int, _ *measure.Pins) evidence.State {
	m.mu.Lock()
	m.looks++
	n, look := m.looks, m.look
	m.mu.Unlock()
	_, err := peer.PID(pidfd)
	s := evidence.State{
		At: bootClock(), Alive: err == nil, Unmeasured: evidence.Known[uint64](0), Private: evidence.Known[uint64](0),
		Tracer: evidence.Known[uint32](0), Missing: evidence.Known([]string{}), Changed: evidence.Known([]string{}),
	}
	if st, err := m.sensor.State(pidfd); err == nil {
		s.Generation = st.Generation
	}
	if look != nil {
		look(n, &s)
	}
	return s
}

func (m *fakeMeter) Place(cgroup uint64) measure.Place {
	return measure.Place{Cgroup: fmt.Sprintf("/system.slice/c%d.service", cgroup), Unit: fmt.Sprintf("c%d.service", cgroup)}
}

func (m *fakeMeter) Cached(yield func(measure.Cached) bool) {
	m.mu.Lock()
	files := m.cached
	m.mu.Unlock()
	for _, f := range files {
		if !yield(f) {
			return
		}
	}
}

func (m *fakeMeter) Hashing() []measure.Hashing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hashing
}

func (s *fakeSensor) Check() []bpf.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findings
}

func fakeProcess(f *measure.Facts, size int) *evidence.Process {
	const reason = "not-collected"
	maps := []evidence.File{{Path: string(bytes.Repeat([]byte{'m'}, size)), Digest: evidence.Unknown[evidence.Digest](reason)}}
	return &evidence.Process{
		Origin: f.Origin, Measured: bootClock(), Exe: evidence.Known(evidence.File{Path: f.Exec.Filename, Digest: evidence.Unknown[evidence.Digest](reason)}),
		Loader: evidence.Unknown[*evidence.File](reason), Script: evidence.Unknown[*evidence.Script](reason), Maps: evidence.Known(maps),
		Arguments: evidence.Unknown[evidence.Hash](reason), Code: evidence.Unknown[evidence.Manifest](reason),
		Models: evidence.Unknown[[]evidence.File](reason), Inputs: evidence.Unknown[[]evidence.File](reason),
		Credentials: evidence.Unknown[evidence.Credentials](reason), Groups: evidence.Unknown[[]uint32](reason),
		Namespaces: evidence.Unknown[evidence.Namespaces](reason), Cgroup: evidence.Unknown[string](reason), Unit: evidence.Unknown[string](reason),
		Container: evidence.Unknown[*evidence.Container](reason), Ancestors: evidence.Unknown[[]evidence.Ancestor](reason),
		Label: evidence.Unknown[string](reason), Session: evidence.Unknown[uint32](reason), TTY: evidence.Unknown[string](reason),
		Directory: evidence.Unknown[string](reason), Environment: evidence.Unknown[map[string]string](reason),
		Devices: evidence.Unknown[[]string](reason), Interference: evidence.Unknown[[]string](reason),
	}
}

// fakeChip signs nothing: what it quotes only a broker believes that does not
// verify.
type fakeChip struct {
	mu     sync.Mutex // guards what follows
	clock  tpm.Clock
	gone   error
	delay  time.Duration
	quotes int
	during func() // runs within a quote
	name   []byte // of the key; nil: fakeAK
}

func (c *fakeChip) Name() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.name != nil {
		return c.name
	}
	return fakeAK
}

var fakeAK = append([]byte{0, 11}, make([]byte, 32)...)

func (c *fakeChip) Quote(_ context.Context, q evidence.Hash) (evidence.Quote, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return evidence.Quote{}, c.gone
	}
	c.quotes++
	time.Sleep(c.delay)
	if c.during != nil {
		c.during()
	}
	return evidence.Quote{Attest: binary.BigEndian.AppendUint32(q[:], uint32(c.quotes)), Signature: []byte{1}}, nil
}

// AuditBanks says what a TPM with the SHA-256 bank does; nobody signs it.
func (c *fakeChip) AuditBanks(context.Context, evidence.Hash) ([]byte, evidence.Certification, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []byte{0}, evidence.Certification{Attest: []byte{1}, Signature: []byte{1}}, c.gone
}

var errNoRegister = errors.New("the fake has no register")

func (c *fakeChip) Register(context.Context, tpm.RegisterOptions) (*tpm.LatchRegister, tpm.RegisterState, error) {
	return nil, tpm.RegisterState{}, errNoRegister
}

func (c *fakeChip) NvPCR(context.Context, uint32, []byte) (*tpm.Register, error) {
	return nil, errNoRegister
}

func (c *fakeChip) Certify(context.Context, *tpm.Register, evidence.Hash) (evidence.Certification, evidence.Hash, error) {
	return evidence.Certification{}, evidence.Hash{}, errNoRegister
}

func (c *fakeChip) Clock(context.Context) (tpm.Clock, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock, c.gone
}

func (c *fakeChip) Close() error { return nil }
