// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"slices"
	"sync"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// maxProcesses bounds the table. A process beyond it is watched and logged as
// any other, but gets no credential.
const maxProcesses = 1 << 18

// process is one live process of this host.
type process struct {
	instance evidence.Instance
	origin   string
	program  *program
	cgroup   uint64         // it is in now
	opened   *openSet       // by the program; nil: nothing
	spoilt   []local.Spoilt // those the log knows of; never changed in place, forks share it
	maker    *ancestor      // who made it; nil: the kernel, or not known
	self     *ancestor      // what those it makes have as their maker; nil: none yet
	holder   *holder        // nil until it asks for a credential
	full     *fullMeasure   // nil: not measured in full
	altered  bool           // its credentials are not those of its exec
	adopted  bool           // maker is who was its parent when a snapshot showed it
}

// fullMeasure is what is kept of a full measurement. The exit of who has one
// is logged.
type fullMeasure struct {
	code *evidence.Hash // root of the manifest; nil: not known
}

// table is what the agent knows of the processes on this host, from the
// kernel's events alone. Exits are reaped. Everything a process holds
// (keys, tokens) hangs on its entry here and goes with it.
type table struct {
	mu        sync.Mutex // guards what follows
	processes map[uint32]*process
	holders   int // processes with a holder
	opens     int // references to opened files, shared ones counted once for each set
	unlogged  []spoiling
}

func newTable() *table { return &table{processes: make(map[uint32]*process)} }

// exec takes in that the process runs another program now. What the program
// before it held is gone, and what it opened is not the new one's.
func (t *table) exec(p *program) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &process{instance: p.instance, origin: evidence.OriginExec, program: p, cgroup: p.cgroupID}
	if old := t.processes[p.instance.PID]; old != nil && old.instance.SameProcess(p.instance) {
		if old.instance.Generation > p.instance.Generation {
			return // an old record, read after a snapshot
		}
		next.spoilt, next.maker, next.adopted = staying(old.spoilt, p.taints), old.maker, old.adopted
	} else {
		next.maker = t.ancestor(p.parent)
	}
	t.set(next)
}

// staying returns those taints that the kernel still names after an exec.
func staying(spoilt []local.Spoilt, names []string) []local.Spoilt {
	var out []local.Spoilt
	for _, s := range spoilt {
		if slices.Contains(names, s.Name) {
			out = append(out, s)
		}
	}
	return out
}

// seen takes in a process that a snapshot shows, and reports whether it was
// news. Where its exec is older than the sensor, or was not told in full,
// nobody knows what it opened: unknown says so.
func (t *table) seen(p *program, unknown string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.processes[p.instance.PID]
	if old != nil && old.instance.SameProcess(p.instance) && old.instance.Generation >= p.instance.Generation {
		return false
	}
	next := &process{instance: p.instance, origin: evidence.OriginExec, program: p, cgroup: p.cgroupID, opened: &openSet{unknown: unknown}}
	if p.seen {
		next.origin = evidence.OriginSeen
	}
	if old != nil && old.instance.SameProcess(p.instance) {
		next.maker, next.adopted = old.maker, old.adopted
	}
	return t.set(next)
}

// fork takes in a new process that runs what its parent runs.
func (t *table) fork(child, parent evidence.Instance, cgroup uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.processes[parent.PID]
	if from == nil || !from.instance.SameProcess(parent) {
		return // the next snapshot finds it
	}
	old := t.processes[child.PID]
	if old != nil && old.instance.SameProcess(child) {
		if old.maker == nil || old.adopted { // a snapshot was faster
			old.maker, old.adopted, old.self = from.made(parent), false, nil
		}
		return
	}
	if from.instance.Generation != parent.Generation {
		return // the parent runs something else by now
	}
	t.set(&process{
		instance: child, origin: evidence.OriginFork, program: from.program, cgroup: cgroup,
		opened: from.opened.share(), spoilt: from.spoilt, maker: from.ancestor(), altered: from.altered,
	})
}

// set stores p if there is room; the caller holds mu.
func (t *table) set(p *process) bool {
	old := t.processes[p.instance.PID]
	if old == nil && len(t.processes) >= maxProcesses {
		return false
	}
	t.drop(old)
	t.leave(old)
	t.processes[p.instance.PID] = p
	return true
}

// drop takes from a process what it holds; the caller holds mu.
func (t *table) drop(p *process) {
	if p != nil && p.holder != nil {
		p.holder.end()
		p.holder = nil
		t.holders--
	}
}

// leave gives back what a process that is no more had opened; the caller
// holds mu.
func (t *table) leave(p *process) {
	if p != nil {
		t.opens -= p.opened.release()
	}
}

// find returns the process that i is of; the caller holds mu.
func (t *table) find(i evidence.Instance) *process {
	if p := t.processes[i.PID]; p != nil && p.instance.SameProcess(i) {
		return p
	}
	return nil
}

// exit forgets the process and returns what it was; nil: not known.
func (t *table) exit(i evidence.Instance) *process {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.find(i)
	if p == nil {
		return nil
	}
	t.drop(p)
	t.leave(p)
	delete(t.processes, i.PID)
	return p
}

// spoil takes in what is held against a process. It returns the taints that
// are new; whatever the process held is gone if there are any.
func (t *table) spoil(i evidence.Instance, taints []local.Spoilt) []local.Spoilt {
	if len(taints) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.find(i)
	if p == nil {
		return nil
	}
	return t.stain(p, taints)
}

// stain notes taints of p and returns those that are new; the caller holds mu.
func (t *table) stain(p *process, taints []local.Spoilt) []local.Spoilt {
	var news []local.Spoilt
	for _, s := range taints {
		if !slices.ContainsFunc(p.spoilt, func(had local.Spoilt) bool { return had.Name == s.Name }) {
			news = append(news, s)
		}
	}
	if news != nil {
		p.spoilt = slices.Concat(p.spoilt, news)
		t.drop(p)
	}
	return news
}

// moved takes in that a process is in another cgroup: what it was given for
// being in the old one is gone.
func (t *table) moved(i evidence.Instance, cgroup uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.find(i); p != nil {
		p.cgroup = cgroup
		t.drop(p)
	}
}

// alter takes in that a process has other ids or capabilities than those its
// program began with: what it was given for those is gone.
func (t *table) alter(i evidence.Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.find(i); p != nil && !p.altered {
		p.altered = true
		t.drop(p)
	}
}

// retain forgets every process that is not among the live ones.
func (t *table) retain(live map[uint32]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, p := range t.processes {
		if start, ok := live[pid]; !ok || start != p.instance.Start {
			t.drop(p)
			t.leave(p)
			delete(t.processes, pid)
		}
	}
	t.adopt()
}

// facts returns what is known of the process with that pid, which the caller
// has to compare with the one it means.
func (t *table) facts(pid uint32) (measure.Facts, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[pid]
	if p == nil {
		return measure.Facts{}, false
	}
	f := measure.Facts{Instance: p.instance, Origin: p.origin, Exec: p.program.exec()}
	f.Opened, f.OpenedUnknown = p.opened.files()
	f.Lineage, f.LineageUnknown = p.lineage()
	return f, true
}

// logged notes that the instance has an entry of kind process.
func (t *table) logged(i evidence.Instance, measured *evidence.Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[i.PID]
	if p == nil || p.instance != i {
		return
	}
	p.full = new(fullMeasure)
	if m, ok := measured.Code.Observed(); ok {
		p.full.code = &m.Root
	}
}

// size returns how many processes are known, and how many hold a key.
func (t *table) size() (known, holders int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.processes), t.holders
}
