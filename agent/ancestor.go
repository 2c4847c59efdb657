// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import "github.com/jurat-dev/jurat/evidence"

// ancestor is a process as it was when it made another: which program it ran
// then. It stays when the process runs another program, or has ended.
type ancestor struct {
	instance evidence.Instance
	program  *program  // nil: it ran another one before anybody was told which
	maker    *ancestor // nil: the kernel, or not known
	depth    uint8     // how many are above it
	cut      bool      // there are more above it than are remembered
}

// maxDepth is how many ancestors are remembered. One that comes below them has
// as many again.
const maxDepth = 32

// ancestor returns p as those it makes remember it; the table's mu is held.
func (p *process) ancestor() *ancestor {
	if p.self == nil || p.self.maker == nil && p.maker != nil && !p.self.cut {
		p.self = &ancestor{instance: p.instance, program: p.program, maker: p.maker}
		if up := p.maker; up != nil && up.depth+1 < maxDepth {
			p.self.depth = up.depth + 1
		} else if up != nil {
			p.self.maker, p.self.cut = nil, true
		}
	}
	return p.self
}

// made returns the maker of what p forked when it was the instance i. The
// program of then is not known where p has called exec since, unseen. The
// table's mu is held.
func (p *process) made(i evidence.Instance) *ancestor {
	if p.instance.Generation == i.Generation {
		return p.ancestor()
	}
	then := *p.ancestor()
	then.instance, then.program = i, nil
	return &then
}

// ancestor returns what is known of a process that made another: at least how
// the kernel calls it. mu is held.
func (t *table) ancestor(i evidence.Instance) *ancestor {
	if p := t.find(i); p != nil {
		return p.made(i)
	}
	if i.PID == 0 {
		return nil
	}
	return &ancestor{instance: i}
}

// adopt finds the makers of processes that a snapshot showed: for those the
// parents that the kernel named then. A record of their fork that comes later
// knows better. The caller holds mu.
func (t *table) adopt() {
	var up func(p *process, depth int)
	up = func(p *process, depth int) {
		if p.maker != nil || p.instance.PID == 1 || depth > maxDepth {
			return
		}
		if p.program.instance != p.instance {
			return
		}
		if parent := t.find(p.program.parent); parent != nil && parent != p {
			up(parent, depth+1)
		}
		p.maker, p.adopted = t.ancestor(p.program.parent), true
	}
	for _, p := range t.processes {
		up(p, 0)
	}
}

// lineage returns who made the process, the nearest first, up to process 1;
// unknown says why somebody is missing. The table's mu is held.
func (p *process) lineage() (made []evidence.Ancestor, unknown string) {
	top := p.instance
	for at := p.maker; at != nil; at = at.maker {
		top = at.instance
		a := evidence.Ancestor{Instance: top, Digest: evidence.Unknown[evidence.Digest](reasonNotYet)}
		if at.program != nil {
			a.Path, _ = at.program.path()
			measured := at.program.measured()
			if f, ok := measured.Observed(); ok {
				a.Path, a.Digest = f.Path, f.Digest
			}
		}
		if made = append(made, a); at.cut {
			return nil, reasonTooMany
		}
	}
	if top.PID != 1 {
		return nil, reasonNoRecord
	}
	return made, ""
}

// reasonNoRecord is why the makers of a process are not known: the kernel's
// record of a fork was lost.
const reasonNoRecord = "no-kernel-record"
