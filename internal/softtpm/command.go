// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/google/go-tpm/tpm2"
)

// Frames of TPM commands and answers (TPM 2.0 part 1 section 18): tag, size of
// the whole, code.
const (
	frameHeader = 10
	frameMax    = 4096
)

// readFrame reads one command or one answer, no byte more.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, frameHeader, 512)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(frame[2:]))
	if size < frameHeader || size > frameMax {
		return nil, fmt.Errorf("frame of %d bytes, want %d to %d", size, frameHeader, frameMax)
	}
	frame = append(frame, make([]byte, size-frameHeader)...)
	_, err := io.ReadFull(r, frame[frameHeader:])
	return frame, err
}

// wire sends commands over one connection; it is a transport for go-tpm.
type wire struct{ conn net.Conn }

func (w wire) Send(command []byte) ([]byte, error) {
	if _, err := w.conn.Write(command); err != nil {
		return nil, err
	}
	return readFrame(w.conn)
}

// onSocket connects, does one thing, and disconnects.
func onSocket(path string, do func(wire) error) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(wire{conn})
}

// shutdown is what a machine tells its TPM before the power goes.
type shutdown uint16

const (
	shutdownNone  shutdown = 0xffff
	shutdownClear shutdown = shutdown(tpm2.TPMSUClear)
	shutdownState shutdown = shutdown(tpm2.TPMSUState)
)

func (s shutdown) send(w wire) error {
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSU(s)}).Execute(w); err != nil {
		return fmt.Errorf("TPM2_Shutdown: %w", err)
	}
	return nil
}

// Measure extends pcr with digest in the SHA-256 bank, as a firmware or a
// kernel would.
func (t *TPM) Measure(pcr int, digest [32]byte) error {
	return onSocket(t.Path(), func(w wire) error {
		return extend(w, pcr, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]})
	})
}

func extend(w wire, pcr int, digests ...tpm2.TPMTHA) error {
	if pcr < 0 || pcr > 23 {
		return fmt.Errorf("PCR %d, want 0 to 23", pcr)
	}
	cmd := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}
	if _, err := cmd.Execute(w); err != nil {
		return fmt.Errorf("TPM2_PCR_Extend of PCR %d: %w", pcr, err)
	}
	return nil
}
