// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// Layout of a file of PCR values that tpm2_quote -o writes in its form
// "serialized": C structures of tpm2-tss, little-endian.
//
//	TPML_PCR_SELECTION: count (4), 16 times hash (2), size (1), bit map (4), filler (1)
//	number of lists (4)
//	lists, each a TPML_DIGEST: count (4), 8 times size (2), digest (64)
const (
	fileBanks      = 16
	fileSelection  = 4 + fileBanks*8
	fileListLength = 8
	fileDigest     = 2 + 64
	fileList       = 4 + fileListLength*fileDigest
	maxFileLists   = fileBanks * 32 / fileListLength
)

// pcrFile is such a file, taken apart.
type pcrFile struct {
	banks  []bank
	values [][]byte
}

// parsePCRFile reads a file in the form "serialized". ok is false for what is in
// no such form; what the values are is still the file's word.
func parsePCRFile(data []byte) (f pcrFile, ok bool) {
	le := binary.LittleEndian
	if len(data) < fileSelection+4 {
		return f, false
	}
	count := le.Uint32(data)
	lists := le.Uint32(data[fileSelection:])
	if count > fileBanks || lists > maxFileLists || len(data) != fileSelection+4+int(lists)*fileList {
		return f, false
	}
	for i := range int(count) {
		entry := data[4+8*i:]
		size := int(entry[2])
		if size > 4 {
			return f, false
		}
		f.banks = append(f.banks, bank{le.Uint16(entry), entry[3 : 3+size]})
	}
	for rest := data[fileSelection+4:]; len(rest) > 0; rest = rest[fileList:] {
		n := le.Uint32(rest)
		if n > fileListLength {
			return f, false
		}
		for i := range int(n) {
			digest := rest[4+i*fileDigest:]
			size := int(le.Uint16(digest))
			if size > fileDigest-2 {
				return f, false
			}
			f.values = append(f.values, digest[2:2+size])
		}
	}
	return f, true
}

// checkValues takes the values by the selection that was signed: what a file
// says it selects has to be the same. In the form "values" a file says nothing.
//
//	pcrDigest = H(value || value ...), banks as signed, indexes ascending
func checkValues(a *attest, data []byte, hash crypto.Hash, facts *QuoteFacts) *Rejection {
	file, serialized := parsePCRFile(data)
	if serialized {
		if rejection := sameSelection(a, file.banks); rejection != nil {
			return rejection
		}
	}
	var banks [maxBanks][]evidence.PCR
	digest := hash.New()
	for i := range facts.Banks {
		known, ok := tpmHash(a.banks[i].alg)
		if !ok {
			return reject(codePCRBank, "PCR values", "banks of SHA-1 or SHA-2", facts.Banks[i].Algorithm)
		}
		for _, index := range facts.Banks[i].PCRs {
			var value []byte
			value, data, file.values = nextValue(serialized, data, file.values, known.Size())
			if len(value) != known.Size() {
				return reject(codePCRValues, fmt.Sprintf("PCR value %d of bank %s", index, facts.Banks[i].Algorithm), fmt.Sprintf("%d bytes", known.Size()), fmt.Sprintf("%d bytes", len(value)))
			}
			digest.Write(value)
			banks[i] = append(banks[i], evidence.PCR{Index: uint8(index), Digest: value})
		}
	}
	if !serialized && len(data) != 0 || len(file.values) != 0 {
		return reject(codePCRValues, "PCR values", "no more than the signed selection has", "more")
	}
	if sum := digest.Sum(nil); !bytes.Equal(a.digest, sum) {
		return reject(codePCRDigest, "quote pcrDigest", hexOf(sum), hexOf(a.digest))
	}
	for i := range facts.Banks {
		facts.Banks[i].Values = banks[i]
	}
	return nil
}

// nextValue takes one value off a file in either form; it is short at the end.
func nextValue(serialized bool, data []byte, values [][]byte, size int) (value, rest []byte, others [][]byte) {
	if !serialized {
		n := min(size, len(data))
		return data[:n], data[n:], values
	}
	if len(values) == 0 {
		return nil, data, nil
	}
	return values[0], data, values[1:]
}

// sameSelection refuses a file that calls its values others than the TPM did.
func sameSelection(a *attest, banks []bank) *Rejection {
	same := int(a.count) == len(banks)
	for i := 0; same && i < len(banks); i++ {
		signed, ok := a.banks[i].selected()
		claimed, known := banks[i].selected()
		same = ok && known && signed == claimed && a.banks[i].alg == banks[i].alg
	}
	if same {
		return nil
	}
	claimed := "none"
	for i, b := range banks {
		selected, _ := b.selected()
		text := algName(b.alg) + " " + pcrList(selected)
		if i == 0 {
			claimed = text
		} else {
			claimed += "; " + text
		}
	}
	return reject(codePCRSelection, "PCR values", "the selection that was signed", claimed)
}
