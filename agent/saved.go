// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// savedTable is the table as an agent that ends in good order leaves it to the
// next, which believes it if its sensor goes on with the very next record.
// What is shared stands once; numbers are places in the lists, -1: none.
type savedTable struct {
	BootID    evidence.Bytes
	Next      []uint64 // of each ring and CPU, the record that is to be read next
	Programs  []savedProgram
	Files     []savedFile
	Sets      []savedSet
	Ancestors []savedAncestor
	Processes []savedProcess
}

type savedProgram struct {
	Exec    measure.Exec
	Command string
	File    *evidence.Value[evidence.File]
}

type savedFile struct {
	File  measure.Inode
	Path  string
	Cut   bool
	Class string
}

type savedSet struct {
	Files   []int
	At      []uint64
	Unknown string
}

type savedAncestor struct {
	Instance evidence.Instance
	Program  int
	Maker    int
	Depth    uint8
	Cut      bool
}

type savedProcess struct {
	Instance evidence.Instance
	Origin   string
	Program  int
	Cgroup   uint64
	Set      int
	Spoilt   []local.Spoilt
	Maker    int
	Adopted  bool
	Altered  bool
}

// numbering gives each thing a place in a list, and the same to the same.
type numbering[K comparable, V any] struct {
	known map[K]int
	list  []V
}

func (n *numbering[K, V]) of(key K, value func() V) int {
	if at, ok := n.known[key]; ok {
		return at
	}
	if n.known == nil {
		n.known = make(map[K]int)
	}
	v := value() // may number others
	n.known[key] = len(n.list)
	n.list = append(n.list, v)
	return n.known[key]
}

// save returns what the table knows.
func (t *table) save() *savedTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	var programs numbering[*program, savedProgram]
	var files numbering[openedFile, savedFile]
	var sets numbering[*openSet, savedSet]
	var ancestors numbering[*ancestor, savedAncestor]
	program := func(p *program) int {
		if p == nil {
			return -1
		}
		return programs.of(p, func() savedProgram {
			p.mu.Lock()
			defer p.mu.Unlock()
			return savedProgram{Exec: p.exec(), Command: p.image.Value().command, File: p.file}
		})
	}
	set := func(s *openSet) int {
		if s == nil {
			return -1
		}
		return sets.of(s, func() savedSet {
			out := savedSet{Unknown: s.unknown}
			for _, o := range s.list {
				f := o.file.Value()
				out.Files = append(out.Files, files.of(f, func() savedFile { return savedFile{f.file, f.path, f.cut, f.class} }))
				out.At = append(out.At, o.at)
			}
			return out
		})
	}
	var lineage func(a *ancestor) int
	lineage = func(a *ancestor) int {
		if a == nil {
			return -1
		}
		return ancestors.of(a, func() savedAncestor {
			return savedAncestor{Instance: a.instance, Program: program(a.program), Maker: lineage(a.maker), Depth: a.depth, Cut: a.cut}
		})
	}
	out := new(savedTable)
	for _, p := range t.processes {
		out.Processes = append(out.Processes, savedProcess{
			Instance: p.instance, Origin: p.origin, Program: program(p.program), Cgroup: p.cgroup,
			Set: set(p.opened), Spoilt: p.spoilt, Maker: lineage(p.maker), Adopted: p.adopted, Altered: p.altered,
		})
	}
	out.Programs, out.Files, out.Sets, out.Ancestors = programs.list, files.list, sets.list, ancestors.list
	return out
}

// restore fills an empty table with what was saved.
func (t *table) restore(s *savedTable) error {
	if err := s.check(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	programs := make([]*program, len(s.Programs))
	for k := range s.Programs {
		programs[k] = newProgram(&s.Programs[k].Exec, s.Programs[k].Command)
		programs[k].file = s.Programs[k].File
	}
	sets := make([]*openSet, len(s.Sets))
	for k := range s.Sets {
		sets[k] = t.restoreSet(&s.Sets[k], s.Files)
	}
	ancestors := make([]*ancestor, len(s.Ancestors))
	for k := range s.Ancestors {
		a := &s.Ancestors[k]
		ancestors[k] = &ancestor{instance: a.Instance, depth: a.Depth, cut: a.Cut}
		if a.Program >= 0 {
			ancestors[k].program = programs[a.Program]
		}
		if a.Maker >= 0 {
			ancestors[k].maker = ancestors[a.Maker]
		}
	}
	for k := range s.Processes {
		p := &s.Processes[k]
		next := &process{instance: p.Instance, origin: p.Origin, program: programs[p.Program], cgroup: p.Cgroup, spoilt: p.Spoilt, adopted: p.Adopted, altered: p.Altered}
		if p.Set >= 0 {
			next.opened = sets[p.Set]
			next.opened.users++
		}
		if p.Maker >= 0 {
			next.maker = ancestors[p.Maker]
		}
		t.processes[p.Instance.PID] = next
	}
	return nil
}

// restoreSet makes a set that no process has yet; the caller holds mu.
func (t *table) restoreSet(s *savedSet, files []savedFile) *openSet {
	set := &openSet{unknown: s.Unknown, users: -1}
	for k, at := range s.Files {
		f := &files[at]
		set.list = append(set.list, newOpening(openedFile{f.File, f.Path, f.Cut, f.Class}, s.At[k]))
	}
	if len(set.list) > indexFrom {
		set.reindex()
	}
	t.opens += len(set.list)
	return set
}

// check sees that every number is a place in its list, an ancestor's maker
// stands before it, and nothing has more than a table holds.
func (s *savedTable) check() error {
	within := func(what string, at, from, to int) error {
		if at < from || at >= to {
			return fmt.Errorf("%s %d of %d", what, at, to)
		}
		return nil
	}
	var err error
	opens, used := 0, make([]bool, len(s.Sets))
	for k := range s.Sets {
		set := &s.Sets[k]
		if len(set.Files) != len(set.At) || len(set.Files) > maxOpened {
			err = errors.Join(err, fmt.Errorf("set %d of %d files at %d times", k, len(set.Files), len(set.At)))
		}
		opens += len(set.Files)
		for _, f := range set.Files {
			err = errors.Join(err, within("file", f, 0, len(s.Files)))
		}
	}
	for k := range s.Ancestors {
		a := &s.Ancestors[k]
		err = errors.Join(err, within("program", a.Program, -1, len(s.Programs)), within("maker", a.Maker, -1, k))
	}
	for k := range s.Processes {
		p := &s.Processes[k]
		set := within("set", p.Set, -1, len(s.Sets))
		err = errors.Join(err, set, within("program", p.Program, 0, len(s.Programs)), within("maker", p.Maker, -1, len(s.Ancestors)))
		if set == nil && p.Set >= 0 {
			used[p.Set] = true
		}
	}
	if slices.Contains(used, false) || opens > maxOpenedAll || len(s.Processes) > maxProcesses {
		err = errors.Join(err, fmt.Errorf("%d processes with %d opens in %d sets, or a set that is nobody's", len(s.Processes), opens, len(s.Sets)))
	}
	return err
}

// leave writes the table for the next agent, which goes on behind the records
// that this one was delivered.
func (a *Agent) leave() error {
	if err := a.release(); err != nil {
		return err
	}
	if a.facts.Pinned == nil || len(a.batches) > 0 || a.fresh {
		return nil // the next agent reads some of it again, and would have it twice
	}
	s := a.table.save()
	s.BootID = a.host.bootID
	for _, number := range a.facts.Pinned.Released() {
		s.Next = append(s.Next, number+1)
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("the table of processes: %w", err)
	}
	return writeFile(a.state, tableName, data)
}

// takeOver takes in what an agent before this one left, if nothing happened in
// between that neither of them was told. Its file is good for once.
func (a *Agent) takeOver() error {
	path := filepath.Join(a.state, tableName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return err
	}
	if a.facts.Next == nil {
		return nil
	}
	var s savedTable
	if err = json.Unmarshal(data, &s); err == nil && bytes.Equal(s.BootID, a.host.bootID) && slices.Equal(s.Next, a.facts.Next) {
		err = a.table.restore(&s)
	}
	if err != nil {
		a.logger.Warn("what the agent before knew of processes is not readable: who is older is unknown now", "file", path, "error", err)
	}
	return nil
}
