// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// lookers is how many processes are looked at at once.
const lookers = 4

// look has a look at every visitor's process and returns those for whom keep
// says to go on; the others have their error.
func (a *Agent) look(batch []*visit, keep func(*visit, evidence.State) *local.Error) []*visit {
	var group sync.WaitGroup
	places := make(chan struct{}, lookers)
	failed := make([]bool, len(batch))
	for i, v := range batch {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if f := keep(v, a.stateOf(v.pidfd, v.pins, v.facts.Instance)); f != nil {
				failed[i] = true
				v.finish(nil, f)
			}
		})
	}
	group.Wait()
	var kept []*visit
	for i, v := range batch {
		if !failed[i] {
			kept = append(kept, v)
		}
	}
	return kept
}

// stateOf is one look at a process, with what only the agent knows: the losses
// of the epoch, and whether the kernel still calls this very generation
// measured. Call Barrier before it.
func (a *Agent) stateOf(pidfd int, pins *measure.Pins, i evidence.Instance) evidence.State {
	s := a.lookAt(pidfd, pins, i)
	kernel, err := a.sensor.State(pidfd)
	switch {
	case errors.Is(err, bpf.ErrNoState) && !s.Alive: // ended
	case err != nil:
		s.Taints = append(s.Taints, "state-unreadable")
	case kernel.Generation != i.Generation:
		s.Generation = kernel.Generation
	case !kernel.Measured:
		s.Taints = append(s.Taints, "unmeasured")
	}
	return s
}

// lookAt is a look without regard to whether the process was measured: with
// the losses of the epoch, and what spoilt the host or, as only the agent
// knows, the process.
func (a *Agent) lookAt(pidfd int, pins *measure.Pins, i evidence.Instance) evidence.State {
	s := a.meter.Look(pidfd, pins)
	s.Lost = a.epoch.Load().lost.Load()
	names := append([]string{}, s.Taints...)
	for _, name := range slices.Concat(a.table.taints(i), a.spoilt.names()) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	s.Taints = names
	return s
}

// maxAgain is how often a visit is measured again because its process loads
// more while it is measured.
const maxAgain = 3

// firstLook has the first look at everybody. A process that mapped or opened
// more code since it was measured, or is in another place or of another user,
// is measured again, in the hope that it has everything now.
func (a *Agent) firstLook(ctx context.Context, batch []*visit) ([]*visit, error) {
	for range maxAgain {
		batch = a.look(batch, (*visit).first)
		var behind []*visit
		for _, v := range batch {
			if v.behind() {
				behind = append(behind, v)
			}
		}
		if len(behind) == 0 {
			return batch, nil
		}
		failed := make(map[*visit]bool)
		for k, err := range a.measureAll(behind) {
			if err != nil {
				failed[behind[k]] = true
				behind[k].finish(nil, faultOf(codeInternal, err))
			}
		}
		batch = slices.DeleteFunc(batch, func(v *visit) bool { return failed[v] })
		if err := a.sensor.Barrier(ctx); err != nil {
			return batch, fault(codeSensor, "%v", err)
		}
	}
	return a.look(batch, (*visit).first), nil
}

// measureAll measures visits again, several at once.
func (a *Agent) measureAll(batch []*visit) []error {
	errs := make([]error, len(batch))
	var group sync.WaitGroup
	for k, v := range batch {
		group.Go(func() { errs[k] = a.measure(v.ctx, v) })
	}
	group.Wait()
	return errs
}

// behind reports whether the first look showed more than was measured, and
// not just what another measurement has shown already not to be measurable.
func (v *visit) behind() bool {
	more, _ := v.before.Unmeasured.Get()
	moved, _ := v.before.Changed.Get()
	shown := fmt.Sprint(more, moved)
	if more == 0 && len(moved) == 0 || shown == v.shown {
		return false
	}
	v.shown = shown
	return true
}

// first notes the look before the quote. A process that is tainted, traced or
// changed goes on: it is the broker that says no to it, and keeps record of
// that. One that is gone cannot be answered.
func (v *visit) first(s evidence.State) *local.Error {
	v.before = s
	if !s.Alive {
		return fault(codeExited, "process %s ended before its evidence was made", v.facts.Instance)
	}
	if s.Generation != v.facts.Instance.Generation {
		return fault(codeExec, "process %s runs another program now (generation %d)", v.facts.Instance, s.Generation)
	}
	return nil
}

// second notes the look after the quote, and refuses to release evidence about
// a process that is not what it was before.
func (v *visit) second(s evidence.State) *local.Error {
	v.after = s
	return difference(v.facts.Instance, &v.before, &s)
}

// difference says in what a process is not any more what it was at an earlier
// look; nil: in nothing.
func difference(i evidence.Instance, before, after *evidence.State) *local.Error {
	switch {
	case !after.Alive:
		return fault(codeExited, "process %s ended meanwhile", i)
	case after.Generation != before.Generation:
		return fault(codeExec, "process %s runs another program now (generation %d, was %d)", i, after.Generation, before.Generation)
	case !slices.Equal(before.Taints, after.Taints):
		return fault(codeTaint, "process %s was tainted meanwhile: %s", i, strings.Join(after.Taints, ", "))
	case before.Lost != after.Lost:
		return fault(codeLoss, "%d kernel records were lost meanwhile: ask again", after.Lost-before.Lost)
	}
	if f := changed(codeUnmeasured, i, "mapped or opened files that are not measured", before.Unmeasured, after.Unmeasured); f != nil {
		return f
	}
	if f := changed(codePrivate, i, "privately copied executable pages", before.Private, after.Private); f != nil {
		return f
	}
	if f := changed(codeTraced, i, "tracer", before.Tracer, after.Tracer); f != nil {
		return f
	}
	if f := changed(codeContext, i, "changed since the measurement", before.Changed, after.Changed); f != nil {
		return f
	}
	if list := after.Missing.String(); list != before.Missing.String() {
		return fault(unknownOr(codeChanged, after.Missing), "process %s: measured files that changed: %s, were %s", i, list, before.Missing)
	}
	return nil
}

func changed[T any](code string, i evidence.Instance, what string, before, after evidence.Value[T]) *local.Error {
	if before.String() == after.String() {
		return nil
	}
	return fault(unknownOr(code, after), "process %s: %s: %s, was %s", i, what, after, before)
}

// unknownOr returns code, or codeUnknown where nothing could be seen at all.
func unknownOr[T any](code string, v evidence.Value[T]) string {
	if _, seen := v.Observed(); !seen {
		return codeUnknown
	}
	return code
}
