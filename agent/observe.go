// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// maxListed bounds what one answer lists, in bytes: what texts take once they
// are JSON is reckoned at its worst, six bytes for one. A process with a long
// path must not hide the others.
const maxListed = local.MaxAnswer - 1<<20

// What one element of a list takes beside its texts, and one taint, at most.
const (
	listedFrame = 900
	taintFrame  = 400
)

func textSize(texts ...string) int {
	n := 0
	for _, t := range texts {
		n += 6*len(t) + 3
	}
	return n
}

// list returns the processes of the table by pid, as copies: what they point
// to is shared and does not change.
func (t *table) list() []process {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]process, 0, len(t.processes))
	for _, p := range t.processes {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(x, y process) int { return cmp.Compare(x.instance.PID, y.instance.PID) })
	return out
}

// processes answers OpProcesses: those from a pid on.
func (a *Agent) processes(from uint32) *local.Processes {
	all := a.table.list()
	first, _ := slices.BinarySearchFunc(all, from, func(p process, pid uint32) int { return cmp.Compare(p.instance.PID, pid) })
	out := &local.Processes{Processes: []local.Process{}}
	size := 0
	for k := range all[first:] {
		s := a.summary(&all[first+k])
		size += listedFrame + textSize(s.Arguments...) + textSize(s.Path, s.Script, s.Command, s.Cgroup, s.Unit, s.Container) + taintFrame*len(s.Taints)
		if size > maxListed {
			out.More = true
			break
		}
		out.Processes = append(out.Processes, s)
	}
	return out
}

// summary is a process in one line.
func (a *Agent) summary(p *process) local.Process {
	s := local.Process{
		Instance: p.instance, Parent: p.program.parent, Origin: p.origin, At: a.wall(p.program.at) / int64(time.Second),
		UID: p.program.creds.Value().UID, Command: p.program.image.Value().command, Taints: p.spoilt, Holds: p.holder.holds(),
	}
	if p.maker != nil {
		s.Parent = p.maker.instance
	}
	if p.program.seen {
		s.At = a.wall(p.instance.Start) / int64(time.Second)
	}
	if s.Taints == nil {
		s.Taints = []local.Spoilt{}
	}
	s.Path, s.Script = p.program.path()
	if p.program.arguments != "" {
		s.Arguments = strings.Split(strings.TrimSuffix(p.program.arguments, "\x00"), "\x00")
	}
	place := a.meter.Place(p.cgroup)
	s.Cgroup, s.Unit, s.Container = place.Cgroup, place.Unit, place.Container
	measured := p.program.measured()
	s.Digest = evidence.Unknown[evidence.Digest](cmp.Or(measured.Reason(), reasonNotYet))
	if f, ok := measured.Observed(); ok {
		s.Path, s.Digest = f.Path, f.Digest
	}
	if p.full != nil {
		s.Code = p.full.code
	}
	s.Standing = standingOf(p, &s)
	return s
}

// standingOf is what an operator looks at first.
func standingOf(p *process, s *local.Process) string {
	_, known := s.Digest.Get()
	switch {
	case len(p.spoilt) > 0 || len(s.Digest.Taints()) > 0:
		return local.StandingTainted
	case p.full != nil:
		return local.StandingMeasured
	case !known:
		return local.StandingUnknown
	case p.origin == evidence.OriginSeen:
		return local.StandingSeen
	}
	return local.StandingKnown
}

// measurements answers OpMeasurements.
func (a *Agent) measurements() *local.Measurements {
	out := &local.Measurements{Files: []local.Measured{}}
	for f := range a.meter.Cached {
		f.Digest.Source = evidence.SourceRead // how it was obtained; that it is kept now goes without saying
		out.Files = append(out.Files, local.Measured{
			Path: f.Path, ID: f.ID, Digest: evidence.Known(f.Digest), FirstSeen: f.First.Unix(), LastUsed: f.Used.Unix(), Uses: f.Uses,
		})
	}
	slices.SortFunc(out.Files, func(x, y local.Measured) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.ID.Device, y.ID.Device), cmp.Compare(x.ID.Inode, y.ID.Inode))
	})
	size := 0
	for k := range out.Files {
		if size += listedFrame + textSize(out.Files[k].Path); size > maxListed {
			out.Files, out.More = out.Files[:k], true
			break
		}
	}
	return out
}

// explain answers OpExplain: the process is measured as for a credential, but
// nothing is logged and the kernel is not told.
func (a *Agent) explain(ctx context.Context, pid uint32) (*local.Explanation, *local.Error) {
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return nil, fault(codeExited, "process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	s, f := a.identify(ctx, fd, 0, pid, 0)
	if f != nil {
		return nil, f
	}
	leave, err := a.meters.enter(ctx, 0, pid)
	if err != nil {
		return nil, a.late(ctx)
	}
	defer leave()
	p, pins, err := a.meter.Process(ctx, fd, &s.facts)
	switch {
	case errors.Is(err, measure.ErrExited):
		return nil, fault(codeExited, "%v", err)
	case errors.Is(err, measure.ErrChanged):
		return nil, fault(codeExec, "%v", err)
	case err != nil:
		return nil, fault(codeInternal, "measuring process %s: %v", s.facts.Instance, err)
	}
	defer pins.Close()
	if err := a.sensor.Barrier(ctx); err != nil {
		return nil, fault(codeSensor, "%v", err)
	}
	out := &local.Explanation{Process: p, State: a.lookAt(fd, pins, s.facts.Instance), Signals: a.facts.Signals, Tier: a.facts.Tier, Models: a.hashing()}
	summary, ok := a.table.copyOf(s.facts.Instance)
	if !ok {
		return nil, fault(codeExited, "process %s ended while it was measured", s.facts.Instance)
	}
	out.Summary = a.summary(&summary)
	return out, nil
}

// hashing says of each large file that is being hashed how far that is.
func (a *Agent) hashing() []string {
	var out []string
	for _, h := range a.meter.Hashing() {
		percent := 100.0
		if h.Total > 0 {
			percent = 100 * float64(h.Done) / float64(h.Total)
		}
		out = append(out, fmt.Sprintf("%s: %.0f %% of %d MiB", h.Path, percent, h.Total>>20))
	}
	return out
}

// copyOf returns the process as it is now, if it is still that instance.
func (t *table) copyOf(i evidence.Instance) (process, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.processes[i.PID]; p != nil && p.instance == i {
		return *p, true
	}
	return process{}, false
}
