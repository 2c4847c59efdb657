// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

// listen answers each connection to a socket.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "sock")
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return path
}

// mute takes commands and says nothing until the other side goes.
func mute(conn net.Conn) {
	io.Copy(io.Discard, conn)
	conn.Close()
}

func TestHangingTPM(t *testing.T) {
	r := bare(t)
	r.opts.TPM, r.opts.Patience = listen(t, mute), 200*time.Millisecond
	got := r.run()
	want(t, got, "TPM", Bad, "does not answer within 200ms", "--patience 30s")
	want(t, got, "clock", Unknown, noTPM, "")
	want(t, got, "kernel", OK, "6.12.1-test", "")
}

func TestNotATPM(t *testing.T) {
	r := bare(t)
	r.opts.TPM = listen(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		mute(conn)
	})
	want(t, r.run(), "TPM", Bad, "is no TPM 2.0", "/dev/tpmrm0")
	r.opts.TPM = "/dev/null"
	want(t, r.run(), "TPM", Bad, "is no TPM 2.0", "/dev/tpmrm0")
	r.opts.TPM = r.opts.Root + btfPath
	want(t, r.run(), "TPM", Bad, "is no TPM 2.0", "/dev/tpmrm0")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	must(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
	r.opts.TPM = l.Addr().String()
	want(t, r.run(), "TPM", Bad, "no TPM at", "is the software TPM running?")
}

// between puts itself in front of a TPM, which stops answering, or goes, at
// the first command with a code.
func between(t *testing.T, chip *softtpm.TPM, code uint32, then func(net.Conn)) string {
	return listen(t, func(conn net.Conn) {
		defer conn.Close()
		behind, err := net.Dial("unix", chip.Path())
		if err != nil {
			return
		}
		defer behind.Close()
		go io.Copy(conn, behind)
		for {
			head := make([]byte, 10)
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			if binary.BigEndian.Uint32(head[6:]) == code {
				then(conn)
				return
			}
			rest := make([]byte, binary.BigEndian.Uint32(head[2:])-10)
			if _, err := io.ReadFull(conn, rest); err != nil {
				return
			}
			behind.Write(append(head, rest...))
		}
	})
}

// A TPM that stops in the middle: what it said before is there.
func TestStopsInTheMiddle(t *testing.T) {
	r := healthy(t, softtpm.Options{Blank: true})
	const (
		readClock  = 0x181
		readPublic = 0x173
	)
	gone := func(net.Conn) {}
	r.opts.TPM = between(t, r.chip, readClock, gone)
	want(t, r.run(), "TPM", Bad, "TPM is gone", "restart the machine")
	r.opts.TPM = between(t, r.chip, readPublic, gone)
	want(t, r.run(), "EK", Bad, "TPM is gone", "hierarchies")
	r.opts.Patience = 2 * time.Second
	r.opts.TPM = between(t, r.chip, readClock, mute)
	want(t, r.run(), "TPM", Bad, "does not answer within 2s", "--patience")
	r.opts.TPM = between(t, r.chip, readPublic, mute)
	got := r.run()
	want(t, got, "EK", Unknown, "keys not made within 3s", "--patience 60s")
	want(t, got, "boot PCRs", OK, "0 to 7", "")
	if len(got.EK) != 0 || got.TPM == nil {
		t.Errorf("%+v", got)
	}
}
