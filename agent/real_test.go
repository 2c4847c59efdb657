// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// withKernel gives the rig the real sensor and the real measurements.
func (r *rig) withKernel() {
	r.t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	}
	require.Need(r.t, "root", err)
	require.Undisturbed(r.t)
	r.watchWith("")
}

// TestRealKernelAndTPM is the main job with everything real but the broker,
// which believes what package verify does.
func TestRealKernelAndTPM(t *testing.T) {
	r := newRig(t)
	r.withTPM()
	r.withKernel()
	r.start()
	task := r.double.task.ID

	o := startOther(t, nil, nil, "ask", r.socket)
	first, err := o.ask(t, task)
	if err != nil {
		t.Fatal(err)
	}
	again, err := o.ask(t, task)
	if err != nil || again.Token != first.Token || r.agent.quotes.Load() != 1 {
		t.Errorf("asked again: %v, %d quotes", err, r.agent.quotes.Load())
	}
	b := r.double.bundles[0]
	p := b.Entries[1].Value.Process
	instance := b.Requests[0].Value.Subject.Instance
	if instance.PID != o.pid() || p.Origin != evidence.OriginExec || p.ExecAt == 0 {
		t.Errorf("process %s, origin %s", instance, p.Origin)
	}
	own, _ := r.agent.host.agent.Get() // the same program: this test's
	exe, known := p.Exe.Get()
	digest, measured := exe.Digest.Get()
	if !known || !measured || digest.Value.String() != own.Value.String() {
		t.Errorf("executable %s, this test is %s", p.Exe, own)
	}
	if creds, ok := p.Credentials.Get(); !ok || creds.UID != 0 {
		t.Errorf("credentials %s", p.Credentials)
	}
	before, after := b.Requests[0].Value.Before, b.Closing[0].After
	for name, s := range map[string]evidence.State{"before": before, "after": after} {
		unmeasured, a := s.Unmeasured.Get()
		private, b := s.Private.Get()
		tracer, c := s.Tracer.Get()
		missing, d := s.Missing.Get()
		if !s.Alive || len(s.Taints) != 0 || !a || !b || !c || !d || unmeasured != 0 || private != 0 || tracer != 0 || len(missing) != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	t.Logf("window %v, entry of %d bytes, bundle of %d", time.Duration(after.At-before.At), len(b.Entries[1].Raw), r.double.sizes[0])

	t.Run("another program in the same process", func(t *testing.T) { becomeTest(t, r, task) })
	t.Run("another user", func(t *testing.T) { realUserTest(t, r, task) })
	t.Run("a child", func(t *testing.T) { realChildTest(t, r, task) })
	t.Run("exit", func(t *testing.T) {
		o.cmd.Process.Kill()
		eventually(t, "its keys to be gone", func() bool { return r.agent.table.holderOf(instance) == nil })
		eventually(t, "its exit to be logged", func() bool {
			for _, e := range r.entries() {
				if e.Exit != nil && e.Instance.PID == instance.PID {
					return e.Exit.Code == uint32(syscall.SIGKILL)
				}
			}
			return false
		})
	})
	if s, err := r.client().Status(t.Context()); err != nil || s.Lost != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// becomeTest connects as one program and writes as another: the credential is
// for what runs, not for what connected.
func becomeTest(t *testing.T, r *rig, task string) {
	o := startOther(t, nil, nil, "become", r.socket)
	line := o.do(t, `{"v":1,"op":"credential","delegation":"`+task+`"}`)
	if !strings.Contains(line, `"token"`) {
		t.Fatalf("%s", line)
	}
	b := r.double.bundles[len(r.double.bundles)-1]
	p := b.Entry(b.Requests[0].Value.Subject.Index).Value.Process
	exe, _ := p.Exe.Get()
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if b.Requests[0].Value.Subject.Instance.PID != o.pid() || filepath.Base(exe.Path) != filepath.Base(shell) {
		t.Errorf("the evidence is about %s, the shell wrote", exe.Path)
	}
}

// realUserTest asks as one user and then as another: the second credential is
// for the second user, and what was given to the first is gone.
func realUserTest(t *testing.T, r *rig, task string) {
	for dir := filepath.Dir(r.socket); dir != os.TempDir(); dir = filepath.Dir(dir) { // a test's are root's alone
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := startOther(t, nil, nil, "ask", r.socket)
	for round, want := range []uint32{0, 65534} {
		if _, err := o.ask(t, task); err != nil {
			t.Fatal(err)
		}
		b := r.double.bundles[len(r.double.bundles)-1]
		q := b.Requests[0].Value
		creds, ok := b.Entry(q.Subject.Index).Value.Process.Credentials.Get()
		changed, known := q.Before.Changed.Get()
		if q.Subject.Instance.PID != o.pid() || !ok || creds.SUID != want || !known || len(changed) != 0 {
			t.Errorf("round %d: evidence of %s, user %+v, changed %s", round, q.Subject.Instance, creds, q.Before.Changed)
		}
		if round == 0 && o.do(t, "setuid") != "setuid" {
			t.Fatal("it did not change its user")
		}
	}
}

// realChildTest asks for a child, and for a process that is none.
func realChildTest(t *testing.T, r *rig, task string) {
	child := startOther(t, nil, nil, "ask", r.socket)
	out := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(strings.NewReader(child.do(t, task))).ReadString('\n')
		out <- line
	}()
	if line := <-out; strings.HasPrefix(line, "error") {
		t.Fatal(line)
	}
	status, err := statusOfPID(int(child.pid()))
	if err != nil || status.parent != uint32(os.Getpid()) || status.euid != 0 {
		t.Errorf("status %+v, %v", status, err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.pid()))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := parseStatus(raw); err != nil || s.parent != status.parent || s.euid != status.euid || s.ruid != status.ruid || s.suid != status.suid {
		t.Errorf("/proc says %+v, %v; the pidfd %+v", s, err, status)
	}
}

func statusOfPID(pid int) (status, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return status{}, err
	}
	defer unix.Close(fd)
	return statusOf(fd)
}

// BenchmarkProof measures what one proof costs a workload that has its token:
// a connection, the barrier, a fresh look at the process, two signatures' worth
// of thought.
func BenchmarkProof(b *testing.B) {
	r := newRig(b)
	r.withKernel()
	r.start()
	ask := func() {
		if _, err := r.client().Proof(b.Context(), r.double.task.ID, "GET", "https://payments.example/x", ""); err != nil {
			b.Fatal(err)
		}
	}
	ask()
	for b.Loop() {
		ask()
	}
	if n := r.agent.quotes.Load(); n != 1 {
		b.Errorf("%d quotes", n)
	}
}
