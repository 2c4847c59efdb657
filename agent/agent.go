// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
	"github.com/jurat-dev/jurat/tpm"
)

// Sensor is what the agent needs of the kernel's eye (*bpf.Sensor).
type Sensor interface {
	// Read waits a moment for the next event.
	Read(*bpf.Event) error
	// Snapshot shows every process there is.
	Snapshot(func(*bpf.Event) error) error
	// Barrier returns when all that happened before the call has been read.
	Barrier(context.Context) error
	// State returns what the kernel holds of a process.
	State(pidfd int) (bpf.State, error)
	// MarkMeasured notes in the kernel that a generation was measured.
	MarkMeasured(pidfd int, generation uint32) (bool, error)
	// Check looks for signs that somebody works against the sensor.
	Check() []bpf.Finding
	// Mark sets a mark behind the event read last, if that is possible now.
	Mark(*bpf.Mark) bool
	// Release gives the records before a mark back.
	Release(*bpf.Mark)
}

// Measurer is what the agent needs of station 2 (*measure.Meter).
type Measurer interface {
	// Exec measures one exec lightly.
	Exec(context.Context, *measure.Exec) evidence.Exec
	// Process measures a process in full. The pins are to be closed.
	Process(ctx context.Context, pidfd int, facts *measure.Facts) (*evidence.Process, *measure.Pins, error)
	// Look looks again at a process that was measured. Lost is the agent's to
	// fill in.
	Look(pidfd int, pins *measure.Pins) evidence.State
	// Place says where on the host a cgroup is.
	Place(cgroup uint64) measure.Place
	// Cached shows every digest that is known.
	Cached(yield func(measure.Cached) bool)
	// Hashing lists the large files that are being hashed.
	Hashing() []measure.Hashing
}

// Chip is what the agent needs of the TPM.
type Chip interface {
	Signer
	Registrar
	// Clock tells how often the TPM was reset.
	Clock(context.Context) (tpm.Clock, error)
	Close() error
}

// Signer is the attestation key.
type Signer interface {
	// Name is its TPM2B_NAME.
	Name() []byte
	// Quote signs the digest of a header together with the PCRs.
	Quote(context.Context, evidence.Hash) (evidence.Quote, error)
	// AuditBanks has the TPM say which PCR banks are active, and signs that.
	AuditBanks(context.Context, evidence.Hash) ([]byte, evidence.Certification, error)
}

// Registrar finds registers. They are good as long as the Chip is open.
type Registrar interface {
	// Register finds the register that a PCR latches, and its state.
	Register(context.Context, tpm.RegisterOptions) (*tpm.LatchRegister, tpm.RegisterState, error)
	// NvPCR finds a register of systemd's.
	NvPCR(ctx context.Context, index uint32, initial []byte) (*tpm.Register, error)
	// Certify signs the digest of a header together with a register's value,
	// which it returns.
	Certify(context.Context, *tpm.Register, evidence.Hash) (evidence.Certification, evidence.Hash, error)
}

// Broker is what the agent needs of station 7 (*brokerclient.Client).
type Broker interface {
	Metadata(context.Context) (*brokerclient.Metadata, error)
	Challenge(ctx context.Context, host string) (*brokerclient.Challenge, error)
	SubmitEvidence(ctx context.Context, bundle []byte) (*brokerclient.Submission, error)
	Exchange(context.Context, brokerclient.ExchangeRequest) (*brokerclient.Token, error)
	Delegation(ctx context.Context, name string) (*brokerclient.Delegation, error)
}

// SensorFacts say what the sensor is, for the evidence.
type SensorFacts struct {
	Tier     string
	Object   evidence.Hash
	Programs []evidence.Program
	Signals  []evidence.Signal
	Gap      string   // why the kernel was not watched since the agent before; "": it was
	Next     []uint64 // with no gap: the record that is delivered first, of each ring and CPU
	Pinned   Pinned   // nil: the sensor ends with this agent
}

// Pinned is a sensor that the next agent goes on with (*bpf.Sensor).
type Pinned interface {
	// Released returns the record that was released last, of each ring and CPU.
	Released() []uint64
}

// Limits keep one process or user from starving the others.
type Limits struct {
	Connections int           // at once
	PerUser     int           // of them, by one user
	PerProcess  int           // of them, by one process
	Deadline    time.Duration // for one request, all retries included
	Gather      time.Duration // longest wait for others before a quote
}

// DefaultLimits are what juratd runs with.
func DefaultLimits() Limits {
	return Limits{Connections: 4096, PerUser: 2048, PerProcess: 64, Deadline: 30 * time.Second, Gather: 500 * time.Millisecond}
}

// Agent is a running agent. [Run] makes one.
type Agent struct {
	sensor   Sensor
	facts    SensorFacts
	meter    Measurer
	openChip func(context.Context) (Chip, error)
	broker   Broker
	witness  *brokerclient.Witness // nil: the broker named no log
	identity Identity
	host     hostFacts
	version  string
	state    string // directory
	limits   Limits
	logger   *slog.Logger
	random   io.Reader
	jitter   func(int64) int64
	now      func() time.Time
	boot     func() uint64

	log       *logstore.Log
	sealing   sync.Mutex // held while a checkpoint is made
	ima       *imaList
	osLogPath string
	table     *table
	gate      ExecGate // nil: execs are not held
	files     files    // that were executed, as measured
	feed      feed     // of events, for those who follow them
	spoilt    hostTaints
	guarding  sync.Mutex // held while guard looks
	guard     guard
	epoch     atomic.Pointer[epoch]
	queue     chan queued   // execs to be measured; watch closes it
	watching  chan struct{} // closed when the first snapshot is done
	begun     sync.Once     // closes watching
	tasks     *tasks        // delegations by name
	desk      *desk         // requests waiting for a quote
	mode      peer.Mode
	listener  *net.UnixListener
	users     *census        // connections by user and process
	meters    *turnstile     // places for full measurements
	places    chan struct{}  // places for token exchanges
	redeeming sync.WaitGroup // batches whose tokens are being fetched

	// Of the goroutine that watches.
	resync   bool
	unqueued uint64
	batch    *batch   // the one that is being read
	batches  []*batch // that were read, the oldest first
	fresh    bool     // something was read since the last mark
	marked   time.Time
	backlog  []*program // found by a snapshot, not queued yet

	// Of the goroutine that answers.
	chip     Chip // nil: not open
	anchor   *anchor
	idle     time.Duration   // between anchorings while nobody asks
	banks    *evidence.Banks // of the epoch banksOf
	banksOf  *epoch
	caught   catchUp // of the broker, with the IMA list
	bootLog  []byte
	bootHash evidence.Value[evidence.Hash]

	heads    sync.Mutex // guards keptHead
	keptHead string

	mood     atomic.Pointer[string] // of the broker, for status
	quotes   atomic.Uint64
	answered atomic.Uint64
}

// run does everything until ctx ends or something fails that nothing can go
// on without.
func (a *Agent) run(outer context.Context, ready func()) error {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	var group sync.WaitGroup
	spawn := func(what string, f func(context.Context) error) {
		group.Go(func() {
			if err := f(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	spawn("watching", a.watch)
	for range workers {
		spawn("logging execs", a.work)
	}
	select {
	case <-a.watching:
	case <-ctx.Done():
	}
	spawn("greeting the broker", a.greet)
	spawn("answering", a.answerAll)
	spawn("keeping the log", a.keep)
	spawn("listening", a.serve)
	if ctx.Err() == nil && ready != nil {
		ready()
	}
	<-ctx.Done()
	group.Wait()
	if outer.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

const (
	workers        = 4
	heartbeatEvery = 10 * time.Second
)

// keep commits to the log now and then.
func (a *Agent) keep(ctx context.Context) error {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := a.inspect(); err != nil {
				return err
			}
			if err := a.heartbeat(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
