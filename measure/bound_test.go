// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// started runs a script that says "ready", as the kernel runs it.
func started(t testing.TB) (*process, *Facts, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run")
	write(t, path, []byte("#!/bin/bash\n"+shellScript))
	p := start(t, exec.Command(path))
	f := p.facts(t)
	f.Exec.Filename, f.Exec.Interpreter = path, "/bin/bash"
	return p, f, path
}

// swap puts another file in the script's place.
func swap(t testing.TB, path string) {
	t.Helper()
	write(t, path+".new", []byte("#!/bin/bash\n"+shellScript+"# another\n"))
	try(t, os.Rename(path+".new", path))
}

// The kernel's record of the script decides which file it was.
func TestScriptBoundByKernel(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p, f, path := started(t)
	f.Exec.Script = inode(t, path)
	f.Exec.Script.Writers = 0
	f.Exec.Namespaces.Mount = 1 // the file was found by its inode: where its name leads is no matter
	s := value(t, scriptOf(t, m, p, f))
	if s.Bound != evidence.BoundKernel || known(t, s.File.Digest) != sumOf(t, path) {
		t.Errorf("script is %+v", s)
	}
	f.Exec.Namespaces.Mount = 0

	f.Exec.Script.Writers = 1
	if s := value(t, scriptOf(t, m, p, f)); !slices.Equal(s.File.Digest.Taints(), []string{taintWriters}) {
		t.Errorf("open for writing at the exec: %v", s.File.Digest)
	}
	f.Exec.Script.Writers = 0
	write(t, path, []byte("#!/bin/bash\n"+shellScript+"# changed\n"))
	if v := scriptOf(t, m, p, f); !slices.Equal(v.Taints(), []string{taintChanged}) {
		t.Errorf("a script changed since: %v", v)
	}
	swap(t, path)
	if v := scriptOf(t, m, p, f); v.Reason() != reasonReplaced {
		t.Errorf("another file by that name: %v", v)
	}
	try(t, os.Remove(path))
	if v := scriptOf(t, m, p, f); v.Reason() != reasonNotFound {
		t.Errorf("no file by that name: %v", v)
	}
}

// The gate held the script before it ran.
func TestScriptBoundByGate(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p, f, path := started(t)
	fd, err := os.Open(path)
	try(t, err)
	defer fd.Close()
	held := Held{Script: true}
	held.ID, held.Digest = m.Digest(t.Context(), int(fd.Fd()))
	f.Exec.Held = []Held{held, {ID: f.Exec.Exe.id()}}
	if s := value(t, scriptOf(t, m, p, f)); s.Bound != evidence.BoundGate || known(t, s.File.Digest) != sumOf(t, path) {
		t.Errorf("script is %+v", s)
	}
	sum := sha256.Sum256(nil)
	f.Exec.Held[0].Digest = evidence.Known(evidence.Digest{Algorithm: Algorithm, Value: sum[:], Source: evidence.SourceRead})
	if v := scriptOf(t, m, p, f); v.Reason() != reasonRaced {
		t.Errorf("the gate saw other bytes: %v", v)
	}
	f.Exec.Held[0].Digest = evidence.Unknown[evidence.Digest](reasonDeadline)
	if s := value(t, scriptOf(t, m, p, f)); s.Bound != evidence.BoundExec {
		t.Errorf("the gate saw nothing: script is %+v", s)
	}
	swap(t, path)
	if v := scriptOf(t, m, p, f); v.Reason() != reasonReplaced {
		t.Errorf("another file by that name: %v", v)
	}
}

// What the interpreter opened by the script's name is what it runs.
func TestScriptOpenedIsAnother(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	_, script := agentFiles(t, "def send(): return 1\n")
	p, f, _ := runPython(t, script)
	if s := value(t, scriptOf(t, m, p, f)); s.Bound != evidence.BoundArgument || s.File.Path != script {
		t.Errorf("script is %+v", s)
	}
	of(f, script).File.Inode++
	if v := scriptOf(t, m, p, f); v.Reason() != reasonReplaced {
		t.Errorf("it opened another file: %v", v)
	}
}

func TestScriptOfModule(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pack/__init__.py": "", "pack/__main__.py": "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n",
		"pack/tool.py": "import sys\nprint('ready', flush=True)\nsys.stdin.read() # tool\n",
	} {
		try(t, os.MkdirAll(filepath.Join(dir, "pack"), 0o755))
		write(t, filepath.Join(dir, name), []byte(text))
	}
	for module, file := range map[string]string{"pack": "pack/__main__.py", "pack.tool": "pack/tool.py"} {
		w := newWitness(t, dir, "/usr/bin")
		cmd := exec.Command("/usr/bin/python3", "-B", "-m", module)
		cmd.Dir = dir
		p := start(t, cmd)
		f := p.facts(t)
		f.Opened = w.opened(t, p.pid)
		path := filepath.Join(dir, file)
		if s := value(t, scriptOf(t, m, p, f)); s.Bound != evidence.BoundModule || s.File.Path != path || known(t, s.File.Digest) != sumOf(t, path) {
			t.Errorf("%s: script is %+v", module, s)
		}
		two := *f
		two.Opened = append(slices.Clone(f.Opened), OpenedFile{File: Inode{Inode: 9}, Path: "/elsewhere/" + file, Class: ClassCode})
		if v := scriptOf(t, m, p, &two); v.Reason() != reasonAmbiguous {
			t.Errorf("%s: two files could be it: %v", module, v)
		}
		two.Opened = nil
		if v := scriptOf(t, m, p, &two); v.Reason() != reasonNotFound {
			t.Errorf("%s: no file could be it: %v", module, v)
		}
		two.OpenedUnknown = "opens-lost"
		if v := scriptOf(t, m, p, &two); v.Reason() != "opens-lost" {
			t.Errorf("%s: not known what it opened: %v", module, v)
		}
	}
}

func TestModuleFile(t *testing.T) {
	for _, c := range []struct {
		module string
		opened []string
		want   string
	}{
		{"a.b", []string{"/x/a/__init__.py", "/x/a/b.py"}, "/x/a/b.py"},
		{"a.b", []string{"/x/a/__pycache__/b.cpython-311.pyc"}, "/x/a/__pycache__/b.cpython-311.pyc"},
		{"a.b", []string{"/x/a/__pycache__/b.cpython-311.opt-1.pyc", "/x/a/b.py"}, "/x/a/b.py"},
		{"a.b", []string{"/x/a/b.py", "/x/a/__pycache__/b.cpython-311.pyc"}, "/x/a/b.py"},
		{"a.b", []string{"/x/a/b.pyc"}, "/x/a/b.pyc"},
		{"a.b", []string{"/x/a/b.py", "/x/a/b.py"}, reasonAmbiguous}, // two versions of it
		{"a.b", []string{"/x/a/b.py", "/y/a/b.py"}, reasonAmbiguous},
		{"a", []string{"/x/a.py", "/y/a/__main__.py"}, reasonAmbiguous},
		{"a", []string{"/x/a/__init__.py", "/x/ba.py", "/x/a.txt"}, reasonNotFound},
		{"../a", []string{"/x/a.py"}, reasonNotFound}, {"", []string{"/.py"}, reasonNotFound},
	} {
		f := new(Facts)
		for _, path := range c.opened {
			f.Opened = append(f.Opened, OpenedFile{Path: path})
		}
		got, reason := f.module(c.module)
		if got != nil {
			reason += got.Path
		}
		if reason != c.want {
			t.Errorf("%s of %q: %s, want %s", c.module, c.opened, reason, c.want)
		}
	}
}

// Code that is an argument is its own script; beyond the kernel's copy of the
// arguments it is the process's own word.
func TestScriptInline(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	for _, args := range [][]string{
		{"/bin/bash", "-euc", "echo ready; read x", "name"},
		{"/bin/sh", "-c", "echo ready; read x"},
		{"/usr/bin/python3", "-u", "-c", "print('ready'); input()"},
		{"/usr/bin/perl", "-we", "$|=1; print \"ready\\n\"; <STDIN>"},
		{"/usr/bin/node", "--no-warnings", "--eval", "console.log('ready'); process.stdin.resume()"},
	} {
		t.Run(filepath.Base(args[0]), func(t *testing.T) {
			_, err := os.Stat(args[0])
			require.Need(t, args[0], err)
			p := start(t, exec.Command(args[0], args[1:]...))
			code := args[slices.IndexFunc(args, func(s string) bool { return strings.Contains(s, "ready") })]
			f := p.facts(t)
			s := value(t, scriptOf(t, m, p, f))
			if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(code))); s.Bound != evidence.BoundInline || known(t, s.File.Digest) != sum {
				t.Errorf("script is %+v", s)
			}
			f.Exec.Arguments = f.Exec.Arguments[:bytes.Index(f.Exec.Arguments, []byte("ready"))]
			if v := scriptOf(t, m, p, f); !slices.Equal(v.Taints(), []string{taintSelf}) {
				t.Errorf("arguments cut: script is %v", v)
			}
		})
	}
}

// However the interpreter was reached, what it runs now counts: here by way of
// env, and then of a shell.
func TestScriptThroughOthers(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	path := filepath.Join(dir, "tool")
	write(t, path, []byte("#!/usr/bin/env -S /usr/bin/python3 -u\nprint('ready')\ninput()\n"))
	shell := filepath.Join(dir, "wrap.sh")
	write(t, shell, []byte("exec "+path+"\n"))
	for _, args := range [][]string{{path}, {"/bin/sh", shell}, {"/usr/bin/env", "sh", shell}} {
		p := start(t, exec.Command(args[0], args[1:]...))
		f := p.facts(t)
		f.Exec.Filename, f.Exec.Interpreter = "/usr/bin/python3", "/usr/bin/python3" // of the last exec, by env
		s := value(t, scriptOf(t, m, p, f))
		if s.Bound != evidence.BoundArgument || s.File.Path != path || known(t, s.File.Digest) != sumOf(t, path) {
			t.Errorf("%q: script is %+v", args, s)
		}
	}
}
