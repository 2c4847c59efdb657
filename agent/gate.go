// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/gate"
	"github.com/jurat-dev/jurat/measure"
)

// ExecGate is what the agent needs of the exec gate (*gate.Gate).
type ExecGate interface {
	// Exec returns what was held for an exec, and forgets it.
	Exec(*gate.Record) evidence.Value[gate.Verdict]
	// Visit has the file systems looked through that a process sees.
	Visit(pid uint32)
	// Forget drops what was held for a process that has ended.
	Forget(gate.Process)
}

const (
	signalGate = "exec-gate"
	seenByGate = "fanotify"
	reasonOff  = "off" // the operator wants none

	// taintNoVerdict is the taint of a program that the gate did not measure
	// before it ran, though it was to hold every one.
	taintNoVerdict = "exec-without-verdict"
)

// HoldExecs is the whole of the process that holds execs. juratd starts itself
// for it. It returns why it ended.
func HoldExecs() error {
	meter, err := measure.Open(measure.Config{Kernel: noKernel{}})
	if err != nil {
		return err
	}
	go care(context.Background(), meter, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	return gate.Hold(gate.HolderConn, meter)
}

// noKernel is the kernel of a Meter that measures files and no process.
type noKernel struct{}

func (noKernel) State(int) (measure.State, error) {
	return measure.State{}, errors.New("who holds execs looks at no process")
}

// closingGate is a gate that this process opened.
type closingGate interface {
	ExecGate
	Close()
}

// heldBy has execs held, and says what sees them. A host where that cannot be
// is watched all the same, and its evidence says why not.
func heldBy(ctx context.Context, c *Config) (closingGate, evidence.Value[string]) {
	if !c.Gate {
		return nil, evidence.Unknown[string](reasonOff)
	}
	g, err := gate.Open(ctx, gate.Options{Logger: c.Logger})
	if err != nil {
		c.Logger.Warn("execs are not held", "error", err)
		return nil, evidence.Unknown[string](gateReason(err))
	}
	return g, evidence.Known(seenByGate)
}

// gateReason is a word for why execs are not held.
func gateReason(err error) string {
	switch {
	case errors.Is(err, gate.ErrUnsupported):
		return "not-supported"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	}
	return "not-started"
}

// setSignal says what sees a signal.
func (f *SensorFacts) setSignal(name string, by evidence.Value[string]) {
	for k := range f.Signals {
		if f.Signals[k].Name == name {
			f.Signals[k].By = by
		}
	}
}

// judge adds to an exec what the gate held for it. It returns what is to be
// held against the process.
func (a *Agent) judge(e *measure.Exec, ev *bpf.Event) []local.Spoilt {
	if a.gate == nil {
		return nil
	}
	v := a.gate.Exec(gateRecord(e, ev))
	verdict, ok := v.Get()
	if !ok {
		return noVerdict("program: "+v.Reason(), ev.Time)
	}
	missing := ""
	if script, ok := verdict.Script.Get(); ok && script != nil {
		e.Held = append(e.Held, measure.Held{ID: script.ID, Digest: script.Digest, Script: true})
		missing = unread("script", script)
	} else if !ok {
		missing = "script: " + verdict.Script.Reason()
	}
	e.Held = append(e.Held, measure.Held{ID: verdict.Executable.ID, Digest: verdict.Executable.Digest, Runs: true})
	if why := unread("program", &verdict.Executable); why != "" {
		missing = why
	}
	if loader, ok := verdict.Loader.Get(); ok && loader != nil {
		e.Held = append(e.Held, measure.Held{ID: loader.ID, Digest: loader.Digest})
		if why := unread("loader", loader); why != "" {
			missing = why
		}
	} else if !ok {
		missing = "loader: " + verdict.Loader.Reason()
	}
	if missing != "" {
		return noVerdict(missing, ev.Time)
	}
	return nil
}

// unread says why a file that was held has no digest, "" when it has.
func unread(what string, f *gate.File) string {
	if _, ok := f.Digest.Observed(); ok {
		return ""
	}
	return what + ": " + f.Digest.Reason()
}

func noVerdict(why string, at uint64) []local.Spoilt {
	return []local.Spoilt{{Name: taintNoVerdict, At: at, How: seenByGate + ", " + why}}
}

func gateProcess(i bpf.Instance) gate.Process {
	return gate.Process{PID: i.PID, PidfdInode: i.PidfdInode, Start: i.Start}
}

// gateRecord is the kernel's record of an exec, for the gate.
func gateRecord(e *measure.Exec, ev *bpf.Event) *gate.Record {
	return &gate.Record{
		Process: gateProcess(ev.Process.Instance), Parent: e.Parent.PID, At: e.At, Exe: fileID(&e.Exe), Text: fileID(&e.Text),
		Stacked:  e.Exe.Magic == unix.OVERLAYFS_SUPER_MAGIC || e.Exe.Magic == unix.BTRFS_SUPER_MAGIC,
		Scripted: e.Interpreter != e.Filename, Interpreter: e.Interpreter, Cut: ev.Flags.Has(bpf.FlagInterpCut),
	}
}
