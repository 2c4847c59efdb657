// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// TestMain lets the tests run this binary as the jurat command.
func TestMain(m *testing.M) {
	if os.Getenv("JURAT_TEST_AS_COMMAND") != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// noon is when the tests take place.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// world is what the command sees in a test: a juratd, a broker, an environment.
type world struct {
	t      *testing.T
	dir    string
	agent  *fakeAgent
	admin  *http.ServeMux // operator socket
	public *httptest.Server
	mux    *http.ServeMux // public API
	env    map[string]string
	stdin  string
	execve func(path string, argv, env []string) error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), admin: http.NewServeMux(), mux: http.NewServeMux(), env: map[string]string{}}
	w.agent = newAgent(t, w.path("agent.sock"))
	l, err := net.Listen("unix", w.path("admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	operator := httptest.NewUnstartedServer(w.admin)
	operator.Listener = l
	operator.Start()
	t.Cleanup(operator.Close)
	w.public = httptest.NewServer(w.mux)
	t.Cleanup(w.public.Close)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// answers makes the operator socket answer a pattern with JSON.
func (w *world) answers(pattern, body string) { reply(w.admin, pattern, 200, body) }

func reply(mux *http.ServeMux, pattern string, status int, body string) {
	mux.HandleFunc(pattern, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		rw.Write([]byte(body))
	})
}

// run runs the command; what differs from run to run is replaced.
func (w *world) run(args ...string) (code int, out, errs string) {
	var o, e strings.Builder
	a := &app{
		in: strings.NewReader(w.stdin), out: &o, err: &e, now: func() time.Time { return noon }, execve: w.execve,
		env: func(name string) string { return w.env[name] },
	}
	code = a.main(context.Background(), args)
	same := strings.NewReplacer(w.dir, "DIR", w.public.URL, "BROKER")
	return code, same.Replace(o.String()), same.Replace(e.String())
}

// sockets are the flags that lead to this world's juratd and operator socket.
func (w *world) sockets(args ...string) []string {
	return append([]string{"--socket", w.path("agent.sock"), "--admin", w.path("admin.sock")}, args...)
}

// fakeAgent speaks juratd's protocol.
type fakeAgent struct {
	t *testing.T

	mu     sync.Mutex // guards what follows
	asked  []local.Request
	pids   []int // of the children whose pidfd came along
	answer func(n int, r local.Request) any
}

func newAgent(t *testing.T, socket string) *fakeAgent {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &fakeAgent{t: t, answer: func(int, local.Request) any { return &local.Error{Code: local.CodeNone, Message: "nothing"} }}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go g.serve(c)
		}
	}()
	return g
}

func (g *fakeAgent) set(answer func(n int, r local.Request) any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

func (g *fakeAgent) requests() []local.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]local.Request(nil), g.asked...)
}

func (g *fakeAgent) serve(c *net.UnixConn) {
	defer c.Close()
	json.NewEncoder(c).Encode(local.Greeting{Version: local.Version})
	line, rights := make([]byte, local.MaxRequest), make([]byte, syscall.CmsgSpace(4))
	n, nr, _, _, err := c.ReadMsgUnix(line, rights)
	if err != nil {
		return
	}
	r, err := local.ParseRequest(line[:n])
	if err != nil {
		g.t.Errorf("the command asked %q: %v", line[:n], err)
		return
	}
	g.mu.Lock()
	g.asked = append(g.asked, *r)
	if r.Child {
		g.pids = append(g.pids, pidOf(g.t, rights[:nr]))
	}
	v := g.answer(len(g.asked)-1, *r)
	g.mu.Unlock()
	if e, ok := v.(*local.Error); ok {
		v = map[string]any{"error": e}
	}
	json.NewEncoder(c).Encode(v)
}

// pidOf returns the pid behind a pidfd that came with a message, 0 if there is
// none.
func pidOf(t *testing.T, rights []byte) int {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		t.Errorf("%d control messages: %v", len(messages), err)
		return 0
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Errorf("%d descriptors: %v", len(fds), err)
		return 0
	}
	f := os.NewFile(uintptr(fds[0]), "pidfd")
	defer f.Close()
	info, err := os.Open("/proc/self/fdinfo/" + itoa(fds[0]))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer info.Close()
	for s := bufio.NewScanner(info); s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "Pid:\t"); ok {
			return atoi(text)
		}
	}
	return 0
}
