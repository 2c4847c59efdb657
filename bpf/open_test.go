// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/internal/require"
	"golang.org/x/sys/unix"
)

// say returns what an actor prints.
func say(t *testing.T, cmd *exec.Cmd, attr *syscall.SysProcAttr) string {
	t.Helper()
	needKernel(t)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func wantAll(t *testing.T, have string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(have, w) {
			t.Errorf("%q does not say %q", have, w)
		}
	}
}

func TestOpenWithoutCapability(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	out := say(t, actor("open"), &syscall.SysProcAttr{Credential: nobody})
	wantAll(t, out, "not permitted to load kernel programs", "lacks CAP_BPF and CAP_PERFMON", "AmbientCapabilities=")
	if strings.Contains(out, "MEMLOCK") {
		t.Errorf("the misleading text is there: %s", out)
	}
	out = say(t, actor("open"), &syscall.SysProcAttr{Credential: nobody, AmbientCaps: []uintptr{unix.CAP_BPF}})
	wantAll(t, out, "lacks CAP_PERFMON\n")
	out = say(t, actor("open"), &syscall.SysProcAttr{Credential: nobody, AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}})
	wantAll(t, out, "opened")
}

// Root of a user namespace has all capabilities, and none that count.
func TestOpenInUserNamespace(t *testing.T) {
	out := say(t, actor("open"), &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	})
	wantAll(t, out, "not permitted to load kernel programs", "refuses although this process has CAP_BPF", "user namespace of its own")
}

func TestOpenWithoutTypeInformation(t *testing.T) {
	out := say(t, actor("open-without-btf"), &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS})
	wantAll(t, out, "kernel has no type information (BTF)", "CONFIG_DEBUG_INFO_BTF")
}

// In a pid namespace of its own the sensor would name processes that the
// rest of the agent cannot find.
func TestOpenInPidNamespace(t *testing.T) {
	t.Parallel()
	out := say(t, actor("open"), &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	wantAll(t, out, "attached but do not fire", "fork, exec, exit of the helper /bin/true", "initial pid namespace")
}

func TestOpenInTimeNamespace(t *testing.T) {
	if !kernelFrom(t, 6, 3) {
		require.Need(t, "timens", errors.New("kernels before 6.3 refuse vfork into another time namespace"))
	}
	out := say(t, actor("open-in-time-namespace"), nil)
	wantAll(t, out, "attached but do not fire", "initial time namespace")
}

func TestOpenRefusesRingSize(t *testing.T) {
	for _, size := range []int{-1, 1, 4095, 3 * 4096, 1 << 31} {
		if s, err := Open(Options{RingBytes: size}); err == nil || !strings.Contains(err.Error(), "power of two") {
			s.Close()
			t.Errorf("ring of %d bytes: %v", size, err)
		}
	}
}

func TestOpenRefusesPoll(t *testing.T) {
	for _, poll := range []time.Duration{-1, time.Microsecond, time.Hour} {
		if s, err := Open(Options{Poll: poll}); err == nil || !strings.Contains(err.Error(), "poll interval") {
			s.Close()
			t.Errorf("poll interval %v: %v", poll, err)
		}
	}
}

func TestCanaryMustBeSeen(t *testing.T) {
	needKernel(t)
	s := &Sensor{poll: DefaultPoll, hurry: make(chan struct{}, 1)}
	if err := errors.Join(s.survey(), s.load(Options{RingBytes: DefaultRingBytes}), s.openRings()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err := s.canary(nil, 50*time.Millisecond)
	if !errors.Is(err, ErrNotFiring) || !strings.Contains(err.Error(), "fork, exec, exit of the helper /bin/true") {
		t.Errorf("loaded, not attached: %v", err)
	}
	if err := s.attach(); err != nil {
		t.Fatal(err)
	}
	if err := s.attached[0].link.Close(); err != nil { // sched_process_exit
		t.Fatal(err)
	}
	err = s.canary(nil, 200*time.Millisecond)
	if !errors.Is(err, ErrNotFiring) || !strings.Contains(err.Error(), ": exit of the helper") {
		t.Errorf("without the exit program: %v", err)
	}
}

func TestCanaryThatCannotRun(t *testing.T) {
	needKernel(t)
	_, err := Open(Options{Canary: []string{"/nonexistent/canary"}})
	if !errors.Is(err, ErrNotFiring) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/canary") {
		t.Errorf("canary that does not exist: %v", err)
	}
	s, err := Open(Options{Canary: []string{"/bin/sh", "-c", "exit 3"}})
	if err != nil {
		t.Fatalf("canary with a status: %v", err)
	}
	s.Close()
}

// What was read while Open waited for its canary is delivered, not lost.
func TestCanaryIsInTheStream(t *testing.T) {
	s := open(t, Options{})
	var kinds []string
	var lost int
	drain(t, s, func(ev *Event) {
		if ev.Kind == KindLost {
			lost++
		}
		if ev.Program.Filename.String() == "/bin/true" && ev.Parent.PID == uint32(os.Getpid()) {
			kinds = append(kinds, ev.Kind.String())
		}
	})
	if strings.Join(kinds, " ") != "exec" || lost != 0 {
		t.Errorf("execs of the canary: %v, %d lost", kinds, lost)
	}
	position, err := s.Position()
	if now, clockErr := bootTime(); total(t, position, err) < 3 || clockErr != nil || s.Since() == 0 || s.Since() > now {
		t.Errorf("position %v, attached at %d, now %d, %v", position, s.Since(), now, clockErr)
	}
}

func TestProgramsAreTheManifests(t *testing.T) {
	s := open(t, Options{})
	facts, err := s.Programs()
	if err != nil {
		t.Fatal(err)
	}
	if len(facts.Programs) < 5 || !strings.HasPrefix(facts.Compiler, "Debian clang version 14.0.6") || s.Tier() != wantTier(s) {
		t.Errorf("tier %s, facts %+v", s.Tier(), facts)
	}
	tag := regexp.MustCompile(`^[0-9a-f]{16}$`)
	for _, p := range facts.Programs {
		// Those that Open provokes have fired; others may, by what the host does.
		provoked := slices.Contains([]string{"on_exec", "on_fork", "on_exit", "on_openat"}, p.Name)
		if !tag.MatchString(p.Tag) || provoked && !p.Fired || p.Name == "on_task" && p.Fired {
			t.Errorf("%+v", p)
		}
	}
	if err := s.Snapshot(func(*Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if facts, err = s.Programs(); err != nil || !facts.Programs[4].Fired {
		t.Errorf("after a snapshot: %+v, %v", facts.Programs, err)
	}
	good := manifest
	defer func() { manifest = good }()
	manifest = []byte(`{"core": "00"}`)
	if _, err := s.Programs(); err == nil || !strings.Contains(err.Error(), "embedded object core has sha-256") {
		t.Errorf("another object: %v", err)
	}
}
