// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// link carries one command to the TPM and its whole answer back. After an
// error it is out of step and must not be used again.
type link interface {
	exchange(command []byte) ([]byte, error)
	Close() error
}

// errFrame says that what came back is no TPM 2.0 answer.
var errFrame = errors.New("not the answer of a TPM 2.0")

// checkFrame checks the ten bytes in front of an answer and returns the size
// of the whole.
func checkFrame(header []byte) (int, error) {
	tag := tpm2.TPMST(binary.BigEndian.Uint16(header))
	size := binary.BigEndian.Uint32(header[2:])
	if tag != tpm2.TPMSTNoSessions && tag != tpm2.TPMSTSessions {
		return 0, fmt.Errorf("%w: tag 0x%04x", errFrame, uint16(tag))
	}
	if size < headerSize || size > maxFrame {
		return 0, fmt.Errorf("%w: size %d, want %d to %d", errFrame, size, headerSize, maxFrame)
	}
	return int(size), nil
}

// readAnswer reads one answer from a stream, and no byte more.
func readAnswer(r io.Reader) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size, err := checkFrame(header[:])
	if err != nil {
		return nil, err
	}
	answer := make([]byte, size)
	copy(answer, header[:])
	_, err = io.ReadFull(r, answer[headerSize:])
	return answer, err
}

// socketLink is one connection to a software TPM, kept for all commands:
// sessions and transient objects live as long as it does.
type socketLink struct {
	net.Conn
	timeout, keyTimeout time.Duration
}

func (l *socketLink) exchange(command []byte) ([]byte, error) {
	timeout := l.timeout
	if commandCode(command) == tpm2.TPMCCCreatePrimary {
		timeout = l.keyTimeout
	}
	if err := l.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	_, err := l.Write(command)
	if err != nil {
		return nil, err
	}
	answer, err := readAnswer(l.Conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("no answer within %v", timeout)
	}
	return answer, err
}

// deviceLink is a TPM character device, opened for blocking I/O: the kernel
// runs the command during the write and hands out the answer in one read.
type deviceLink struct {
	io.ReadWriteCloser
	timeout time.Duration
}

// exchange returns after the timeout even if the kernel does not. The
// goroutine that is stuck in the kernel then ends with the process.
func (l *deviceLink) exchange(command []byte) ([]byte, error) {
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := l.writeRead(command)
		done <- result{answer, err}
	}()
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-timer.C:
		return nil, fmt.Errorf("no answer within %v", l.timeout)
	}
}

func (l *deviceLink) writeRead(command []byte) ([]byte, error) {
	if _, err := l.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, maxFrame)
	n, err := l.Read(answer)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	answer = answer[:n]
	if n < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	size, err := checkFrame(answer)
	if err != nil {
		return nil, err
	}
	if size != n {
		return nil, fmt.Errorf("%w: %d bytes that say they are %d", errFrame, n, size)
	}
	return answer, nil
}

func commandCode(command []byte) tpm2.TPMCC {
	return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
}

func responseCode(answer []byte) tpm2.TPMRC {
	return tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:]))
}
