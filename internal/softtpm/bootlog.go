// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"crypto"
	_ "crypto/sha1" // a bank that swtpm may have
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// event is one line of the log, and what its digests are digests of.
type event struct {
	pcr      uint32
	kind     uint32
	data     []byte
	measured []byte
}

// bank is an active PCR bank.
type bank struct {
	algorithm tpm2.TPMIAlgHash
	hash      crypto.Hash
}

// measureBoot extends a boot into every active bank, event by event, and
// returns its log in the crypto-agile format (section 10.2 of the profile).
func measureBoot(w wire, boot Boot) ([]byte, error) {
	banks, err := activeBanks(w)
	if err != nil {
		return nil, err
	}
	log := specID(banks)
	for _, e := range boot.events() {
		digests := make([]tpm2.TPMTHA, len(banks))
		log = binary.LittleEndian.AppendUint32(log, e.pcr)
		log = binary.LittleEndian.AppendUint32(log, e.kind)
		log = binary.LittleEndian.AppendUint32(log, uint32(len(banks)))
		for i, b := range banks {
			h := b.hash.New()
			h.Write(e.measured)
			digests[i] = tpm2.TPMTHA{HashAlg: b.algorithm, Digest: h.Sum(nil)}
			log = binary.LittleEndian.AppendUint16(log, uint16(b.algorithm))
			log = append(log, digests[i].Digest...)
		}
		log = binary.LittleEndian.AppendUint32(log, uint32(len(e.data)))
		log = append(log, e.data...)
		if err := extend(w, int(e.pcr), digests...); err != nil {
			return nil, err
		}
	}
	return log, nil
}

// activeBanks asks which banks there are to extend.
func activeBanks(w wire) ([]bank, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(w)
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, err
	}
	var banks []bank
	for _, selection := range list.PCRSelections {
		if !slices.ContainsFunc(selection.PCRSelect, func(b byte) bool { return b != 0 }) {
			continue
		}
		hash, err := selection.Hash.Hash()
		if err != nil {
			return nil, fmt.Errorf("PCR bank 0x%x: %w", uint16(selection.Hash), err)
		}
		banks = append(banks, bank{selection.Hash, hash})
	}
	return banks, nil
}

// specID is the head of the log: an event in the old format that says how the
// others are to be read (TCG_EfiSpecIDEvent).
func specID(banks []bank) []byte {
	id := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2) // platform class, version 2.0, errata 0, uintnSize 2
	id = binary.LittleEndian.AppendUint32(id, uint32(len(banks)))
	for _, b := range banks {
		id = binary.LittleEndian.AppendUint16(id, uint16(b.algorithm))
		id = binary.LittleEndian.AppendUint16(id, uint16(b.hash.Size()))
	}
	id = append(id, 0) // no vendor information
	head := binary.LittleEndian.AppendUint32(nil, 0)
	head = binary.LittleEndian.AppendUint32(head, evNoAction)
	head = append(head, make([]byte, 20)...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(id)))
	return append(head, id...)
}

// EventLog is the file with the log of the last boot, in the binary form of
// the kernel's binary_bios_measurements. It is there with Options.Firmware.
func (t *TPM) EventLog() string { return filepath.Join(t.dir, bootLog) }

// SetBoot says what the machine boots from its next start on.
func (t *TPM) SetBoot(boot Boot) { t.opts.Boot = boot }

// boot measures a boot and writes its log.
func (t *TPM) boot(w wire) error {
	log, err := measureBoot(w, t.opts.Boot)
	if err != nil {
		return err
	}
	return os.WriteFile(t.EventLog(), log, 0o600)
}
