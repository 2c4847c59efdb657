// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/bootlog"
)

// EventLog is the file with the log of the last boot, in the binary form of
// the kernel's binary_bios_measurements. It is there with Options.Firmware.
func (t *TPM) EventLog() string { return filepath.Join(t.dir, bootLogName) }

// SetBoot says what the machine boots from its next start on.
func (t *TPM) SetBoot(boot bootlog.Boot) { t.opts.Boot = boot }

// measureBoot extends a boot into every active bank, event by event, and
// writes its log.
func (t *TPM) measureBoot(w wire) error {
	banks, err := activeBanks(w)
	if err != nil {
		return err
	}
	log, events := t.opts.Boot.Log(banks...)
	for _, e := range events {
		digests := make([]tpm2.TPMTHA, len(banks))
		for i, bank := range banks {
			digests[i] = tpm2.TPMTHA{HashAlg: tpm2.TPMIAlgHash(bank.Algorithm), Digest: e.Digests[i]}
		}
		if err := extend(w, e.PCR, digests...); err != nil {
			return err
		}
	}
	return os.WriteFile(t.EventLog(), log, 0o600)
}

// activeBanks asks which banks there are to extend.
func activeBanks(w wire) ([]bootlog.Bank, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(w)
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, err
	}
	var banks []bootlog.Bank
	for _, selection := range list.PCRSelections {
		if !slices.ContainsFunc(selection.PCRSelect, func(b byte) bool { return b != 0 }) {
			continue
		}
		hash, err := selection.Hash.Hash()
		if err != nil {
			return nil, fmt.Errorf("PCR bank 0x%x: %w", uint16(selection.Hash), err)
		}
		banks = append(banks, bootlog.Bank{Algorithm: uint16(selection.Hash), Hash: hash})
	}
	return banks, nil
}
