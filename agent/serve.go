// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/agent/internal/peer"
	"github.com/jurat-dev/jurat/agent/local"
)

const (
	readTimeout  = 3 * time.Second // for the request after the greeting
	writeTimeout = 5 * time.Second

	lingerTimeout = 200 * time.Millisecond
	maxLinger     = 1 << 20 // bytes
)

// listen makes the socket. Everybody may connect: what they get depends on
// what they are.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("socket %s: another juratd answers there", path)
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is there and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve answers connections until ctx ends, and waits for those under way.
func (a *Agent) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { a.listener.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := a.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ECONNABORTED):
			a.logger.Warn("accepting a connection", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return err
		}
		group.Go(func() {
			defer conn.Close()
			a.converse(ctx, conn)
		})
	}
}

// converse is one connection: greeting, one request, one answer. It counts
// among its user's and its process's until the very end.
func (a *Agent) converse(ctx context.Context, conn *net.UnixConn) {
	c, err := peer.Accept(conn, a.mode)
	if err != nil {
		a.say(conn, nil, fault(codePeer, "%v", err))
		return
	}
	defer c.Close()
	if err := a.users.enter(c.UID, c.PID()); err != nil {
		a.say(conn, nil, fault(codeBusy, "%v", err))
		return
	}
	defer a.users.leave(c.UID, c.PID())
	answer, f := a.hear(ctx, conn, c)
	if l, follows := answer.(*listener); follows && f == nil {
		a.follow(ctx, conn, l)
		return
	}
	if a.say(conn, answer, f) && f != nil {
		linger(conn)
	}
}

// say writes the answer, or the fault if there is one. Who does not read it
// does not get it; that is all.
func (a *Agent) say(conn *net.UnixConn, answer any, f *local.Error) bool {
	if f != nil {
		answer = struct {
			Error *local.Error `json:"error"`
		}{f}
	}
	line, err := json.Marshal(answer)
	if err != nil {
		a.logger.Error("encoding an answer", "error", err)
		return false
	}
	if conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
		return false
	}
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}

// linger takes in what a client still writes after it was refused. Closing a
// connection with unread data would take the answer away from it.
func linger(conn *net.UnixConn) {
	if conn.CloseWrite() == nil && conn.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, conn, maxLinger)
	}
}

func (a *Agent) hear(ctx context.Context, conn *net.UnixConn, c *peer.Connection) (any, *local.Error) {
	if err := conn.SetDeadline(time.Now().Add(readTimeout)); err != nil {
		return nil, fault(codeInternal, "%v", err)
	}
	if err := c.Greet(greeting); err != nil {
		return nil, fault(codeRequest, "%v", err)
	}
	line, p, err := c.Receive(local.MaxRequest)
	switch {
	case errors.Is(err, peer.ErrDoubt):
		return nil, fault(codePeer, "%v", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault(codeDeadline, "no whole request within %v", readTimeout)
	case err != nil:
		return nil, fault(codeRequest, "%v", err)
	}
	defer p.Close()
	r, err := local.ParseRequest(line)
	if err != nil {
		return nil, fault(codeRequest, "%v", err)
	}
	if p.Child >= 0 && !r.Child {
		return nil, fault(codeRequest, "a descriptor came along that the request does not mention")
	}
	ctx, cancel := context.WithTimeout(ctx, a.limits.Deadline)
	defer cancel()
	return a.do(ctx, r, p, c.UID)
}

var greeting = []byte(`{"jurat":1}` + "\n")

// do answers one request of the peer. connector is the effective user who
// connected; p.UID the real one who wrote.
func (a *Agent) do(ctx context.Context, r *local.Request, p *peer.Peer, connector uint32) (any, *local.Error) {
	switch r.Op {
	case local.OpStatus:
		return a.status(), nil
	case local.OpBundle, local.OpProcesses, local.OpEvents, local.OpMeasurements, local.OpExplain:
		if p.UID != 0 || connector != 0 {
			return nil, fault(codeForbidden, "%s is for root only", r.Op)
		}
		return a.show(ctx, r)
	case local.OpProof:
		return a.proof(ctx, r, p)
	case local.OpCredential:
		return a.token(ctx, r, p)
	}
	return nil, fault(codeRequest, "unknown operation %q", r.Op)
}

// show answers what only root may ask.
func (a *Agent) show(ctx context.Context, r *local.Request) (any, *local.Error) {
	switch r.Op {
	case local.OpProcesses:
		return a.processes(r.PID), nil
	case local.OpMeasurements:
		return a.measurements(), nil
	case local.OpExplain:
		return a.explain(ctx, r.PID)
	case local.OpEvents:
		l, err := a.feed.join()
		if err != nil {
			return nil, faultOf(codeInternal, err)
		}
		return l, nil
	}
	return a.lastBundle()
}

// follow writes the events to a client until it hangs up, does not take them
// any more, or the agent ends.
func (a *Agent) follow(ctx context.Context, conn *net.UnixConn, l *listener) {
	defer a.feed.part(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if conn.SetReadDeadline(time.Time{}) != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	go func() { // a client that follows says nothing more; it only hangs up
		defer cancel()
		_, _ = conn.Read(make([]byte, 1))
	}()
	for {
		ev, err := l.next(ctx)
		if err != nil || !a.say(conn, &ev, nil) {
			return
		}
	}
}

// token answers OpCredential.
func (a *Agent) token(ctx context.Context, r *local.Request, p *peer.Peer) (*local.Credential, *local.Error) {
	s, f := a.identify(ctx, p.Pidfd, p.UID, p.PID, p.Before)
	if f == nil && r.Child {
		s, f = a.child(ctx, p)
	}
	if f != nil {
		return nil, f
	}
	g, f := a.obtain(ctx, s, r)
	if f != nil {
		return nil, f
	}
	return &local.Credential{
		Token: g.token.Access, TokenType: g.token.Type, ExpiresAt: g.expires.Unix(), Txn: g.token.Txn, Audience: g.audience,
	}, nil
}

// proof answers OpProof.
func (a *Agent) proof(ctx context.Context, r *local.Request, p *peer.Peer) (*local.Proof, *local.Error) {
	s, f := a.identify(ctx, p.Pidfd, p.UID, p.PID, p.Before)
	if f != nil {
		return nil, f
	}
	g, f := a.obtain(ctx, s, r)
	if f != nil {
		return nil, f
	}
	proof, err := g.key.Proof(r.Method, r.URL, r.Nonce, g.token.Access, a.now())
	if err != nil {
		return nil, fault(codeRequest, "%v", err)
	}
	return &local.Proof{Authorization: g.token.Type + " " + g.token.Access, DPoP: proof, ExpiresAt: g.expires.Unix()}, nil
}

// obtain finds out what the request asks for, and gets it.
func (a *Agent) obtain(ctx context.Context, s *subject, r *local.Request) (*grantView, *local.Error) {
	d, err := a.task(ctx, r.Delegation)
	if err != nil {
		return nil, faultOf(codeInternal, err)
	}
	w := want{d: d.D, audience: d.Object.Audience, actions: r.Actions, datatypes: r.Datatypes, bearer: r.Bearer}
	if len(w.actions) == 0 {
		w.actions = d.Object.Actions
	}
	if len(w.datatypes) == 0 {
		w.datatypes = d.Object.Limits.Datatypes
	}
	return a.credential(ctx, s, w)
}

// census counts connections, so that nobody takes all of them.
type census struct {
	limits Limits

	mu        sync.Mutex // guards what follows
	all       int
	users     map[uint32]int
	processes map[uint32]int
}

func newCensus(l Limits) *census {
	return &census{limits: l, users: make(map[uint32]int), processes: make(map[uint32]int)}
}

func (c *census) enter(uid, pid uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.all >= c.limits.Connections:
		return fmt.Errorf("%d connections, at most that many at once", c.all)
	case c.users[uid] >= c.limits.PerUser:
		return fmt.Errorf("%d connections of user %d, at most that many at once", c.users[uid], uid)
	case c.processes[pid] >= c.limits.PerProcess:
		return fmt.Errorf("%d connections of process %d, at most that many at once", c.processes[pid], pid)
	}
	c.all++
	c.users[uid]++
	c.processes[pid]++
	return nil
}

func (c *census) leave(uid, pid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.users[uid]--; c.users[uid] == 0 {
		delete(c.users, uid)
	}
	if c.processes[pid]--; c.processes[pid] == 0 {
		delete(c.processes, pid)
	}
}
