// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// rig is an agent with everything around it.
type rig struct {
	t       testing.TB
	state   string
	socket  string
	sensor  *fakeSensor
	meter   *fakeMeter
	chip    *fakeChip
	double  *double
	agent   *Agent
	limits  Limits
	mode    peer.Mode
	skew    atomic.Int64 // of the agent's clock
	open    func(context.Context) (Chip, error)
	anchor  Anchor
	boot    []byte       // id of the boot; nil: this machine's
	prepare func(*Agent) // runs before the agent does
	logs    logPaths
	log     bytes.Buffer
	logMu   sync.Mutex

	// The real rooms, for tests with root; nil: the fakes.
	realSensor *bpf.Sensor
	realTable  *table
	realMeter  *measure.Meter

	gap        string // since the agent before
	generation uint32 // of this process, as the sensor says it

	stop    func() error
	mayFail bool

	endsEarly bool  // the agent ends at its start
	ended     error // with this
}

// logPaths are the files that the kernel and systemd have on a real host.
type logPaths struct{ boot, os, ima string }

// newRig makes the parts; start puts them together.
func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{
		t: t, state: filepath.Join(dir, "state"), socket: filepath.Join(dir, "s"), sensor: newFakeSensor(),
		chip: new(fakeChip), double: newDouble(t), limits: DefaultLimits(),
	}
	r.meter = &fakeMeter{sensor: r.sensor}
	r.logs = logPaths{filepath.Join(r.state, "boot-log"), filepath.Join(r.state, "os-log"), filepath.Join(r.state, "ima-list")}
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
		sensor: r.sensor, facts: SensorFacts{Gap: r.gap, Tier: "tracepoint", Object: sha256.Sum256(nil), Programs: []evidence.Program{{Name: "on_exec", Fired: true}}},
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
	p.state, p.version, p.limits, p.anchor = r.state, "test", r.limits, r.anchor
	p.bootPath, p.osLogPath, p.imaPath = r.logs.boot, r.logs.os, r.logs.ima
	p.logger = slog.New(slog.NewTextHandler(r, nil))
	p.now = func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) }
	r.agent = assemble(p)
	if r.prepare != nil {
		r.prepare(r.agent)
	}
	if err := r.agent.open(r.socket); err != nil {
		r.t.Fatal(err)
	}
	if r.boot != nil {
		r.agent.host.bootID = r.boot
	}
	r.live(log, recovery)
	return r
}

// live runs the agent.
func (r *rig) live(log *logstore.Log, recovery logstore.Recovery) {
	r.t.Helper()
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
		cancel()
		if !r.endsEarly {
			r.t.Fatalf("the agent ended at its start: %v", err)
		}
		r.ended = err
		r.agent.listener.Close() // as the end of the process does
		return
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
