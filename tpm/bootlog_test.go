// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"os"
	"testing"

	"github.com/google/go-attestation/attest"

	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// The boot that a software TPM's firmware measures convinces a verifier that
// nobody here wrote, with the PCR values that this package reads.
func TestSoftBootConvincesGoAttestation(t *testing.T) {
	for _, off := range []bool{false, true} {
		chip := startTPM(t, softtpm.Options{Blank: true, Firmware: true, Boot: bootlog.Boot{SecureBootOff: off}})
		dev := open(t, chip.Path())
		values, err := dev.ReadPCRs(t.Context(), quoted)
		must(t, err)
		raw, err := os.ReadFile(chip.EventLog())
		must(t, err)
		log, err := attest.ParseEventLog(raw)
		must(t, err)
		var pcrs []attest.PCR
		for _, value := range values {
			pcrs = append(pcrs, attest.PCR{Index: int(value.Index), Digest: value.Digest, DigestAlg: 5})
		}
		events, err := log.Verify(pcrs)
		must(t, err)
		state, err := attest.ParseSecurebootState(events)
		must(t, err)
		if state.Enabled == off {
			t.Errorf("Secure Boot is %v, want %v", state.Enabled, !off)
		}
		// The firmware's authority for shim, and shim's for what it starts.
		if n := len(state.PostSeparatorAuthority); !off && n != 2 || off && n != 0 || len(state.PlatformKeys) != 1 || len(state.PermittedKeys) != 1 {
			t.Errorf("Secure Boot %v: %d authorities, %d platform keys, %d permitted", !off, n, len(state.PlatformKeys), len(state.PermittedKeys))
		}
	}
}
