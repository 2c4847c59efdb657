// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package bootlog writes the boot event log of a machine that does not exist:
// what firmware, shim, GRUB and kernel would measure, event by event. It is for
// software TPMs and for tests, ships in no program, has no door, and gives the
// same bytes each time.
package bootlog

import (
	"crypto"
	_ "crypto/sha1" // a bank that a TPM may have
	"crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
)

// Bank is a PCR bank to be filled.
type Bank struct {
	Algorithm uint16 // TPM_ALG_ID
	Hash      crypto.Hash
}

// SHA256 is the bank that jurat quotes.
var SHA256 = Bank{Algorithm: 0x000b, Hash: crypto.SHA256}

// Event is what one event extends into a PCR: a digest for each bank.
type Event struct {
	PCR     int
	Digests [][]byte
}

// event is one line of the log, and what its digests are digests of.
type event struct {
	pcr      uint32
	kind     uint32
	data     []byte
	measured []byte
}

// Log returns the log of a boot in the crypto-agile format (TCG PC Client
// Platform Firmware Profile section 10.2), and what is to be extended for it.
func (b Boot) Log(banks ...Bank) ([]byte, []Event) {
	log := specID(banks)
	var extends []Event
	for _, e := range b.events() {
		out := Event{PCR: int(e.pcr)}
		log = binary.LittleEndian.AppendUint32(log, e.pcr)
		log = binary.LittleEndian.AppendUint32(log, e.kind)
		log = binary.LittleEndian.AppendUint32(log, uint32(len(banks)))
		for _, bank := range banks {
			h := bank.Hash.New()
			h.Write(e.measured)
			digest := h.Sum(nil)
			out.Digests = append(out.Digests, digest)
			log = append(binary.LittleEndian.AppendUint16(log, bank.Algorithm), digest...)
		}
		log = binary.LittleEndian.AppendUint32(log, uint32(len(e.data)))
		log = append(log, e.data...)
		extends = append(extends, out)
	}
	return log, extends
}

// PCRs returns the values of the SHA-256 bank after the boot.
func (b Boot) PCRs() (values [24][sha256.Size]byte) {
	_, events := b.Log(SHA256)
	for _, e := range events {
		values[e.PCR] = sha256.Sum256(append(values[e.PCR][:], e.Digests[0]...))
	}
	return values
}

// specID is the head of the log: an event in the old format that says how the
// others are to be read (TCG_EfiSpecIDEvent).
func specID(banks []Bank) []byte {
	id := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2) // platform class, version 2.0, errata 0, uintnSize 2
	id = binary.LittleEndian.AppendUint32(id, uint32(len(banks)))
	for _, b := range banks {
		id = binary.LittleEndian.AppendUint16(id, b.Algorithm)
		id = binary.LittleEndian.AppendUint16(id, uint16(b.Hash.Size()))
	}
	id = append(id, 0) // no vendor information
	head := binary.LittleEndian.AppendUint32(nil, 0)
	head = binary.LittleEndian.AppendUint32(head, evNoAction)
	head = append(head, make([]byte, 20)...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(id)))
	return append(head, id...)
}
