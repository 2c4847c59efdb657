// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// subject is a process as the kernel identified it.
type subject struct {
	pidfd int
	uid   uint32
	facts measure.Facts
}

// credential obtains what the subject wants: from what it was given already,
// if it still is what it was then, or with fresh evidence.
func (a *Agent) credential(ctx context.Context, s *subject, w want) (*grantView, *local.Error) {
	h, err := a.table.hold(s.facts.Instance, a.random)
	if err != nil {
		return nil, faultOf(codeInternal, err)
	}
	g, err := h.grant(&w)
	if err != nil {
		return nil, faultOf(codeInternal, err)
	}
	if err := g.lock(ctx); err != nil {
		return nil, a.late(ctx)
	}
	defer g.unlock()
	if g.token != nil && !a.stillGood(ctx, s, g) {
		g.forget()
	}
	if g.token == nil {
		if f := a.issue(ctx, s, w, h.key, g); f != nil {
			return nil, f
		}
	}
	// An exec, an exit or a taint meanwhile has taken it away again.
	if !a.table.holds(s.facts.Instance, h) {
		return nil, fault(codeExec, "process %s ended, runs another program or was tainted", s.facts.Instance)
	}
	return &grantView{key: h.key, token: *g.token, expires: g.expires, audience: w.audience}, nil
}

// grantView is a credential on its way to who asked.
type grantView struct {
	key      *brokerclient.Key
	token    brokerclient.Token
	expires  time.Time
	audience string
}

// stillGood reports whether the token lives long enough, and whether a fresh
// look at the process shows what the look at its issuance did.
func (a *Agent) stillGood(ctx context.Context, s *subject, g *grant) bool {
	if g.epoch != a.epoch.Load() || g.expires.Sub(a.now()) <= minLeft || a.sensor.Barrier(ctx) != nil {
		return false
	}
	now := a.stateOf(s.pidfd, g.pins, s.facts.Instance)
	return difference(s.facts.Instance, &g.after, &now) == nil
}

// issue sends the subject through the stations and waits for its token.
func (a *Agent) issue(ctx context.Context, s *subject, w want, key *brokerclient.Key, g *grant) *local.Error {
	fd, err := unix.FcntlInt(uintptr(s.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fault(codeInternal, "duplicating a pidfd: %v", err)
	}
	v := &visit{ctx: ctx, pidfd: fd, uid: s.uid, facts: s.facts, want: w, key: key, done: make(chan struct{})}
	queue := a.desk.arrive()
	if err := a.measure(ctx, v); err != nil {
		queue(nil)
		v.close()
		return faultOf(codeInternal, err)
	}
	queue(v)
	select {
	case <-v.done:
	case <-ctx.Done():
		go func() { // whoever has it gives it back
			<-v.done
			v.close()
		}()
		return a.late(ctx)
	}
	if v.err != nil {
		v.close()
		f := faultOf(codeInternal, v.err)
		a.note(s.facts.Instance, "credential refused for %s: %v", w.audience, f)
		return f
	}
	g.holder.held.Add(1)
	a.note(s.facts.Instance, "credential issued for %s, txn %s", w.audience, v.token.Txn)
	g.token, g.expires, g.epoch = v.token, a.now().Add(v.token.ExpiresIn), v.epoch
	g.pins, g.after = v.pins, v.after
	v.pins = nil
	v.close()
	return nil
}

// late says why there was no answer in time.
func (a *Agent) late(ctx context.Context) *local.Error {
	if mood := a.mood.Load(); mood != nil && *mood != reachable && *mood != notContact {
		return fault(codeUnreachable, "%s", *mood)
	}
	return fault(codeDeadline, "no answer in time: %v", context.Cause(ctx))
}

// measure measures the visitor's process in full, writes that into the log,
// and tells the kernel, so that an exec from now on shows.
func (a *Agent) measure(ctx context.Context, v *visit) error {
	leave, err := a.meters.enter(ctx, v.uid, v.facts.Instance.PID)
	if err != nil {
		return a.late(ctx)
	}
	defer leave()
	if v.pins != nil {
		v.pins.Close()
		v.pins = nil
	}
	v.epoch = a.epoch.Load()
	i := v.facts.Instance
	if now, ok := a.table.facts(i.PID); ok && now.Instance == i {
		v.facts = now // it may have opened more
	}
	p, pins, err := a.meter.Process(ctx, v.pidfd, &v.facts)
	switch {
	case errors.Is(err, measure.ErrExited):
		return fault(codeExited, "%v", err)
	case errors.Is(err, measure.ErrChanged):
		return fault(codeExec, "%v", err)
	case err != nil:
		return fmt.Errorf("measuring process %s: %w", i, err)
	}
	v.pins = pins
	entry := evidence.Entry{Version: evidence.EntryVersion, Kind: evidence.KindProcess, At: p.Measured, Instance: &i, Process: p}
	if v.entry, err = entry.Marshal(); err != nil {
		return fault(codeTooLarge, "process %s: %v", i, err)
	}
	// One process must not spoil the bundle for the others in its batch.
	if _, err := evidence.ParseEntry(v.entry); err != nil {
		return fault(codeTooLarge, "process %s: %v", i, err)
	}
	if v.index, v.leaf, err = a.log.Append(v.entry); err != nil {
		return fault(codeLog, "%v", err)
	}
	a.table.logged(i, p)
	a.publish(&entry)
	same, err := a.sensor.MarkMeasured(v.pidfd, i.Generation)
	if err != nil {
		return fault(codeSensor, "%v", err)
	}
	if !same {
		return fault(codeExec, "process %s runs another program now", i)
	}
	return nil
}

// remeasure measures again who was measured in an epoch that is over.
func (a *Agent) remeasure(ctx context.Context, e *epoch, batch []*visit) []*visit {
	var kept []*visit
	for _, v := range batch {
		if v.epoch != e {
			if err := a.measure(v.ctx, v); err != nil {
				v.finish(nil, faultOf(codeInternal, err))
				continue
			}
		}
		kept = append(kept, v)
	}
	return kept
}
