// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/bpf"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
	"github.com/jurat-dev/jurat/tpm"
)

// Config is what an agent runs with.
type Config struct {
	State     string         // directory, made by enrolment
	Socket    string         // where to listen
	TPM       string         // device, or socket of a software TPM
	Broker    string         // issuer URL; empty: the one this host is enrolled with
	RootCAs   *x509.CertPool // nil: the system's
	RingBytes int            // of the sensor; 0: its default
	Pin       string         // directory of a bpf file system where the sensor is kept for the next agent; "": it ends with this one
	Anchor    Anchor         // the TPM's register
	BootLog   string         // the firmware's event log; "": where the kernel has it
	OSLog     string         // the operating system's; "": where systemd has it
	IMAList   string         // of the kernel, binary; "": where the kernel has it
	Inputs    string         // directory that declares what units read; "": none
	Gate      bool           // have each exec held until its files are measured
	Version   string
	Limits    Limits
	Logger    *slog.Logger
	Ready     func() // called when requests are answered
}

// Environment is which variables are recorded of a process that asks for a
// credential: those that say what an AI runs with, none that hold a secret.
var Environment = []string{
	"CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "JURAT_DELEGATION", "LANG", "MODEL_PATH", "PATH", "TRANSFORMERS_OFFLINE",
}

// Where the logs are unless the configuration says otherwise.
const (
	DefaultBootLog = securityFS + "tpm0/binary_bios_measurements"
	DefaultOSLog   = "/run/log/systemd/tpm2-measure.log"
	DefaultIMAList = securityFS + "ima/binary_runtime_measurements"
)

// Defaults of the host.
const (
	DefaultInputs = "/etc/jurat/inputs.d"
)

// Run is an agent from its start to the end of ctx. It returns an error when
// it could not start, or cannot go on.
func Run(ctx context.Context, c Config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id, err := ReadIdentity(c.State)
	if err != nil {
		return err
	}
	if c.Broker == "" {
		c.Broker = id.Issuer
	}
	client, err := brokerclient.New(brokerclient.Config{URL: c.Broker, RootCAs: c.RootCAs, Agent: "juratd/" + c.Version})
	if err != nil {
		return err
	}
	if client.Issuer() != id.Issuer {
		return fmt.Errorf("this host is enrolled with %s, not with %s: enrol there first", id.Issuer, client.Issuer())
	}
	// The cheap and the likely to be missing first; the sensor costs most.
	dev := enrolled(func(ctx context.Context) (Chip, error) { return openChip(ctx, c.TPM) }, id.AKName)
	if err := initialNamespaces(); err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	log, recovery, err := logstore.Open(filepath.Join(c.State, logName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	chip, err := dev(ctx)
	if err != nil {
		return err
	}
	// Before the sensor, so that each exec it records can have a verdict.
	held, seen := heldBy(ctx, &c)
	if held != nil {
		defer held.Close()
	}
	sensor, err := bpf.Open(bpf.Options{RingBytes: c.RingBytes, Pin: c.Pin})
	if err != nil {
		return errors.Join(err, chip.Close())
	}
	defer func() { err = errors.Join(err, sensor.Close()) }()
	facts, err := sensorFacts(sensor)
	if err != nil {
		return errors.Join(err, chip.Close())
	}
	facts.setSignal(signalGate, seen)
	table := newTable()
	meter, err := measure.Open(measure.Config{
		Kernel: kernel{sensor, table}, Environment: Environment, Inputs: c.Inputs,
		Altered: func(f evidence.FileID) { table.altered(f, bootClock()) },
	})
	if err != nil {
		return errors.Join(err, chip.Close())
	}
	defer meter.Close()
	a := assemble(parts{
		sensor: sensor, facts: facts, meter: meter, openChip: dev, chip: chip, broker: client, identity: id,
		state: c.State, version: c.Version, limits: c.Limits.within(openFiles()), logger: c.Logger, log: log, table: table, now: time.Now,
		gate:   held,
		anchor: c.Anchor, bootPath: cmp.Or(c.BootLog, DefaultBootLog), osLogPath: cmp.Or(c.OSLog, DefaultOSLog), imaPath: cmp.Or(c.IMAList, DefaultIMAList),
	})
	defer a.closeChip()
	if err := a.open(c.Socket); err != nil {
		return err
	}
	go care(ctx, meter, c.Logger)
	return a.live(ctx, recovery, c.Ready)
}

// openFiles is how many files this process may have open.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 1 << 30
	}
	return int(limit.Cur)
}

// within returns l with no more connections than there may be files for them,
// beside the digest cache and what else is open.
func (l Limits) within(files int) Limits {
	const each, rest = 4, measure.DefaultFiles + maxHolders/8 + 128
	l.Connections = max(16, min(l.Connections, (files-rest)/each))
	return l
}

// parts are the rooms an agent is made of, and what it needs besides.
type parts struct {
	sensor    Sensor
	facts     SensorFacts
	meter     Measurer
	openChip  func(context.Context) (Chip, error)
	chip      Chip
	broker    Broker
	identity  Identity
	state     string
	version   string
	limits    Limits
	logger    *slog.Logger
	log       *logstore.Log
	table     *table
	gate      ExecGate // nil: execs are not held
	anchor    Anchor
	bootPath  string    // of the boot event log
	osLogPath string    // of the operating system's
	imaPath   string    // of the kernel's list
	mode      peer.Mode // 0: the strongest of this kernel
	now       func() time.Time
}

func assemble(p parts) *Agent {
	a := &Agent{
		sensor: p.sensor, facts: p.facts, meter: p.meter, openChip: p.openChip, chip: p.chip, broker: p.broker,
		identity: p.identity, version: p.version, state: p.state, limits: p.limits, logger: p.logger,
		random: rand.Reader, jitter: mathrand.Int64N, now: p.now, boot: bootClock,
		log: p.log, table: p.table, gate: p.gate, mode: p.mode, queue: make(chan queued, queueLength), batch: new(batch), watching: make(chan struct{}),
		tasks: newTasks(), users: newCensus(p.limits),
		meters: newTurnstile(), places: make(chan struct{}, exchanges),
	}
	a.anchor, a.ima, a.osLogPath, a.idle = newAnchor(p.anchor, p.log, p.logger), newIMAList(p.imaPath), p.osLogPath, anchorEvery
	a.bootLog, a.bootHash = readLog(p.bootPath, evidence.MaxBootLog)
	a.desk = newDesk(p.limits.Gather, len(a.bootLog)+bundleFrame)
	return a
}

// open reads what the host and the state directory have to say, and listens.
func (a *Agent) open(socket string) (err error) {
	if a.host, err = readHost(); err != nil {
		return err
	}
	if a.mode == 0 {
		if a.mode, err = peer.Detect(); err != nil {
			return err
		}
	}
	if a.identity.LogKey != "" {
		head, err := os.ReadFile(filepath.Join(a.state, headName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		a.keptHead = string(head)
		if a.witness, err = brokerclient.NewWitness(a.identity.LogOrigin, a.identity.LogKey, a.keptHead); err != nil {
			return err
		}
	}
	if a.listener, err = listen(socket); err != nil {
		return err
	}
	a.guard = guard{state: a.state, socket: socket, check: a.sensor.Check}
	a.guard.bound, err = os.Lstat(socket)
	return err
}

// live is the agent's epoch: from its start entry to its last checkpoint.
func (a *Agent) live(ctx context.Context, r logstore.Recovery, ready func()) error {
	clock, err := a.clock(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(a.takeOver(), a.readHostTaints()); err != nil {
		return err
	}
	if err := a.firstEpoch(ctx, r, clock); err != nil {
		return err
	}
	a.logger.Info("ready", "host", a.identity.Host, "broker", a.identity.Issuer, "entries", a.log.Size(), "peer_identity", a.mode.String(), "anchor", a.anchor.mode())
	if err := a.run(ctx, ready); err != nil {
		return err
	}
	if err := a.lastCheckpoint(); err != nil {
		return err
	}
	return a.leave()
}

// care keeps the digest cache honest and small: when the clock is set, a file
// time from before proves nothing any more.
func care(ctx context.Context, meter *measure.Meter, logger *slog.Logger) {
	steps := clockSteps(ctx)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case _, ok := <-steps:
			if !ok {
				steps = nil
				continue
			}
			logger.Info("the clock was set; every digest is made anew")
			meter.Flush()
		case <-tick.C:
			meter.Sweep(sweepIdle)
		case <-ctx.Done():
			return
		}
	}
}

const (
	sweepIdle  = 10 * time.Minute // a file that nobody ran for so long is closed
	sweepEvery = 10 * time.Second // how long a change of a measured file goes unnoticed at most
)

// initialPID is the inode of the initial pid namespace (PROC_PID_INIT_INO).
const initialPID = 0xeffffffc

// ErrNamespace says that the agent cannot see the host from where it runs.
var ErrNamespace = errors.New("not in the host's pid namespace")

func initialNamespaces() error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return os.NewSyscallError("stat /proc/self/ns/pid", err)
	}
	if st.Ino != initialPID {
		return fmt.Errorf("%w: pids here are not the kernel's; in a container, run with --pid=host --privileged", ErrNamespace)
	}
	return nil
}

func sensorFacts(s *bpf.Sensor) (SensorFacts, error) {
	f, err := s.Programs()
	if err != nil {
		return SensorFacts{}, err
	}
	out := SensorFacts{Tier: s.Tier(), Object: f.Object}
	c := s.Continuity()
	out.Gap, out.Next = c.Reason, c.Next
	if c.Pinned {
		out.Pinned = s
	}
	for _, p := range f.Programs {
		out.Programs = append(out.Programs, evidence.Program{Name: p.Name, Tag: p.Tag, Fired: p.Fired})
	}
	for _, g := range s.Signals() {
		by := evidence.Unknown[string](g.Reason)
		if g.By != "" {
			by = evidence.Known(g.By)
		}
		out.Signals = append(out.Signals, evidence.Signal{Name: g.Name, By: by})
	}
	return out, nil
}

// rotation is the id of the attestation key. Another one makes another key;
// this version has one.
const rotation = "1"

// openChip opens the TPM and makes the attestation key.
func openChip(ctx context.Context, path string) (Chip, error) {
	dev, err := tpm.Open(path)
	if err != nil {
		return nil, err
	}
	ak, err := dev.CreateAK(ctx, rotation)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return chip{ak, dev}, nil
}

// chip is a TPM with its attestation key.
type chip struct {
	*tpm.AK
	dev *tpm.Device
}

// Certify has the attestation key sign the register's value.
func (c chip) Certify(ctx context.Context, r *tpm.Register, q evidence.Hash) (evidence.Certification, evidence.Hash, error) {
	return r.Certify(ctx, c.AK, q)
}

// Register finds the register that a PCR latches.
func (c chip) Register(ctx context.Context, o tpm.RegisterOptions) (*tpm.LatchRegister, tpm.RegisterState, error) {
	return c.dev.Register(ctx, o)
}

// NvPCR finds a register of systemd's.
func (c chip) NvPCR(ctx context.Context, index uint32, initial []byte) (*tpm.Register, error) {
	return c.dev.NvPCR(ctx, index, initial)
}

func (c chip) Clock(ctx context.Context) (tpm.Clock, error) { return c.dev.Clock(ctx) }
func (c chip) Close() error                                 { return c.dev.Close() }
