// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

const (
	queueLength = 8192 // execs waiting to be measured
	causeFull   = "queue-full"
)

// watch reads the kernel's events, in order, and sees to the entries they
// make. Only one goroutine runs it. When the sensor calls an event consumed,
// all that is said here about it has been done, but for the measurement of an
// exec: that is for the workers.
func (a *Agent) watch(ctx context.Context) error {
	defer close(a.queue)
	a.resync = true // once what is waiting was read: it may be news of processes that an agent before knew
	var ev bpf.Event
	for {
		err := a.sensor.Read(&ev)
		switch {
		case errors.Is(err, bpf.ErrClosed):
			return a.stopWatching()
		case errors.Is(err, bpf.ErrNoEvent):
			err = a.settle()
		case err == nil:
			a.fresh = true
			err = a.take(&ev)
		default:
			malformed, ok := errors.AsType[*bpf.RecordError](err)
			if !ok {
				return fmt.Errorf("reading kernel events: %w", err)
			}
			a.logger.Warn("malformed kernel record; it counts as lost", "error", malformed)
			err = nil
		}
		if err == nil {
			err = a.giveBack(ctx)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil && !a.fresh {
			return a.stopWatching()
		}
		a.catchUp()
	}
}

// stopWatching logs what is left.
func (a *Agent) stopWatching() error {
	for _, p := range a.backlog {
		a.queue <- queued{program: p}
	}
	return a.logUnqueued()
}

// take takes in one event.
func (a *Agent) take(ev *bpf.Event) error {
	if ev.Kind == bpf.KindLost {
		a.resync = true
		return a.lose(ev.Lost.Cause.String(), ev.Lost.CPU, ev.Lost.Count)
	}
	who := instanceOf(ev.Process.Instance)
	spoilt := spoiltOf(ev)
	switch ev.Kind {
	case bpf.KindExec:
		e := execOf(ev)
		spoilt = append(spoilt, a.judge(&e, ev)...)
		p := newProgram(&e, ev.Program.CommString())
		a.table.exec(p)
		if err := a.enqueue(p); err != nil {
			return err
		}
	case bpf.KindFork:
		a.table.fork(who, instanceOf(ev.Parent), ev.CgroupID)
	case bpf.KindCgroup:
		a.table.moved(who, ev.CgroupID)
	case bpf.KindOpen:
		a.table.open(who, openedOf(&ev.Opened), ev.Time)
	case bpf.KindTaint:
		if ev.Process.PID == 0 {
			if ev.Taint == bpf.TaintBPFLoaded && a.table.runs(instanceOf(ev.By), uint32(os.Getpid())) {
				a.logger.Info("another juratd loads its sensor", "process", instanceOf(ev.By).String())
				return nil
			}
			return a.spoilHost(ev.Taint.Names(), ev.Hook.String(), ev)
		}
		if a.gate != nil && ev.Taint&(bpf.TaintNamespaceChanged|bpf.TaintMountedOver) != 0 {
			a.gate.Visit(ev.Process.Instance.PID)
		}
	}
	if ev.Process.OpensLost {
		a.table.overlook(who, reasonOpensLost)
	}
	if ev.Process.CredentialsChanged {
		a.table.alter(who)
	}
	if err := a.spoil(who, spoilt, ev.Time); err != nil {
		return err
	}
	if ev.Kind == bpf.KindExit {
		if a.gate != nil {
			a.gate.Forget(gateProcess(ev.Process.Instance))
		}
		return a.ended(who, ev)
	}
	return nil
}

// ended takes in that a process ended.
func (a *Agent) ended(who evidence.Instance, ev *bpf.Event) error {
	p := a.table.exit(who)
	if p == nil || p.full == nil {
		return nil
	}
	return a.append(&evidence.Entry{
		Kind: evidence.KindExit, At: ev.Time, Instance: &p.instance, Exit: &evidence.Exit{Code: ev.Status},
	})
}

// lose counts lost records before it logs them: no look and no checkpoint may
// miss one.
func (a *Agent) lose(cause string, cpu uint32, count uint64) error {
	a.epoch.Load().lost.Add(count)
	a.logger.Warn("kernel records lost", "cause", cause, "cpu", cpu, "count", count)
	return a.append(&evidence.Entry{
		Kind: evidence.KindLoss, At: a.boot(), Loss: &evidence.Loss{Cause: cause, CPU: cpu, Count: count},
	})
}

// enqueue has an exec measured. When nobody gets round to it, it is lost, and
// counted like any other loss; the entry about that follows in settle.
func (a *Agent) enqueue(p *program) error {
	select {
	case a.queue <- queued{p, a.batch}:
		a.batch.pending.Add(1)
		return nil
	default:
	}
	a.epoch.Load().lost.Add(1)
	a.unqueued++
	return nil
}

// settle runs when nothing is to be read: it logs what could not be queued,
// and looks for the processes whose records were lost.
func (a *Agent) settle() error {
	if err := a.logUnqueued(); err != nil {
		return err
	}
	if err := a.logAltered(); err != nil || !a.resync {
		return err
	}
	a.resync = false
	if err := a.snapshot(); err != nil {
		return fmt.Errorf("taking in the processes that run already: %w", err)
	}
	a.begun.Do(func() { close(a.watching) })
	return nil
}

// logUnqueued logs the execs for which the queue had no room.
func (a *Agent) logUnqueued() error {
	n := a.unqueued
	if n == 0 {
		return nil
	}
	a.unqueued = 0
	a.logger.Warn("execs not measured: the queue is full", "count", n)
	return a.append(&evidence.Entry{
		Kind: evidence.KindLoss, At: a.boot(), Loss: &evidence.Loss{Cause: causeFull, Count: n},
	})
}

// catchUp queues what a snapshot found, as far as it takes no room from what
// happens now.
func (a *Agent) catchUp() {
	for len(a.backlog) > 0 && len(a.queue) < queueLength/2 {
		a.queue <- queued{program: a.backlog[0]}
		a.backlog = a.backlog[1:]
	}
}

// snapshot takes in every process there is and forgets those that are gone.
func (a *Agent) snapshot() error {
	live := make(map[uint32]uint64)
	err := a.sensor.Snapshot(func(ev *bpf.Event) error {
		i := instanceOf(ev.Process.Instance)
		live[i.PID] = i.Start
		p, unknown := programOf(ev), reasonTakeover
		if ev.Process.Seen {
			unknown = reasonOlder
		}
		if a.table.seen(p, unknown) {
			a.backlog = append(a.backlog, p)
		}
		return a.spoil(i, spoiltOf(ev), ev.Time)
	})
	if err != nil {
		if errors.Is(err, bpf.ErrClosed) {
			return nil
		}
		return err
	}
	a.table.retain(live)
	return nil
}

// work measures queued execs and logs them until the queue is closed. After
// ctx has ended little is measured any more, but the kernel's facts are logged.
func (a *Agent) work(ctx context.Context) error {
	for q := range a.queue {
		if err := a.logExec(ctx, q.program); err != nil {
			return err
		}
		q.done()
	}
	return nil
}

// execPatience bounds the measurement of one exec: a file that takes longer,
// or stands behind one that does, must not hold up what the log says of others.
const execPatience = 2 * time.Second

func (a *Agent) logExec(ctx context.Context, p *program) error {
	ctx, cancel := context.WithTimeout(ctx, execPatience)
	defer cancel()
	e := p.exec()
	body := a.meter.Exec(ctx, &e)
	p.setFile(a.files.of(p.image, body.Exe))
	return a.append(&evidence.Entry{Kind: evidence.KindExec, At: e.At, Instance: &e.Instance, Exec: &body})
}

// append logs one entry. Nothing goes on when that fails.
func (a *Agent) append(e *evidence.Entry) error {
	e.Version = evidence.EntryVersion
	data, err := e.Marshal()
	if err != nil {
		return fmt.Errorf("log entry of kind %s: %w", e.Kind, err)
	}
	if _, _, err = a.log.Append(data); err != nil {
		return err
	}
	a.publish(e)
	return nil
}

// kernel is what package measure may ask the sensor.
type kernel struct {
	sensor Sensor
	table  *table
}

// State returns what the kernel holds of the process behind pidfd, and how
// much the table knows it to have opened.
func (k kernel) State(pidfd int) (measure.State, error) {
	s, err := k.sensor.State(pidfd)
	if err != nil {
		return measure.State{}, err
	}
	out := measure.State{Generation: s.Generation, Taints: taintsOf(s.Taints, 0), CredentialsChanged: s.CredentialsChanged}
	pid, err := peer.PID(pidfd)
	if err != nil {
		return out, nil // it has ended, which a look sees by itself
	}
	out.Opened, out.OpenedUnknown = k.table.openings(pid, s.Generation)
	return out, nil
}
