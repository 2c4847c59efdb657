// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

// tap stands on the bus between an agent and its TPM. hook sees every command;
// it passes it on, or answers in the TPM's place.
type tap struct {
	path string

	mu   sync.Mutex // guards hook
	hook func(code tpm2.TPMCC, forward func() []byte) []byte
}

// newTap listens in front of a TPM until the test ends.
func newTap(t testing.TB, device *softtpm.TPM) *tap {
	t.Helper()
	p := &tap{path: filepath.Join(filepath.Dir(device.Path()), "tap.sock")}
	listener, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			stop := context.AfterFunc(ctx, func() { client.Close() })
			group.Go(func() {
				defer stop()
				p.serve(client, device.Path())
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cancel() // a test that failed leaves agents behind
		group.Wait()
	})
	return p
}

func (p *tap) set(hook func(code tpm2.TPMCC, forward func() []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// serve carries one client's commands until either side is gone.
func (p *tap) serve(client net.Conn, path string) {
	defer client.Close()
	server, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		command, err := readFrame(client)
		if err != nil {
			return
		}
		forward := func() []byte {
			if _, err := server.Write(command); err != nil {
				return nil
			}
			answer, err := readFrame(server)
			if err != nil {
				return nil
			}
			return answer
		}
		p.mu.Lock()
		hook := p.hook
		p.mu.Unlock()
		answer := []byte(nil)
		if hook == nil {
			answer = forward()
		} else {
			answer = hook(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])), forward)
		}
		if answer == nil {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// readFrame reads one command or one answer.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 10)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(frame[2:])
	if size < 10 || size > 4096 {
		return nil, io.ErrUnexpectedEOF
	}
	frame = append(frame, make([]byte, size-10)...)
	_, err := io.ReadFull(r, frame[10:])
	return frame, err
}

// done is success of a command with one session and no parameters.
func done() []byte {
	return []byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}
}

// dropping says that commands of this code were done, and does none.
func dropping(dropped tpm2.TPMCC) func(tpm2.TPMCC, func() []byte) []byte {
	return func(code tpm2.TPMCC, forward func() []byte) []byte {
		if code == dropped {
			return done()
		}
		return forward()
	}
}
