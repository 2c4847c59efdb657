// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jurat-dev/jurat/eventlog"
)

// maxPCRFile is more than the values of 24 PCRs in 16 banks take in any form.
const maxPCRFile = 128 << 10

// pcrValue is one value that a TPM gave out.
type pcrValue struct {
	bank  eventlog.Algorithm
	pcr   int
	value []byte
}

// Sizes of the C structures that tpm2-tools writes.
const (
	sizeSelection  = 8                // TPMS_PCR_SELECTION
	sizeSelections = 4 + 16*8         // TPML_PCR_SELECTION
	sizeDigest     = 2 + 64           // TPM2B_DIGEST
	sizeDigests    = 4 + 8*sizeDigest // TPML_DIGEST
)

// parsePCRs reads what tpm2_quote and tpm2_pcrread leave behind:
//   - their files (--pcrs_format=serialized): TPML_PCR_SELECTION, a count, that
//     many TPML_DIGEST, as C structures, little-endian;
//   - what tpm2_pcrread prints;
//   - bare values (--pcrs_format=values), if they are all 24 PCRs of one bank or
//     of all banks of the log in its order: such a file does not say.
func parsePCRs(raw []byte, banks []eventlog.Algorithm) ([]pcrValue, error) {
	if len(raw) == 0 {
		return nil, errors.New("malformed PCR values: the file is empty")
	}
	if values, err := parseSerialized(raw); err == nil {
		return values, nil
	} else if printed, err := parsePrinted(raw); err == nil {
		return printed, nil
	}
	var total int
	for _, b := range banks {
		total += 24 * b.Size()
		if b.Size() > 0 && len(raw) == 24*b.Size() {
			banks = []eventlog.Algorithm{b}
			total = len(raw)
			break
		}
	}
	if len(raw) != total || slices.ContainsFunc(banks, func(b eventlog.Algorithm) bool { return b.Size() == 0 }) {
		return nil, fmt.Errorf("malformed PCR values: %d bytes are neither a file of tpm2_quote or tpm2_pcrread, nor 24 values of the log's banks", len(raw))
	}
	var out []pcrValue
	for _, b := range banks {
		for pcr := range 24 {
			out = append(out, pcrValue{b, pcr, raw[:b.Size()]})
			raw = raw[b.Size():]
		}
	}
	return out, nil
}

func parseSerialized(raw []byte) ([]pcrValue, error) {
	le := binary.LittleEndian
	bad := errors.New("not serialised")
	if len(raw) < sizeSelections+4 || le.Uint32(raw) > 16 {
		return nil, bad
	}
	lists := raw[sizeSelections+4:]
	if n := le.Uint32(raw[sizeSelections:]); uint64(len(lists)) != uint64(n)*sizeDigests {
		return nil, bad
	}
	var digests [][]byte
	for ; len(lists) > 0; lists = lists[sizeDigests:] {
		n := le.Uint32(lists)
		if n > 8 {
			return nil, bad
		}
		for i := range n {
			d := lists[4+i*sizeDigest:]
			size := le.Uint16(d)
			if size > 64 {
				return nil, bad
			}
			digests = append(digests, d[2:2+size])
		}
	}
	var out []pcrValue
	for i := range le.Uint32(raw) {
		s := raw[4+i*sizeSelection:][:sizeSelection]
		bank := eventlog.Algorithm(le.Uint16(s))
		for pcr := range 24 {
			if s[2] > 4 || pcr/8 >= int(s[2]) || s[3+pcr/8]&(1<<(pcr%8)) == 0 {
				continue
			}
			if len(digests) == 0 || bank.Size() != 0 && len(digests[0]) != bank.Size() {
				return nil, bad
			}
			out = append(out, pcrValue{bank, pcr, digests[0]})
			digests = digests[1:]
		}
	}
	if len(digests) > 0 || len(out) == 0 {
		return nil, bad
	}
	return out, nil
}

// parsePrinted reads lines such as "sha256:" and "0 : 0x3E69...".
func parsePrinted(raw []byte) ([]pcrValue, error) {
	var out []pcrValue
	var bank eventlog.Algorithm
	for line := range strings.Lines(string(bytes.TrimSpace(raw))) {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			return nil, errors.New("not printed")
		}
		if value == "" {
			bank = bankOf(name)
			continue
		}
		pcr, err := strconv.Atoi(name)
		digest, err2 := hex.DecodeString(strings.TrimPrefix(value, "0x"))
		if err != nil || err2 != nil || pcr < 0 || pcr > 23 || bank == 0 || len(digest) != bank.Size() {
			return nil, errors.New("not printed")
		}
		out = append(out, pcrValue{bank, pcr, digest})
	}
	if len(out) == 0 {
		return nil, errors.New("not printed")
	}
	return out, nil
}

func bankOf(name string) eventlog.Algorithm {
	for _, b := range []eventlog.Algorithm{
		eventlog.SHA1, eventlog.SHA256, eventlog.SHA384, eventlog.SHA512, eventlog.SM3, eventlog.SHA3_256, eventlog.SHA3_384, eventlog.SHA3_512,
	} {
		if b.String() == name {
			return b
		}
	}
	return 0
}
