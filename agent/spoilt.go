// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"slices"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// howKernel is how a taint was seen that came with another record, or with a
// state that a fork handed on: which hook set it the kernel does not keep.
const howKernel = "kernel"

// spoiltOf returns what an event says against its process.
func spoiltOf(ev *bpf.Event) []local.Spoilt {
	if ev.Process.Taints == 0 && !ev.Flags.Has(bpf.FlagNoState) {
		return nil
	}
	set := ev.Taint.Names()
	var out []local.Spoilt
	for _, name := range taintsOf(ev.Process.Taints|ev.Taint, ev.Flags) {
		s := local.Spoilt{Name: name, At: ev.Time, How: howKernel}
		if ev.Kind == bpf.KindTaint && slices.Contains(set, name) {
			s.How, s.By = ev.Hook.String(), actor(ev)
		}
		out = append(out, s)
	}
	return out
}

// actor returns who did what an event tells; nil: not known.
func actor(ev *bpf.Event) *evidence.Instance {
	if ev.By.PID == 0 {
		return nil
	}
	i := instanceOf(ev.By)
	return &i
}

// spoil logs those of the taints that were not known of the process, which
// loses what it holds.
func (a *Agent) spoil(who evidence.Instance, taints []local.Spoilt, at uint64) error {
	for _, s := range a.table.spoil(who, taints) {
		if err := a.logTaint(&who, &s, at); err != nil {
			return err
		}
	}
	return nil
}

// logTaint counts a taint and logs it; who is nil for the host.
func (a *Agent) logTaint(who *evidence.Instance, s *local.Spoilt, at uint64) error {
	a.epoch.Load().taints.Add(1)
	attrs := []any{"taint", s.Name, "how", s.How}
	if who != nil {
		attrs = append(attrs, "process", who.String(), "program", a.table.pathOf(*who))
	}
	if s.By != nil {
		attrs = append(attrs, "by", s.By.String(), "by_program", a.table.pathOf(*s.By))
	}
	a.logger.Warn("tainted", attrs...)
	return a.append(&evidence.Entry{
		Kind: evidence.KindTaint, At: at, Instance: who, Taint: &evidence.Taint{Name: s.Name, How: s.How, By: s.By},
	})
}

// spoiling is a taint that is in the table and not in the log yet.
type spoiling struct {
	who   evidence.Instance
	taint local.Spoilt
}

// taintWritten is the taint of who uses a file that was changed after it was
// measured.
const taintWritten = "written-after-measurement"

// altered takes in that a file is not what was measured any more: whoever runs
// it or has opened it loses what it holds. The log follows in settle.
func (t *table) altered(file evidence.FileID, at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.processes {
		if !p.uses(file) {
			continue
		}
		for _, s := range t.stain(p, []local.Spoilt{{Name: taintWritten, At: at, How: "file"}}) {
			t.unlogged = append(t.unlogged, spoiling{p.instance, s})
		}
	}
}

// uses reports whether p runs, or its program has opened, that version of a
// file.
func (p *process) uses(f evidence.FileID) bool {
	i := p.program.image.Value()
	for _, file := range []*measure.Inode{&i.exe, &i.text, &i.script} {
		if fileID(file) == f {
			return true
		}
	}
	return p.opened != nil && p.opened.has(f)
}

// logAltered logs the taints that altered found.
func (a *Agent) logAltered() error {
	a.table.mu.Lock()
	found := a.table.unlogged
	a.table.unlogged = nil
	a.table.mu.Unlock()
	for _, s := range found {
		if err := a.logTaint(&s.who, &s.taint, s.taint.At); err != nil {
			return err
		}
	}
	return nil
}

// pathOf returns what the process runs, for people.
func (t *table) pathOf(i evidence.Instance) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.find(i)
	if p == nil {
		return "?"
	}
	path, _ := p.program.path()
	return path
}

// taints returns the names of what is held against the process.
func (t *table) taints(i evidence.Instance) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.find(i)
	if p == nil {
		return nil
	}
	names := make([]string, len(p.spoilt))
	for k, s := range p.spoilt {
		names[k] = s.Name
	}
	return names
}
