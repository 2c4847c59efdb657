// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// relay lets several clients use one swtpm, one command at a time.
type relay struct {
	listener net.Listener
	raw      string // swtpm's socket
	clients  sync.WaitGroup

	// bus is held while a command is at the TPM; it guards what follows.
	bus      sync.Mutex
	upstream net.Conn            // nil while no client has needed it
	owner    map[uint32]net.Conn // transient handles and sessions, and whose they are

	// mu guards what follows; it is never held across I/O.
	mu          sync.Mutex
	conns       map[net.Conn]bool
	quote, each time.Duration
	closed      bool
}

func newRelay(path, raw string) (*relay, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	r := &relay{
		listener: listener, raw: raw,
		owner: make(map[uint32]net.Conn), conns: make(map[net.Conn]bool),
	}
	r.clients.Go(r.accept)
	return r, nil
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			conn.Close()
			return
		}
		r.conns[conn] = true
		r.mu.Unlock()
		r.clients.Go(func() { r.serve(conn) })
	}
}

// serve passes one client's commands on until the client or the TPM is gone.
func (r *relay) serve(client net.Conn) {
	defer r.leave(client)
	for {
		command, err := readFrame(client)
		if err != nil {
			return
		}
		answer, err := r.pass(client, command)
		if err != nil {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

func (r *relay) pass(client net.Conn, command []byte) ([]byte, error) {
	r.bus.Lock()
	defer r.bus.Unlock()
	code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	time.Sleep(r.delay(code))
	answer, err := r.exchange(command)
	if err == nil {
		r.note(client, code, command, answer)
	}
	return answer, err
}

// exchange talks to swtpm; the caller holds the bus.
func (r *relay) exchange(command []byte) ([]byte, error) {
	if r.upstream == nil {
		conn, err := net.Dial("unix", r.raw)
		if err != nil {
			return nil, err
		}
		r.upstream = conn
	}
	answer, err := wire{r.upstream}.Send(command)
	if err != nil {
		r.upstream.Close()
		r.upstream = nil
		clear(r.owner)
	}
	return answer, err
}

// note keeps account of who owns which transient object and session.
func (r *relay) note(client net.Conn, code tpm2.TPMCC, command, answer []byte) {
	if binary.BigEndian.Uint32(answer[6:]) != uint32(tpm2.TPMRCSuccess) {
		return
	}
	switch code {
	case tpm2.TPMCCCreatePrimary, tpm2.TPMCCLoad, tpm2.TPMCCLoadExternal, tpm2.TPMCCContextLoad,
		tpm2.TPMCCStartAuthSession, tpm2.TPMCCCreateLoaded, tpm2.TPMCCHMACStart, tpm2.TPMCCHashSequenceStart:
		if len(answer) >= frameHeader+4 {
			r.owner[binary.BigEndian.Uint32(answer[frameHeader:])] = client
		}
	case tpm2.TPMCCFlushContext:
		if len(command) >= frameHeader+4 {
			delete(r.owner, binary.BigEndian.Uint32(command[frameHeader:]))
		}
	}
}

// leave flushes what a client left behind. The connection to swtpm is given
// up with the last client, so that RawPath can be used then.
func (r *relay) leave(client net.Conn) {
	client.Close()
	r.bus.Lock()
	defer r.bus.Unlock()
	for handle, owner := range r.owner {
		if owner == client && r.upstream != nil {
			// A session may have ended by itself; then there is nothing to flush.
			_, _ = (tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(handle)}).Execute(busOwner{r})
			delete(r.owner, handle)
		}
	}
	r.mu.Lock()
	delete(r.conns, client)
	last := len(r.conns) == 0
	r.mu.Unlock()
	if last && r.upstream != nil {
		r.upstream.Close()
		r.upstream = nil
	}
}

// busOwner is the transport of someone who holds the bus.
type busOwner struct{ r *relay }

func (b busOwner) Send(command []byte) ([]byte, error) { return b.r.exchange(command) }

func (r *relay) delay(code tpm2.TPMCC) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if code == tpm2.TPMCCQuote {
		return r.quote
	}
	return r.each
}

func (r *relay) setDelay(quote, each time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quote, r.each = quote, each
}

// halt disconnects every client and swtpm and takes the bus: until resume, a
// new client waits for its first answer.
func (r *relay) halt() {
	r.mu.Lock()
	for conn := range r.conns {
		conn.Close()
	}
	r.mu.Unlock()
	r.bus.Lock()
	if r.upstream != nil {
		r.upstream.Close()
		r.upstream = nil
	}
	clear(r.owner)
}

func (r *relay) resume() { r.bus.Unlock() }

func (r *relay) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	err := r.listener.Close()
	r.halt()
	r.resume()
	r.clients.Wait()
	return err
}
