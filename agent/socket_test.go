// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
)

func TestBadRequests(t *testing.T) {
	r := newRig(t).start().self()
	for name, c := range map[string]struct{ line, code string }{
		"garbage":          {"GET / HTTP/1.1\r\n", codeRequest},
		"not an object":    {"[1]\n", codeRequest},
		"unknown member":   {`{"v":1,"op":"status","pid":1}` + "\n", codeRequest},
		"member twice":     {`{"v":1,"op":"status","op":"bundle"}` + "\n", codeRequest},
		"other version":    {`{"v":2,"op":"status"}` + "\n", codeRequest},
		"two requests":     {`{"v":1,"op":"status"}` + "\n" + `{"v":1,"op":"status"}` + "\n", codeRequest},
		"oversize":         {`{"v":1,"op":"status","delegation":"` + strings.Repeat("x", local.MaxRequest) + `"}` + "\n", codeRequest},
		"no newline":       {`{"v":1,"op":"status"}`, codeRequest},
		"unknown op":       {`{"v":1,"op":"exec"}` + "\n", codeRequest},
		"no url":           {`{"v":1,"op":"proof","delegation":"d","method":"GET"}` + "\n", codeRequest},
		"bad url":          {`{"v":1,"op":"proof","delegation":"` + r.double.task.ID + `","method":"GET","url":"/x"}` + "\n", codeRequest},
		"child without fd": {`{"v":1,"op":"credential","delegation":"d","child":true}` + "\n", codeRequest},
		"no such task":     {`{"v":1,"op":"credential","delegation":"dlg_x"}` + "\n", codeRefused},
		"good":             {`{"v":1,"op":"status"}` + "\n", ""},
	} {
		conn := dial(t, r.socket)
		go func() {
			io.WriteString(conn, c.line)
			conn.CloseWrite()
		}()
		if got := answerCode(t, conn); got != c.code {
			t.Errorf("%s: %q, want %q", name, got, c.code)
		}
	}
}

func TestUnannouncedDescriptorIsRefused(t *testing.T) {
	r := newRig(t).start().self()
	conn := dial(t, r.socket)
	if _, _, err := conn.WriteMsgUnix([]byte(`{"v":1,"op":"status"}`+"\n"), unix.UnixRights(0), nil); err != nil {
		t.Fatal(err)
	}
	if got := answerCode(t, conn); got != codeRequest {
		t.Errorf("%q", got)
	}
}

func TestSlowClientsDoNotStarveOthers(t *testing.T) {
	r := newRig(t)
	r.limits.PerProcess = 20
	r.start().self()
	o := startOther(t, nil, nil, "ask", r.socket)
	r.sensor.exec(o.pid(), 1)
	var slow []net.Conn
	for range 20 {
		slow = append(slow, dial(t, r.socket)) // and never a word
	}
	if _, err := r.client().Status(t.Context()); code(err) != codeBusy {
		t.Errorf("connection 21 of this process: %v", err)
	}
	if _, err := o.ask(t, r.double.task.ID); err != nil {
		t.Errorf("another process: %v", err)
	}
	begin := time.Now()
	if got := answerCode(t, slow[0]); got != codeDeadline {
		t.Errorf("slow client: %q", got)
	}
	if waited := time.Since(begin); waited > readTimeout+2*time.Second {
		t.Errorf("a slow client was kept for %v", waited)
	}
	eventually(t, "room for this process", func() bool {
		_, err := r.client().Status(t.Context())
		return err == nil
	})
}

func TestPerUserQuota(t *testing.T) {
	c := newCensus(Limits{Connections: 4, PerUser: 2, PerProcess: 2})
	for _, step := range []struct {
		uid, pid uint32
		ok       bool
	}{{1, 10, true}, {1, 11, true}, {1, 12, false}, {2, 20, true}, {2, 20, true}, {3, 30, false}} {
		if err := c.enter(step.uid, step.pid); (err == nil) != step.ok {
			t.Errorf("user %d process %d: %v", step.uid, step.pid, err)
		}
	}
	c.leave(1, 10)
	c.leave(2, 20)
	if err := c.enter(3, 30); err != nil {
		t.Error(err)
	}
	c.leave(3, 30)
	c.leave(1, 11)
	c.leave(2, 20)
	if c.all != 0 || len(c.users) != 0 || len(c.processes) != 0 {
		t.Errorf("census %+v after everybody left", c)
	}
}

func TestLimitsFitTheOpenFiles(t *testing.T) {
	for files, want := range map[int]int{1 << 30: 4096, 20000: 4096, 4096: (4096 - 1664) / 4, 1024: 16, 0: 16} {
		if got := DefaultLimits().within(files).Connections; got != want {
			t.Errorf("%d files: %d connections, want %d", files, got, want)
		}
	}
}

func TestInheritedConnectionIsRefused(t *testing.T) {
	r := newRig(t).start().self()
	conn := dial(t, r.socket)
	f, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	o := startOther(t, nil, []*os.File{f}, "inherit", r.socket)
	f.Close()
	r.sensor.exec(o.pid(), 1)
	if _, err := io.WriteString(o.in, `{"v":1,"op":"credential","delegation":"`+r.double.task.ID+`"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := answerCode(t, conn); got != codePeer {
		t.Errorf("a child wrote on its parent's connection: %q", got)
	}
	if r.double.exchanges != 0 {
		t.Error("and a token was issued")
	}
}

func TestUnknownProcessIsRefused(t *testing.T) {
	r := newRig(t).start()
	if _, err := r.ask(); code(err) != codePeer {
		t.Errorf("a process the sensor never saw: %v", err)
	}
	// The sensor knows the pid, but of another process.
	i := bpf.Instance{PID: uint32(os.Getpid()), Start: 1, PidfdInode: 42, Generation: 1}
	r.sensor.states[i.PID] = &bpf.State{Generation: 1}
	r.sensor.say(bpf.Event{Kind: bpf.KindExec, Process: bpf.Process{Instance: i}})
	if _, err := r.ask(); code(err) != codePeer {
		t.Errorf("a process whose pid was another's: %v", err)
	}
	// The kernel is a generation ahead of its records.
	r.self()
	r.sensor.mu.Lock()
	r.sensor.states[i.PID] = &bpf.State{Generation: 2}
	r.sensor.mu.Unlock()
	if _, err := r.ask(); code(err) != codeExec {
		t.Errorf("a process that called exec: %v", err)
	}
	if r.meter.fulls != 0 {
		t.Errorf("%d processes were measured for callers in doubt", r.meter.fulls)
	}
}

// TestOldKernels is the way callers are identified where the kernel does not
// name them by pidfd.
func TestOldKernels(t *testing.T) {
	r := newRig(t)
	r.mode = peer.ModeOpen
	r.start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	i := bpf.Instance{PID: uint32(os.Getpid()), Start: bootClock() + 1e12, PidfdInode: pidfdInode(uint32(os.Getpid())), Generation: 1}
	r.sensor.say(bpf.Event{Kind: bpf.KindExec, Process: bpf.Process{Instance: i}})
	if _, err := r.ask(); code(err) != codePeer {
		t.Errorf("a process younger than its connection: %v", err)
	}
}

func TestTwoProcessesHaveTwoKeys(t *testing.T) {
	r := newRig(t).start()
	keys := make(map[string]bool)
	var group sync.WaitGroup
	var mu sync.Mutex
	for range 3 {
		o := startOther(t, nil, nil, "ask", r.socket)
		r.sensor.exec(o.pid(), 1)
		group.Go(func() {
			first, err := o.ask(t, r.double.task.ID)
			if err != nil {
				t.Error(err)
				return
			}
			again, err := o.ask(t, r.double.task.ID)
			if err != nil || again.Token != first.Token {
				t.Errorf("asked again: %+v, %v", again, err)
			}
			mu.Lock()
			defer mu.Unlock()
			keys[confirmed(t, first.Token)] = true
		})
	}
	group.Wait()
	if len(keys) != 3 {
		t.Errorf("three processes of one user have %d keys", len(keys))
	}
}

func TestBundleIsForRootOnly(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.client().Bundle(t.Context()); code(err) != codeNone {
		t.Errorf("before any evidence: %v", err)
	}
	if _, f := r.agent.do(t.Context(), &local.Request{Op: local.OpBundle}, newPeer(1000), 0); f == nil || f.Code != codeForbidden {
		t.Errorf("user 1000 with effective user 0: %v", f)
	}
	if _, f := r.agent.do(t.Context(), &local.Request{Op: local.OpBundle}, newPeer(0), 1000); f == nil || f.Code != codeForbidden {
		t.Errorf("user 0 with effective user 1000: %v", f)
	}
}

func TestSocketFile(t *testing.T) {
	r := newRig(t).start()
	info, err := os.Stat(r.socket)
	if err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listen(r.socket); err == nil {
		t.Error("a second agent took the socket of a live one")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// What a killed agent left behind is replaced; what is no socket is not.
	stale := filepath.Join(t.TempDir(), "d", "s")
	for range 2 {
		l, err := listen(stale)
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	if info, err := os.Stat(filepath.Dir(stale)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("directory %v, %v", info.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestChildDelivery(t *testing.T) {
	r := newRig(t).start().self()
	credential := func(pid int) (*local.Credential, error) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		return r.client().Credential(t.Context(), local.CredentialRequest{Delegation: r.double.task.ID, Child: f})
	}
	child := startOther(t, nil, nil, "ask", r.socket)
	i := r.sensor.exec(child.pid(), 1)
	if _, err := credential(int(child.pid())); err != nil {
		t.Fatal(err)
	}
	subject := r.double.bundles[0].Requests[0].Value.Subject.Instance
	if subject != instanceOf(i) {
		t.Errorf("the credential is for %s, the child is %s", subject, instanceOf(i))
	}
	if _, err := credential(os.Getpid()); code(err) != codePeer {
		t.Errorf("a process is not its own child: %v", err)
	}
	if _, err := credential(os.Getppid()); code(err) != codePeer {
		t.Errorf("the parent is not a child: %v", err)
	}
	nobody := startOther(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, nil, "ask", r.socket)
	r.sensor.exec(nobody.pid(), 1)
	if _, err := credential(int(nobody.pid())); code(err) != codePeer {
		t.Errorf("a child of another user: %v", err)
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := r.client().Credential(t.Context(), local.CredentialRequest{Delegation: r.double.task.ID, Child: f}); code(err) != codePeer {
		t.Errorf("a descriptor that is no pidfd: %v", err)
	}
}
