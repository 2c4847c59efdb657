// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import "github.com/jurat-dev/jurat/evidence"

// ancestor is a process as it was when it made another: which program it ran
// then. It stays when the process runs another program, or has ended.
type ancestor struct {
	instance evidence.Instance
	program  *program
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

// ancestor returns what is known of a process that made another; mu is held.
func (t *table) ancestor(i evidence.Instance) *ancestor {
	if p := t.find(i); p != nil {
		return p.ancestor()
	}
	return nil
}

// adopt finds the makers of processes that a snapshot showed: for those the
// parents that the kernel named. The caller holds mu.
func (t *table) adopt() {
	var up func(p *process, depth int)
	up = func(p *process, depth int) {
		if p.maker != nil || p.instance.PID == 1 || depth > maxDepth {
			return
		}
		parent := t.find(p.program.parent)
		if parent == nil || parent == p || p.program.instance != p.instance {
			return
		}
		up(parent, depth+1)
		p.maker = parent.ancestor()
	}
	for _, p := range t.processes {
		up(p, 0)
	}
}

// lineage returns who made the process, the nearest first, up to process 1 or
// to one that the kernel made. whole: nobody is missing.
func (t *table) lineage(i evidence.Instance) (made []evidence.Ancestor, whole bool) {
	t.mu.Lock()
	var up []*ancestor
	p := t.find(i)
	if p != nil {
		for at := p.maker; at != nil; at = at.maker {
			up = append(up, at)
		}
	}
	t.mu.Unlock()
	if p == nil {
		return nil, false
	}
	top, program := p.instance, p.program
	for _, at := range up {
		a := evidence.Ancestor{Instance: at.instance, Digest: evidence.Unknown[evidence.Digest](reasonNotYet)}
		a.Path, _ = at.program.path()
		measured := at.program.measured()
		if f, ok := measured.Observed(); ok {
			a.Path, a.Digest = f.Path, f.Digest
		}
		made, top, program = append(made, a), at.instance, at.program
	}
	kernels := program.parent.PID == 0 && program.instance.SameProcess(top)
	return made, top.PID == 1 || kernels
}
