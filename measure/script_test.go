// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

const shellScript = "echo ready\nread x\n"

// python is a program by the name of a known interpreter, which only waits.
func python(t testing.TB, dir string) string {
	t.Helper()
	return copyTo(t, filepath.Join(dir, "python3.11"), victim(t))
}

func scriptOf(t testing.TB, m *Meter, p *process, f *Facts) evidence.Value[*evidence.Script] {
	t.Helper()
	out, _ := full(t, m, p, f)
	return out.Script
}

func TestScriptOfKernel(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), "run")
	write(t, path, []byte("#!/bin/bash -u\n"+shellScript))
	p := start(t, exec.Command(path))
	f := p.facts(t)
	f.Exec.Filename, f.Exec.Interpreter = path, "/bin/bash"
	out, pins := full(t, m, p, f)
	s := value(t, out.Script)
	if s == nil || s.Bound != evidence.BoundExec || known(t, s.File.Digest) != sumOf(t, path) || s.File.Path != path {
		t.Errorf("script is %+v", s)
	}
	if exe := value(t, out.Exe); known(t, exe.Digest) != sumOf(t, "/bin/bash") {
		t.Errorf("exe is %+v", exe)
	}
	if look := m.Look(p.pidfd, pins); !clean(look) {
		t.Errorf("look is %+v", look)
	}

	f.Exec.Cut = true
	if v := scriptOf(t, m, p, f); v.Reason() != reasonTruncated {
		t.Errorf("a name that was cut: %v", v)
	}
	f.Exec.Cut = false
	f.Exec.Filename = "/bin/true"
	if v := scriptOf(t, m, p, f); v.Reason() != reasonOption {
		t.Errorf("kernel and arguments name different scripts: %v", v)
	}
}

// An interpreter that is not in the table, started by a script's first line.
func TestScriptOfUnknownInterpreter(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), "run")
	write(t, path, []byte("#!"+victim(t)+" wait\n"))
	p := start(t, exec.Command(path))
	f := p.facts(t)
	f.Exec.Filename, f.Exec.Interpreter = path, victim(t)
	if s := value(t, scriptOf(t, m, p, f)); s == nil || s.Bound != evidence.BoundExec || known(t, s.File.Digest) != sumOf(t, path) {
		t.Errorf("script is %+v", s)
	}
}

func TestScriptOfArgument(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	py := python(t, dir)
	path := filepath.Join(dir, "x.py")
	write(t, path, []byte("print(1)\n"))
	if err := os.Symlink("x.py", filepath.Join(dir, "link.py")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * tick)
	for _, args := range [][]string{
		{path}, {"x.py"}, {"-u", "./x.py", "-c"}, {"link.py"}, {"../" + filepath.Base(dir) + "//x.py"}, {"--", "x.py"},
	} {
		cmd := exec.Command(py, args...)
		cmd.Dir = dir
		p := start(t, cmd)
		s := value(t, scriptOf(t, m, p, p.facts(t)))
		if s == nil || s.Bound != evidence.BoundArgument || known(t, s.File.Digest) != sumOf(t, path) {
			t.Errorf("%v: script is %+v", args, s)
		}
	}
	for _, c := range []struct {
		args   []string
		reason string
	}{
		{[]string{"-m", "x"}, reasonNotFound}, {[]string{"-"}, reasonInline}, {nil, reasonInline},
		{[]string{"-X", "dev", "x.py"}, reasonOption}, {[]string{"none.py"}, "not-found"}, {[]string{"x.py/"}, "not-found"},
		{[]string{"/proc/self/exe"}, "unresolvable"}, {[]string{"/dev/fd/0"}, "unresolvable"}, {[]string{""}, "not-found"},
	} {
		cmd := exec.Command(py, c.args...)
		cmd.Dir = dir
		p := start(t, cmd)
		if v := scriptOf(t, m, p, p.facts(t)); v.Reason() != c.reason {
			t.Errorf("%q: script is %v, want %s", c.args, v, c.reason)
		}
	}
	cmd := exec.Command(py, ".")
	cmd.Dir = dir
	p := start(t, cmd)
	if s := value(t, scriptOf(t, m, p, p.facts(t))); s.File.Digest.Reason() != reasonNotRegular {
		t.Errorf("a directory: script is %+v", s)
	}
}

// A program that is no interpreter, with arguments that look like a script.
func TestScriptOfProgram(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t), "wait", "x.py"))
	if s := value(t, scriptOf(t, m, p, p.facts(t))); s != nil {
		t.Errorf("script is %+v", s)
	}
}

// The kernel's copy of the arguments counts; what the process shows does not.
func TestScriptArgumentsAreProved(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	py := python(t, dir)
	for _, name := range []string{"good.py", "evil.py"} {
		write(t, filepath.Join(dir, name), []byte(name))
	}
	cmd := exec.Command(py, "good.py")
	cmd.Dir = dir
	p := start(t, cmd)

	f := p.facts(t)
	f.Exec.Arguments = []byte("python3\x00evil.py\x00")
	f.Exec.ArgumentsSize = uint64(len(f.Exec.Arguments))
	if s := value(t, scriptOf(t, m, p, f)); known(t, s.File.Digest) != sumOf(t, filepath.Join(dir, "evil.py")) {
		t.Errorf("script is %+v", s)
	}
	for _, kernel := range []string{"", py[:4]} { // the name lies beyond what the kernel copied
		f = p.facts(t)
		f.Exec.Arguments = []byte(kernel)
		if v := scriptOf(t, m, p, f); !slices.Equal(v.Taints(), []string{taintSelf}) {
			t.Errorf("script is %v", v)
		}
	}
	f = p.facts(t)
	f.Exec.Arguments = []byte("python3\x00ev") // and what it copied is not there
	if v := scriptOf(t, m, p, f); v.Reason() != reasonTruncated {
		t.Errorf("script is %v", v)
	}
}

// Whoever runs one script and then shows another is tainted.
func TestScriptChangedSinceExec(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	for name, change := range map[string]func(dir string) error{
		"edited": func(dir string) error { return os.WriteFile(filepath.Join(dir, "x.py"), []byte("good"), 0o644) },
		"replaced": func(dir string) error {
			return os.Rename(filepath.Join(dir, "good.py"), filepath.Join(dir, "x.py"))
		},
		"link turned": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "link")), os.Symlink("old", filepath.Join(dir, "link")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "old"), 0o755), os.Mkdir(filepath.Join(dir, "new"), 0o755),
				os.Symlink("new", filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, "old", "x.py"), []byte("good"), 0o644),
				os.WriteFile(filepath.Join(dir, "new", "x.py"), []byte("evil"), 0o644),
				os.WriteFile(filepath.Join(dir, "x.py"), []byte("evil"), 0o644)); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "good.py"), []byte("good"))
			script := "x.py"
			if name == "link turned" {
				script = "link/x.py"
			}
			cmd := exec.Command(python(t, dir), script)
			cmd.Dir = dir
			p := start(t, cmd)
			f := p.facts(t)
			if v := scriptOf(t, m, p, f); len(v.Taints()) > 0 {
				t.Errorf("before the change script is %v", v)
			}
			time.Sleep(2 * tick)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if v := scriptOf(t, m, p, f); !slices.Contains(v.Taints(), taintChanged) {
				t.Errorf("script is %v", v)
			}
		})
	}
}

// The script's file is held: a change after the measurement shows in a look.
func TestScriptChangedSinceMeasured(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	path := filepath.Join(dir, "x.py")
	write(t, path, []byte("good"))
	p := start(t, exec.Command(python(t, dir), path))
	_, pins := full(t, m, p, p.facts(t))
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
	if err := os.WriteFile(path, []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s := m.Look(p.pidfd, pins); !slices.Equal(value(t, s.Missing), []string{path}) {
		t.Errorf("look is %+v", s)
	}
}

func TestScriptInAnotherMountNamespace(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	path := filepath.Join(dir, "x.py")
	write(t, path, []byte("good"))
	p := start(t, exec.Command(python(t, dir), path))
	f := p.facts(t)
	f.Exec.Namespaces = m.own
	if v := scriptOf(t, m, p, f); len(v.Taints()) > 0 {
		t.Errorf("script is %v", v)
	}
	f.Exec.Namespaces.Mount++
	if v := scriptOf(t, m, p, f); !slices.Equal(v.Taints(), []string{taintNamespace}) {
		t.Errorf("script is %v", v)
	}
}

// A name means what it means below the root of the process.
func TestScriptBelowRoot(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	root := t.TempDir()
	py := python(t, root)
	write(t, filepath.Join(root, "x.py"), []byte("inside"))
	if err := errors.Join(os.Symlink("/x.py", filepath.Join(root, "link")), os.Symlink("loop", filepath.Join(root, "loop"))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * tick)
	for name, found := range map[string]bool{"/x.py": true, "../../x.py": true, "/link": true, "/loop": false, "/etc/passwd": false} {
		cmd := exec.Command("/"+filepath.Base(py), name)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Dir = "/"
		p := start(t, cmd)
		f := p.facts(t)
		v := scriptOf(t, m, p, f)
		if s, ok := v.Get(); ok != found || ok && known(t, s.File.Digest) != sumOf(t, filepath.Join(root, "x.py")) {
			t.Errorf("%s: script is %v", name, v)
		}
	}
}

func TestCutPath(t *testing.T) {
	for in, want := range map[string]string{"a": "a|", "a/b": "a|b", "a//b/": "a|b/", "a/": "a|.", "a///": "a|."} {
		part, rest := cutPath(in)
		if got := part + "|" + rest; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"/", "..", "a/../b", "//x/./y/", "/proc/self/exe", "link", strings.Repeat("../", 100) + "etc/passwd"} {
		f.Add(s)
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		f.Fatal(err)
	}
	m, _ := newMeter(f, Config{})
	target, err := m.attach(pidfd)
	if err != nil {
		f.Fatal(err)
	}
	descriptors := openFiles(f)
	f.Fuzz(func(t *testing.T, name string) {
		r, err := target.resolve(name, &overlays{m: m, t: target})
		if err == nil {
			unix.Close(r.fd)
		}
		if n := openFiles(t); n > descriptors+8 {
			t.Fatalf("%q: %d descriptors, %d at first", name, n, descriptors)
		}
	})
}
