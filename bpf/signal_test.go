// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jurat-dev/jurat/internal/require"
)

// Where a test may change what holds for the whole machine, JURAT_REQUIRE has
// "guest": the machine is an emulated one, made for the test.
func isGuest() bool { return slices.Contains(strings.Split(os.Getenv("JURAT_REQUIRE"), ","), "guest") }

// requireGuest goes on where a test may change what holds for the whole machine.
func requireGuest(t *testing.T) {
	t.Helper()
	if !isGuest() {
		require.Need(t, "guest", errors.New("this changes the whole machine"))
	}
}

// wantTier is the tier that s must have: the one that JURAT_TIER names.
func wantTier(s *Sensor) string { return cmp.Or(os.Getenv("JURAT_TIER"), s.Tier()) }

// deed is something that a signal speaks of, done by a process of its own.
type deed struct {
	signal string
	actor  string // the actor that does it
	victim bool   // to another process, whose pid is its argument
	mounts bool   // in a mount namespace that it begins in
	taint  Taints // what the kernel must say then, of the victim or of itself
}

var deeds = []deed{
	{signal: "ptrace", actor: "seize", victim: true, taint: TaintTraced},
	{signal: "memory-write", actor: "write-memory", victim: true, taint: TaintMemoryWritten},
	{signal: "mem-file", actor: "open-memory", victim: true, taint: TaintMemoryWritten},
	{signal: "mem-file", actor: "open-own-memory", taint: TaintMemoryWrittenSelf},
	{signal: "mprotect-exec", actor: "make-executable", taint: TaintMprotectExec},
	{signal: "namespaces", actor: "unshare-mounts", taint: TaintNamespaceChanged},
	{signal: "namespaces", actor: "unshare-user", taint: TaintNamespaceChanged},
	{signal: "namespaces", actor: "setns", mounts: true, taint: TaintNamespaceChanged},
	{signal: "namespaces", actor: "chroot", taint: TaintNamespaceChanged},
	{signal: "namespaces", actor: "pivot-root", mounts: true, taint: TaintNamespaceChanged},
	{signal: "mounts", actor: "bind", mounts: true, taint: TaintMountedOver},
	{signal: "mounts", actor: "move-mount", mounts: true, taint: TaintMountedOver},
	{signal: "mm-change", actor: "change-arguments", taint: TaintMMChanged},
	{signal: "io-uring", actor: "io-uring", taint: TaintIOUring},
	{signal: "userfaultfd", actor: "userfaultfd", taint: TaintUserfaultfd},
}

// Every signal that the sensor claims is done once, by a process that is not
// the sensor's, and must be told by one of the hooks it names. What it does
// not claim has a reason.
func TestSignals(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	if s.Tier() != wantTier(s) {
		t.Fatalf("tier %s, want %s: %+v", s.Tier(), wantTier(s), s.Better())
	}
	for i, signal := range s.Signals() {
		if signal.Name != SignalNames[i] || (signal.By == "") == (signal.Reason == "") {
			t.Errorf("signal %d: %+v", i, signal)
		}
	}
	var tried []string
	for _, d := range deeds {
		tried = append(tried, d.signal)
		t.Run(d.signal+"/"+d.actor, func(t *testing.T) { d.do(t, s, tp) })
	}
	for name, do := range map[string]func(*testing.T, *Sensor, *tape, string){
		"exec": doExec, "script": doScript, "executable-maps": doMap, "code-open": doOpen, "model-open": doOpen, "credentials": doCredentials,
		"usermode-helper": doCrash, "module-load": doModule, "bpf-load": doProgram, "kernel-digest": doDigest, "ptrace": doTraceme, "deny": doDeny,
	} {
		tried = append(tried, name)
		t.Run(name, func(t *testing.T) {
			if by := claimed(t, s, name); by != "" {
				do(t, s, tp, by)
			}
		})
	}
	for _, name := range SignalNames {
		// The first are TestForkExecExitAgainstProc's and TestCgroupMove's; nothing claims the others.
		if !slices.Contains(append(tried, "fork", "exit", "cgroup-move", "file-write", "exec-gate"), name) {
			t.Errorf("nothing does what signal %s is about", name)
		}
	}
}

// claimed returns the hooks that see a signal, or "" when none does.
func claimed(t *testing.T, s *Sensor, name string) string {
	t.Helper()
	signals := s.Signals()
	signal := signals[slices.IndexFunc(signals, func(s Signal) bool { return s.Name == name })]
	if signal.By == "" {
		t.Logf("unknown(%s)", signal.Reason)
	}
	return signal.By
}

func (d *deed) do(t *testing.T, s *Sensor, tp *tape) {
	by := claimed(t, s, d.signal)
	if by == "" {
		return
	}
	var args []string
	victim := 0
	if d.victim {
		victim = spawn(t, exec.Command(cat)).Process.Pid
		args = append(args, strconv.Itoa(victim))
	}
	attr := new(syscall.SysProcAttr)
	if d.mounts {
		attr.Unshareflags = syscall.CLONE_NEWNS
	}
	pid := act(t, attr, d.actor, append(args, t.TempDir())...)
	if victim == 0 {
		victim = pid
	}
	ev := tp.await(t, d.taint.Names()[0], func(ev *Event) bool {
		return ev.Kind == KindTaint && ev.Process.PID == uint32(victim) && ev.Taint&d.taint != 0
	})
	told(t, by, ev)
	if ev.By.PID != uint32(pid) || ev.Process.Taints&d.taint == 0 {
		t.Errorf("done by %d to %d, told: %+v", pid, victim, ev)
	}
}

// told wants one of the hooks that a signal names to have told an event.
func told(t *testing.T, by string, ev Event) {
	t.Helper()
	if !slices.Contains(strings.Fields(by), ev.Hook.String()) {
		t.Errorf("told by %s, the signal names %s", ev.Hook, by)
	}
}

// act runs an actor to its end and returns what its pid was. The runtime sends
// it no signals: one that is traced by us would stand still.
func act(t *testing.T, attr *syscall.SysProcAttr, name string, args ...string) int {
	t.Helper()
	cmd := actor(name, args...)
	cmd.SysProcAttr, cmd.Env = attr, []string{"GODEBUG=asyncpreemptoff=1"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return cmd.Process.Pid
}

func doExec(t *testing.T, _ *Sensor, tp *tape, _ string) {
	pid := act(t, nil, "nothing")
	for _, kind := range []Kind{KindFork, KindExec, KindExit} {
		if ev := tp.await(t, kind.String(), is(kind, pid)); ev.Process.Taints != 0 || ev.Process.CredentialsChanged {
			t.Errorf("%s of a process that did nothing: %+v", kind, ev.Process)
		}
	}
}

func doScript(t *testing.T, _ *Sensor, tp *tape, _ string) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread x\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ev := tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(script)).Process.Pid))
	if !ev.Flags.Has(FlagScript) {
		t.Fatalf("exec of a script without its file: %+v", ev.Flags)
	}
	sameFile(t, "script", ev.Program.Script, stat(t, script))
	ev = tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(cat)).Process.Pid))
	if ev.Flags.Has(FlagScript) || ev.Program.Script != (File{}) {
		t.Errorf("a program that is no script has one: %+v", ev.Program.Script)
	}
}

// awaitOpen wants a process to have been seen with a file.
func awaitOpen(t *testing.T, tp *tape, pid int, path string) Event {
	t.Helper()
	inode := stat(t, path).Ino
	return tp.await(t, "open of "+path, func(ev *Event) bool {
		return ev.Kind == KindOpen && ev.Process.PID == uint32(pid) && ev.Opened.File.Inode == inode
	})
}

func doMap(t *testing.T, _ *Sensor, tp *tape, by string) {
	path := copyFile(t, filepath.Join(t.TempDir(), "no-suffix"), "/bin/true")
	ev := awaitOpen(t, tp, act(t, nil, "map", path), path)
	told(t, by, ev)
	sameFile(t, "mapped file", ev.Opened.File, stat(t, path))
}

func doOpen(t *testing.T, s *Sensor, tp *tape, by string) {
	for name, class := range map[string]Class{"x.py": ClassCode, "libx.so": ClassCode, "x.gguf": ClassModel, "x.safetensors": ClassModel} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		ev := awaitOpen(t, tp, act(t, nil, "read", path), path)
		told(t, by, ev)
		if ev.Opened.Class != class || ev.Opened.Path.String() != path {
			t.Errorf("%s: %+v", path, ev.Opened)
		}
	}
}

func doCredentials(t *testing.T, _ *Sensor, tp *tape, _ string) {
	for _, name := range []string{"setuid", "drop-capability"} {
		pid := act(t, nil, name)
		if ev := tp.await(t, "exit", is(KindExit, pid)); !ev.Process.CredentialsChanged {
			t.Errorf("%s: %+v", name, ev.Process)
		}
	}
}

func doTraceme(t *testing.T, _ *Sensor, tp *tape, by string) {
	pid := act(t, nil, "traceme")
	ev := tp.await(t, "traced", func(ev *Event) bool {
		return ev.Kind == KindTaint && ev.Process.PID == uint32(pid) && ev.Taint&TaintTraced != 0
	})
	told(t, by, ev)
	if ev.By.PID != uint32(os.Getpid()) {
		t.Errorf("asked to be traced by %d, told: %+v", os.Getpid(), ev.By)
	}
}

// The kernel starts a program when another crashes.
func doCrash(t *testing.T, _ *Sensor, tp *tape, _ string) {
	if !isGuest() {
		t.Log("the machine is not ours: what the kernel starts on a crash is left alone")
		return
	}
	const pattern = "/proc/sys/kernel/core_pattern"
	before, err := os.ReadFile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	helper := copyFile(t, filepath.Join(t.TempDir(), "helper"), "/bin/true")
	if err := os.WriteFile(pattern, []byte("|"+helper), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(pattern, before, 0)
	c := spawn(t, exec.Command(cat))
	if err := c.Process.Signal(syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	ev := tp.await(t, "exec of the helper", func(ev *Event) bool {
		return ev.Kind == KindExec && ev.Program.Filename.String() == helper
	})
	if ev.Process.Taints&TaintUsermodeHelper == 0 {
		t.Errorf("what the kernel started: %+v", ev.Process)
	}
}

// awaitHost wants the host to be tainted by what a process does.
func awaitHost(t *testing.T, tp *tape, by string, taint Taints, name string, args ...string) {
	t.Helper()
	pid := act(t, nil, name, args...)
	ev := tp.await(t, taint.Names()[0], func(ev *Event) bool {
		return ev.Kind == KindTaint && ev.Taint&taint != 0 && ev.By.PID == uint32(pid)
	})
	told(t, by, ev)
	if ev.Process != (Process{}) {
		t.Errorf("the host's taint is held against %+v", ev.Process)
	}
}

func doModule(t *testing.T, _ *Sensor, tp *tape, by string) {
	if !isGuest() {
		t.Log("the machine is not ours: no module is loaded")
		return
	}
	awaitHost(t, tp, by, TaintModuleLoaded, "load-module", os.Getenv("JURAT_MODULE"))
}

func doProgram(t *testing.T, _ *Sensor, tp *tape, by string) {
	awaitHost(t, tp, by, TaintBPFLoaded, "load-program")
}

// What Open lets be refused while it tries is refused to its own children, and then to nobody.
func doDeny(t *testing.T, s *Sensor, _ *tape, _ string) {
	if held, err := refuses(nil); err != nil || held {
		t.Errorf("a program of ours is refused: %v, %v", held, err)
	}
	if s.absent[signalDeny] != "" {
		t.Errorf("claimed, and %s", s.absent[signalDeny])
	}
}

func doDigest(t *testing.T, _ *Sensor, tp *tape, by string) {
	path := copyFile(t, filepath.Join(t.TempDir(), "program"), "/bin/true")
	run := func() Event {
		c := exec.Command(path)
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		return tp.await(t, "exec", is(KindExec, c.Process.Pid))
	}
	ima := strings.Contains(by, ":"+DigestIMA.String())
	ev := run()
	switch {
	case ima && (ev.Program.DigestSource != DigestIMA || ev.Program.Digest != sum(t, path)):
		t.Errorf("ima says %v %x, the file is %x", ev.Program.DigestSource, ev.Program.Digest, sum(t, path))
	case !ima && ev.Program.KernelDigest != (KernelDigest{}):
		t.Errorf("a digest of a file that the kernel has none of: %+v", ev.Program.KernelDigest)
	}
	if isGuest() && slices.Contains(strings.Split(os.Getenv("JURAT_REQUIRE"), ","), "ima") != ima {
		t.Errorf("digests come from %q", by)
	}
	if ima || !strings.Contains(by, ":"+DigestVerity.String()) {
		return
	}
	want := enableVerity(t, path)
	if ev = run(); ev.Program.DigestSource != DigestVerity || ev.Program.Digest != want {
		t.Errorf("fs-verity says %v %x, measured %x", ev.Program.DigestSource, ev.Program.Digest, want)
	}
}
