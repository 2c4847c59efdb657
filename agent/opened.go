// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"unique"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// How much is remembered of opened files. Beyond it they are unknown.
const (
	maxOpened    = 1 << 12 // files of one program
	maxOpenedAll = 1 << 18 // of all, those that forks share counted once
	indexFrom    = 256     // from how many files on a set has an index
)

// Why it is not known what a program opened.
const (
	reasonOlder     = "older-than-sensor" // its exec was not watched
	reasonTakeover  = "restart"           // it is older than an agent that took over from one that was killed
	reasonOpensLost = "opens-lost"        // a record of the kernel was lost
	reasonTooMany   = "too-many"
)

// openedFile is a file as programs opened it: the same for all who did.
type openedFile struct {
	file  measure.Inode
	path  string
	cut   bool
	class string
}

// opening is one file in a set.
type opening struct {
	file unique.Handle[openedFile]
	at   uint64 // nanoseconds since boot
}

// openSet is what a program opened, one for each version of a file. Forks
// share it until one of them opens something else. Its methods take nil for a
// set of nothing.
type openSet struct {
	list    []opening
	index   map[evidence.FileID]struct{} // nil while list is short
	users   int                          // processes with this set, less one
	unknown string                       // why something may be missing; "": nothing is
}

// fileID names one version of a file.
func fileID(i *measure.Inode) evidence.FileID {
	return evidence.FileID{Device: i.Device, Inode: i.Inode, Ctime: i.Ctime, Size: i.Size}
}

func newOpening(f openedFile, at uint64) opening {
	f.file = settled(f.file)
	return opening{unique.Make(f), at}
}

// share returns the set for one process more.
func (s *openSet) share() *openSet {
	if s != nil {
		s.users++
	}
	return s
}

// release takes the set from a process and returns how many references went
// with it.
func (s *openSet) release() int {
	if s == nil {
		return 0
	}
	if s.users > 0 {
		s.users--
		return 0
	}
	return len(s.list)
}

// files returns what is in the set, in the order of the first opens.
func (s *openSet) files() (opened []measure.OpenedFile, unknown string) {
	if s == nil {
		return nil, ""
	}
	opened = make([]measure.OpenedFile, len(s.list))
	for k, o := range s.list {
		f := o.file.Value()
		opened[k] = measure.OpenedFile{At: o.at, File: f.file, Path: f.path, Cut: f.cut, Class: f.class}
	}
	return opened, s.unknown
}

func (s *openSet) has(v evidence.FileID) bool {
	if s.index != nil {
		_, ok := s.index[v]
		return ok
	}
	for k := range s.list {
		f := s.list[k].file.Value().file
		if fileID(&f) == v {
			return true
		}
	}
	return false
}

// own returns a set that is p's alone; the caller holds the table's mu.
func (t *table) own(p *process) *openSet {
	switch s := p.opened; {
	case s == nil:
		p.opened = new(openSet)
	case s.users > 0:
		s.users--
		p.opened = &openSet{list: append(make([]opening, 0, len(s.list)+4), s.list...), unknown: s.unknown}
		t.opens += len(s.list)
		if s.index != nil {
			p.opened.reindex()
		}
	}
	return p.opened
}

func (s *openSet) reindex() {
	s.index = make(map[evidence.FileID]struct{}, 2*len(s.list))
	for k := range s.list {
		f := s.list[k].file.Value().file
		s.index[fileID(&f)] = struct{}{}
	}
}

// open takes in that the program of i opened a file.
func (t *table) open(i evidence.Instance, f openedFile, at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[i.PID]
	if p == nil || p.instance != i {
		return // of a program that is over, or one the next snapshot finds
	}
	v := fileID(&f.file)
	if p.opened != nil && (p.opened.has(v) || p.opened.unknown == reasonTooMany) {
		return
	}
	s := t.own(p)
	if len(s.list) >= maxOpened || t.opens >= maxOpenedAll {
		s.unknown = reasonTooMany
		return
	}
	s.list = append(s.list, newOpening(f, at))
	t.opens++
	switch {
	case s.index != nil:
		s.index[v] = struct{}{}
	case len(s.list) > indexFrom:
		s.reindex()
	}
}

// overlook takes in that at least one file that i opened was not told.
func (t *table) overlook(i evidence.Instance, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.find(i); p != nil && (p.opened == nil || p.opened.unknown == "") {
		t.own(p).unknown = reason
	}
}

// openings returns how many files the program has opened that the process runs
// at that generation, and why it may have opened more.
func (t *table) openings(pid, generation uint32) (count int, unknown string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[pid]
	switch {
	case p == nil || p.instance.Generation != generation:
		return 0, reasonOpensLost
	case p.opened == nil:
		return 0, ""
	}
	return len(p.opened.list), p.opened.unknown
}
