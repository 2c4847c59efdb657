// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

// Every part of the context that changes after the measurement shows.
func TestLookAtChangedContext(t *testing.T) {
	needRoot(t)
	m, k := newMeter(t, Config{})
	for what, want := range map[string][]string{
		"nothing": {}, "confine": {}, // a filter can only take away
		"user": {changedCredentials}, "groups": {changedCredentials}, "thread": {changedCredentials},
		"capability": {changedCredentials}, "bounding": {changedCredentials}, "inheritable": {changedCredentials}, "file-system-user": {changedCredentials},
		"uts": {changedNamespaces}, "net": {changedNamespaces}, "ipc": {changedNamespaces}, "cgroup-namespace": {changedNamespaces}, "chroot": {changedRoot},
	} {
		t.Run(what, func(t *testing.T) {
			p := start(t, exec.Command(victim(t), "change", what, t.TempDir()))
			_, pins := full(t, m, p, p.facts(t))
			if s := m.Look(p.pidfd, pins); !clean(s) || len(value(t, s.Changed)) != 0 {
				t.Errorf("look is %+v", s)
			}
			p.say(t, "x", "changed")
			if got := value(t, m.Look(p.pidfd, pins).Changed); !slices.Equal(got, want) {
				t.Errorf("changed is %q, want %q", got, want)
			}
		})
	}
	p := start(t, exec.Command(victim(t)))
	_, pins := full(t, m, p, p.facts(t))
	k.set(uint32(p.pid), State{Generation: 1, CredentialsChanged: true})
	if _, later := full(t, m, p, p.facts(t)); len(value(t, m.Look(p.pidfd, later).Changed)) != 0 {
		t.Error("credentials that changed before the measurement are held against the process")
	}
	if got := value(t, m.Look(p.pidfd, pins).Changed); !slices.Equal(got, []string{changedCredentials}) {
		t.Errorf("the kernel saw credentials change and be set back: %q", got)
	}
}

func TestLookAtMovedCgroup(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := filepath.Join(m.cgroups.mount, fmt.Sprintf("measure-moved-%d", os.Getpid()))
	try(t, os.Mkdir(dir, 0o755))
	defer os.Remove(dir)
	p := start(t, exec.Command(victim(t)))
	_, pins := full(t, m, p, p.facts(t))
	try(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, p.pid), 0))
	if got := value(t, m.Look(p.pidfd, pins).Changed); !slices.Equal(got, []string{changedCgroup}) {
		t.Errorf("changed is %q", got)
	}
	p.stop()
}

// A thread with other credentials than the leader taints them.
func TestThreadsDiffer(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	for what, want := range map[string][]string{"thread": {taintThreads}, "user": nil, "confine": nil} {
		p := start(t, exec.Command(victim(t), "change", what, ""))
		p.say(t, "x", "changed")
		out, _ := full(t, m, p, p.facts(t))
		if !slices.Equal(out.Credentials.Taints(), want) || !slices.Equal(out.Groups.Taints(), want) {
			t.Errorf("%s: credentials are %v, groups %v", what, out.Credentials, out.Groups)
		}
		p.stop()
	}
}

func TestWithin(t *testing.T) {
	leader := evidence.Credentials{UID: 1, Effective: 6, Seccomp: 1}
	for c, want := range map[evidence.Credentials]bool{
		leader:                                               true,
		{UID: 1, Effective: 6, Seccomp: 2}:                   true,
		{UID: 1, Effective: 6, Seccomp: 0}:                   false,
		{UID: 1, Effective: 2, Seccomp: 1}:                   false,
		{UID: 1, Effective: 7, Seccomp: 1}:                   false,
		{UID: 0, Effective: 6, Seccomp: 2}:                   false,
		{UID: 1, Effective: 6, Seccomp: 1, NoNewPrivs: true}: true,
	} {
		if within(c, leader) != want {
			t.Errorf("%+v: %v", c, !want)
		}
	}
	leader.NoNewPrivs = true
	if c := leader; !within(c, leader) {
		t.Error("not within itself")
	} else if c.NoNewPrivs = false; within(c, leader) {
		t.Error("a thread without no_new_privs is within one that has it")
	}
}

// say writes to the program and waits for its answer.
func (p *process) say(t testing.TB, text, answer string) {
	t.Helper()
	if _, err := p.in.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != answer+"\n" {
		t.Fatalf("%q %v", line, err)
	}
}
