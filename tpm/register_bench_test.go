// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// anchored is what the agent does for one batch.
func anchored(b testing.TB, r *LatchRegister, ak *AK) {
	must(b, r.Extend(b.Context(), evidence.Hash{1}))
	_, _, err := r.Certify(b.Context(), ak, evidence.Hash{2})
	must(b, err)
	_, err = ak.Quote(b.Context(), evidence.Hash{2})
	must(b, err)
}

// BenchmarkRegister is extend, certify and quote through this package, in
// turn with the same commands as bytes that were prepared before, on the same
// socket, with nobody looking at the answers: "overhead" is what the package
// adds to one of the latter.
func BenchmarkRegister(b *testing.B) {
	for name, delay := range map[string]time.Duration{"soft": 0, "chip": 15 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			chip := startTPM(b, softtpm.Options{Blank: true, Firmware: true})
			dev := open(b, chip.Path())
			ak := createAK(b, dev, "1")
			r := latched(b, dev, RegisterOptions{}, evidence.Hash{})
			inner := dev.bus.link
			var commands [][]byte
			dev.bus.link = linkFunc{inner, func(command []byte) ([]byte, error) {
				commands = append(commands, bytes.Clone(command))
				return inner.exchange(command)
			}}
			anchored(b, r, ak)
			dev.bus.link = inner
			// Each command of a real chip takes milliseconds, its signatures many.
			chip.SetDelay(10*delay, delay)
			var ours, theirs time.Duration
			for b.Loop() {
				began := time.Now()
				anchored(b, r, ak)
				between := time.Now()
				bare(b, inner.(*socketLink).Conn, commands)
				ours, theirs = ours+between.Sub(began), theirs+time.Since(between)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(theirs.Microseconds())/float64(b.N), "bare-us")
			b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "package-us")
			b.ReportMetric(100*(float64(ours)/float64(theirs)-1), "overhead-%")
		})
	}
}

// bare sends commands, with the session that the first of them opens in those
// that use it.
func bare(b *testing.B, conn net.Conn, commands [][]byte) {
	var session []byte
	answer := make([]byte, maxFrame)
	for _, command := range commands {
		switch commandCode(command) {
		case tpm2.TPMCCPolicyNvWritten, tpm2.TPMCCPolicyCommandCode, tpm2.TPMCCPolicyOR:
			copy(command[headerSize:], session)
		case tpm2.TPMCCNVExtend:
			copy(command[headerSize+12:], session)
		}
		if _, err := conn.Write(command); err != nil {
			b.Fatal(err)
		}
		n, err := conn.Read(answer)
		if err != nil || binary.BigEndian.Uint32(answer[6:]) != 0 || n != int(binary.BigEndian.Uint32(answer[2:])) {
			b.Fatalf("%v: %x", err, answer[:n])
		}
		if commandCode(command) == tpm2.TPMCCStartAuthSession {
			session = bytes.Clone(answer[headerSize : headerSize+4])
		}
	}
}
