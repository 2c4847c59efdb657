// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
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

	mu    sync.Mutex // guards what follows
	delay time.Duration
	size  int                            // bytes of padding in a measurement
	look  func(n int, s *evidence.State) // changes look number n, from 1
	exec  func(e *measure.Exec)          // hears of each exec
	full  func(pidfd int) error          // hears of each full measurement
	looks int
	fulls int
}

func (m *fakeMeter) Exec(_ context.Context, e *measure.Exec) evidence.Exec {
	m.mu.Lock()
	exec := m.exec
	m.mu.Unlock()
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
		Tracer: evidence.Known[uint32](0), Missing: evidence.Known([]string{}),
	}
	if st, err := m.sensor.State(pidfd); err == nil {
		s.Generation = st.Generation
	}
	if look != nil {
		look(n, &s)
	}
	return s
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

func (c *fakeChip) Clock(context.Context) (tpm.Clock, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock, c.gone
}

func (c *fakeChip) Close() error { return nil }

// rig is an agent with everything around it.
type rig struct {
	t      testing.TB
	state  string
	socket string
	sensor *fakeSensor
	meter  *fakeMeter
	chip   *fakeChip
	double *double
	agent  *Agent
	limits Limits
	mode   peer.Mode
	skew   atomic.Int64 // of the agent's clock
	open   func(context.Context) (Chip, error)
	log    bytes.Buffer
	logMu  sync.Mutex

	// The real rooms, for tests with root; nil: the fakes.
	realSensor *bpf.Sensor
	realTable  *table
	realMeter  *measure.Meter

	stop    func() error
	mayFail bool
}

// newRig makes the parts; start puts them together.
func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{
		t: t, state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "s"), sensor: newFakeSensor(),
		chip: new(fakeChip), double: newDouble(t), limits: DefaultLimits(),
	}
	r.meter = &fakeMeter{sensor: r.sensor}
	r.limits.Deadline, r.limits.Gather = 20*time.Second, 200*time.Millisecond
	r.open = func(context.Context) (Chip, error) {
		r.chip.mu.Lock()
		defer r.chip.mu.Unlock()
		return r.chip, r.chip.gone
	}
	if err := makeState(r.state); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) Write(p []byte) (int, error) {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	return r.log.Write(p)
}

// logged reports whether the agent's log has the text.
func (r *rig) logged(text string) bool {
	r.logMu.Lock()
	defer r.logMu.Unlock()
	return bytes.Contains(r.log.Bytes(), []byte(text))
}

// start runs the agent until the test ends or stop is called.
func (r *rig) start() *rig {
	r.t.Helper()
	log, recovery, err := logstore.Open(filepath.Join(r.state, logName))
	if err != nil {
		r.t.Fatal(err)
	}
	p := parts{
		sensor: r.sensor, facts: SensorFacts{Tier: "tracepoint", Object: sha256.Sum256(nil), Programs: []evidence.Program{{Name: "on_exec", Fired: true}}},
		meter: r.meter, table: newTable(),
	}
	if r.realSensor != nil {
		p.sensor, p.meter, p.table = r.realSensor, r.realMeter, r.realTable
		if p.facts, err = sensorFacts(r.realSensor); err != nil {
			r.t.Fatal(err)
		}
	}
	client, err := brokerclient.New(brokerclient.Config{URL: r.double.url})
	if err != nil {
		r.t.Fatal(err)
	}
	chip, err := r.open(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	id := Identity{AKName: chip.Name(), Identity: brokerclient.Identity{
		Host: "spiffe://example.test/host/h1", UEID: append([]byte{1}, make([]byte, 32)...), Level: "ek-pin", Issuer: r.double.url,
		LogOrigin: r.double.origin, LogKey: r.double.logKey,
	}}
	p.openChip, p.chip, p.broker, p.identity, p.log, p.mode = enrolled(r.open, id.AKName), chip, client, id, log, r.mode
	p.state, p.version, p.limits, p.bootPath = r.state, "test", r.limits, filepath.Join(r.state, "boot-log")
	p.logger = slog.New(slog.NewTextHandler(r, nil))
	p.now = func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }
	r.agent = assemble(p)
	if err := r.agent.open(r.socket); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := r.agent.live(ctx, recovery, func() { close(ready) })
		r.agent.closeChip()
		ended <- errors.Join(err, log.Close())
	}()
	select {
	case <-ready:
	case err := <-ended:
		r.t.Fatalf("the agent ended at its start: %v", err)
	}
	var once sync.Once
	var result error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			result = <-ended
		})
		return result
	}
	stop := r.stop
	r.t.Cleanup(func() {
		if err := stop(); err != nil && !r.mayFail {
			r.t.Errorf("the agent ended with %v", err)
		}
	})
	return r
}

// self has the sensor know this very process.
func (r *rig) self() *rig {
	r.sensor.exec(uint32(os.Getpid()), 1)
	return r
}

// onLook has f change each look, which it is told the number of.
func (r *rig) onLook(f func(n int, s *evidence.State)) {
	r.meter.mu.Lock()
	defer r.meter.mu.Unlock()
	r.meter.look = f
}

// onMeasurement has f run in each full measurement.
func (r *rig) onMeasurement(f func(pidfd int) error) {
	r.meter.mu.Lock()
	defer r.meter.mu.Unlock()
	r.meter.full = f
}

// duringQuote has f run in each quote.
func (r *rig) duringQuote(f func()) {
	r.chip.mu.Lock()
	defer r.chip.mu.Unlock()
	r.chip.during = f
}

func (r *rig) client() *local.Client { return &local.Client{Socket: r.socket} }

// ask asks for a token for this process.
func (r *rig) ask() (*local.Credential, error) { return r.askFor(r.double.task.ID) }

func (r *rig) askFor(task string) (*local.Credential, error) {
	return r.client().Credential(r.t.Context(), local.CredentialRequest{Delegation: task})
}

// code returns the code of an error that juratd answered.
func code(err error) string {
	if said, ok := errors.AsType[*local.Error](err); ok {
		return said.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// entries returns the log of the agent.
func (r *rig) entries() []*evidence.Entry {
	r.t.Helper()
	var out []*evidence.Entry
	for i := range r.agent.log.Size() {
		raw, err := r.agent.log.Entry(i)
		if err != nil {
			r.t.Fatal(err)
		}
		e, err := evidence.ParseEntry(raw)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// reopen opens the log of an agent that has ended.
func (r *rig) reopen() logstore.Recovery {
	r.t.Helper()
	log, recovery, err := logstore.Open(filepath.Join(r.state, logName))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { log.Close() })
	r.agent.log = log
	return recovery
}

// kinds counts the entries by kind.
func (r *rig) kinds() map[evidence.Kind]int {
	n := make(map[evidence.Kind]int)
	for _, e := range r.entries() {
		n[e.Kind]++
	}
	return n
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// newPeer is a peer of that real user.
func newPeer(uid uint32) *peer.Peer { return &peer.Peer{Pidfd: -1, Child: -1, UID: uid} }
