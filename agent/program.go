// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"slices"
	"sync"
	"unique"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// program is what one or more processes run, from one exec. It does not
// change, but for the digest, which is measured after the fact. What many
// execs have in common is kept once.
type program struct {
	image    unique.Handle[image]
	creds    unique.Handle[evidence.Credentials]
	spaces   unique.Handle[evidence.Namespaces]
	instance evidence.Instance
	parent   evidence.Instance

	at, record, cgroupID uint64
	argumentsSize        uint64
	arguments            string
	argumentsRead        bool
	seen                 bool
	variables            variables
	cpu                  uint32
	taints               []string       // at the exec; nil: none
	held                 []measure.Held // by the gate, for this exec

	mu   sync.Mutex // guards file
	file *evidence.Value[evidence.File]
}

// image is the part of an exec that every exec of the same file shares.
type image struct {
	filename, interpreter, command string
	cut                            bool
	exe, text, script              measure.Inode
	kernel                         measure.KernelDigest
}

// variables are those of the loader that were set at exec.
type variables uint8

// In the order in which measure.Exec lists them.
var loaderVariables = [...]string{"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"}

const variablesRead variables = 1 << 7

// newProgram keeps an exec. command is what the process is called.
func newProgram(e *measure.Exec, command string) *program {
	p := &program{
		image: unique.Make(image{
			filename: e.Filename, interpreter: e.Interpreter, command: command, cut: e.Cut,
			exe: settled(e.Exe), text: settled(e.Text), script: settled(e.Script), kernel: e.Kernel,
		}),
		creds: unique.Make(e.Credentials), spaces: unique.Make(e.Namespaces), instance: e.Instance, parent: e.Parent,
		at: e.At, record: e.Record, cpu: e.CPU, cgroupID: e.CgroupID, seen: e.Seen,
		arguments: string(e.Arguments), argumentsRead: e.Arguments != nil, argumentsSize: e.ArgumentsSize,
		held: e.Held,
	}
	if len(e.Taints) > 0 {
		p.taints = e.Taints
	}
	for bit, name := range loaderVariables {
		if slices.Contains(e.Variables, name) {
			p.variables |= 1 << bit
		}
	}
	if e.VariablesRead {
		p.variables |= variablesRead
	}
	return p
}

// settled leaves of a file's count of writers what it says: with each process
// that runs the file it falls by one.
func settled(i measure.Inode) measure.Inode {
	i.Writers = min(1, max(-1, i.Writers))
	return i
}

// exec returns the exec as it was told, but for the exact count of writers.
func (p *program) exec() measure.Exec {
	i := p.image.Value()
	e := measure.Exec{
		At: p.at, CPU: p.cpu, Record: p.record, Seen: p.seen, Instance: p.instance, Parent: p.parent,
		Filename: i.filename, Interpreter: i.interpreter, Cut: i.cut, Exe: i.exe, Text: i.text, Script: i.script, Kernel: i.kernel, Held: p.held,
		Credentials: p.creds.Value(), Namespaces: p.spaces.Value(), CgroupID: p.cgroupID,
		ArgumentsSize: p.argumentsSize, VariablesRead: p.variables&variablesRead != 0, Taints: []string{},
	}
	if p.argumentsRead {
		e.Arguments = []byte(p.arguments)
	}
	if p.taints != nil {
		e.Taints = p.taints
	}
	for bit, name := range loaderVariables {
		if p.variables&(1<<bit) != 0 {
			e.Variables = append(e.Variables, name)
		}
	}
	return e
}

// path is where the kernel found the executable, and script what names it as
// its interpreter: hints.
func (p *program) path() (path, script string) {
	i := p.image.Value()
	if i.interpreter != "" && i.interpreter != i.filename {
		return i.interpreter, i.filename
	}
	return i.filename, ""
}

// programOf keeps an event of kind exec or seen.
func programOf(ev *bpf.Event) *program {
	e := execOf(ev)
	return newProgram(&e, ev.Program.CommString())
}

func (p *program) setFile(f *evidence.Value[evidence.File]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = f
}

// measured returns the executable with its digest, as far as that is known.
func (p *program) measured() evidence.Value[evidence.File] {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return evidence.Unknown[evidence.File](reasonNotYet)
	}
	return *p.file
}

// reasonNotYet is why what is being measured has no digest.
const reasonNotYet = "not-collected"

// files keeps one copy of what a file was measured to be, however many execs
// of it there are.
type files struct {
	mu    sync.Mutex // guards known
	known map[unique.Handle[image]]*evidence.Value[evidence.File]
}

// maxFiles is how many measured executables are kept once.
const maxFiles = 4096

// of returns the copy of f.
func (s *files) of(i unique.Handle[image], f evidence.Value[evidence.File]) *evidence.Value[evidence.File] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.known[i]; old != nil && sameFile(old, &f) {
		return old
	}
	if s.known == nil || len(s.known) >= maxFiles {
		s.known = make(map[unique.Handle[image]]*evidence.Value[evidence.File])
	}
	s.known[i] = &f
	return &f
}

// sameFile reports whether two measurements say the same.
func sameFile(x, y *evidence.Value[evidence.File]) bool {
	a, known := x.Observed()
	b, also := y.Observed()
	if known != also || !slices.Equal(x.Taints(), y.Taints()) || x.Reason() != y.Reason() || a.Path != b.Path || a.ID != b.ID {
		return false
	}
	d, known := a.Digest.Observed()
	e, also := b.Digest.Observed()
	return known == also && slices.Equal(a.Digest.Taints(), b.Digest.Taints()) && a.Digest.Reason() == b.Digest.Reason() &&
		d.Algorithm == e.Algorithm && d.Source == e.Source && bytes.Equal(d.Value, e.Value)
}
