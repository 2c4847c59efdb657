// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"slices"
	"sync"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// maxProcesses bounds the table. A process beyond it is watched and logged as
// any other, but gets no credential.
const maxProcesses = 1 << 18

// program is what one or more processes run, from one exec. It does not
// change, but for the digest, which is measured after the fact.
type program struct {
	exec measure.Exec

	mu   sync.Mutex // guards file
	file evidence.Value[evidence.File]
}

func (p *program) setFile(f evidence.Value[evidence.File]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = f
}

func (p *program) measured() (evidence.File, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Get()
}

// process is one live process of this host.
type process struct {
	instance evidence.Instance
	origin   string
	program  *program
	taints   []string // those the log knows of
	holder   *holder  // nil until it asks for a credential
	entry    bool     // measured in full: its exit is logged
}

// table is what the agent knows of the processes on this host, from the
// kernel's events alone. Exits are reaped. Everything a process holds
// (keys, tokens) hangs on its entry here and goes with it.
type table struct {
	mu        sync.Mutex // guards what follows
	processes map[uint32]*process
	holders   int // processes with a holder
}

func newTable() *table { return &table{processes: make(map[uint32]*process)} }

// exec takes in that the process runs another program now. What the program
// before it held is gone.
func (t *table) exec(p *program) {
	t.put(&process{instance: p.exec.Instance, origin: evidence.OriginExec, program: p})
}

// seen takes in a process that ran already, and reports whether it was news.
func (t *table) seen(p *program) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.processes[p.exec.Instance.PID]
	if old != nil && old.instance.SameProcess(p.exec.Instance) && old.instance.Generation >= p.exec.Instance.Generation {
		return false
	}
	return t.set(&process{instance: p.exec.Instance, origin: evidence.OriginSeen, program: p})
}

// fork takes in a new process that runs what its parent runs.
func (t *table) fork(child, parent evidence.Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.processes[parent.PID]
	if from == nil || !from.instance.SameProcess(parent) {
		return // the next snapshot finds it
	}
	old := t.processes[child.PID]
	if old != nil && old.instance.SameProcess(child) {
		return // a snapshot was faster
	}
	if from.instance.Generation != parent.Generation {
		return // the parent runs something else by now
	}
	t.set(&process{instance: child, origin: evidence.OriginFork, program: from.program, taints: from.taints})
}

func (t *table) put(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.processes[p.instance.PID]; old != nil && old.instance.SameProcess(p.instance) {
		if old.instance.Generation > p.instance.Generation {
			return // an old record, read after a snapshot
		}
		p.taints = old.taints
	}
	t.set(p)
}

// set stores p if there is room; the caller holds mu.
func (t *table) set(p *process) bool {
	old := t.processes[p.instance.PID]
	if old == nil && len(t.processes) >= maxProcesses {
		return false
	}
	t.drop(old)
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

// exit forgets the process and reports whether it was measured in full, and
// which program of it.
func (t *table) exit(i evidence.Instance) (evidence.Instance, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[i.PID]
	if p == nil || !p.instance.SameProcess(i) {
		return i, false
	}
	t.drop(p)
	delete(t.processes, i.PID)
	return p.instance, p.entry
}

// spoil takes in what the kernel holds against a process. It returns the
// taints that are new; whatever the process held is gone if there are any.
func (t *table) spoil(i evidence.Instance, taints []string) []string {
	if len(taints) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[i.PID]
	if p == nil || !p.instance.SameProcess(i) {
		return nil
	}
	var news []string
	for _, name := range taints {
		if !slices.Contains(p.taints, name) {
			news = append(news, name)
		}
	}
	if news != nil {
		p.taints = slices.Concat(p.taints, news) // never in place: forks share it
		t.drop(p)
	}
	return news
}

// moved takes in that a process is in another cgroup: what it was given for
// being in the old one is gone.
func (t *table) moved(i evidence.Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.processes[i.PID]; p != nil && p.instance.SameProcess(i) {
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
			delete(t.processes, pid)
		}
	}
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
	return measure.Facts{Instance: p.instance, Origin: p.origin, Exec: p.program.exec}, true
}

// logged notes that the instance has an entry of kind process.
func (t *table) logged(i evidence.Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.processes[i.PID]; p != nil && p.instance == i {
		p.entry = true
	}
}

// Find returns what the live process i runs, for package measure. Its Start
// may be rounded down to clock ticks; its PidfdInode is 0 on old kernels.
func (t *table) Find(i evidence.Instance) (evidence.Ancestor, bool) {
	const tick = 10_000_000
	t.mu.Lock()
	p := t.processes[i.PID]
	t.mu.Unlock()
	switch {
	case p == nil || p.instance.Start-p.instance.Start%tick != i.Start-i.Start%tick:
		return evidence.Ancestor{}, false
	case i.PidfdInode != 0 && p.instance.PidfdInode != 0 && i.PidfdInode != p.instance.PidfdInode:
		return evidence.Ancestor{}, false
	}
	f, ok := p.program.measured()
	if !ok {
		return evidence.Ancestor{}, false
	}
	return evidence.Ancestor{Instance: p.instance, Path: f.Path, Digest: f.Digest}, true
}

// size returns how many processes are known, and how many hold a key.
func (t *table) size() (known, holders int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.processes), t.holders
}
