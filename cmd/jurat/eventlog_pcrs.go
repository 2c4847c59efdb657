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
//   - serialized files (tpm2_quote -o; tpm2_pcrread -F serialized -o):
//     TPML_PCR_SELECTION, a count, that many TPML_DIGEST, as C structures,
//     little-endian;
//   - what tpm2_pcrread prints;
//   - bare values (tpm2_pcrread -o). Such a file does not say of which PCRs it
//     is: list says it, in the words of tpm2_pcrread, or they are all 24 PCRs of
//     one bank or of all banks of the log in its order.
func parsePCRs(raw []byte, list string, banks []eventlog.Algorithm) ([]pcrValue, error) {
	if len(raw) == 0 {
		return nil, errors.New("malformed PCR values: the file is empty")
	}
	if list != "" {
		wanted, err := parsePCRList(list)
		if err != nil {
			return nil, err
		}
		return parseBare(raw, wanted)
	}
	if values, err := parseSerialized(raw); err == nil {
		return values, nil
	}
	if values, err := parsePrinted(raw); err == nil {
		return values, nil
	}
	for _, b := range banks {
		if values, err := parseBare(raw, allOf(b)); err == nil {
			return values, nil
		}
	}
	return parseBare(raw, allOf(banks...))
}

// allOf lists all PCRs of some banks.
func allOf(banks ...eventlog.Algorithm) []pcrValue {
	var out []pcrValue
	for _, b := range banks {
		for pcr := range 24 {
			out = append(out, pcrValue{bank: b, pcr: pcr})
		}
	}
	return out
}

// parsePCRList reads such as "sha256:0,1,7+sha1:all".
func parsePCRList(list string) ([]pcrValue, error) {
	var out []pcrValue
	for part := range strings.SplitSeq(list, "+") {
		name, numbers, ok := strings.Cut(part, ":")
		bank := bankOf(name)
		if !ok || bank == 0 {
			return nil, fmt.Errorf("malformed PCR list: %q, want such as sha256:0,1,7", part)
		}
		if numbers == "all" {
			out = append(out, allOf(bank)...)
			continue
		}
		var pcrs []int
		for number := range strings.SplitSeq(numbers, ",") {
			pcr, err := strconv.Atoi(number)
			if err != nil || pcr < 0 || pcr > 23 || slices.Contains(pcrs, pcr) {
				return nil, fmt.Errorf("malformed PCR list: %q, want such as sha256:0,1,7", part)
			}
			pcrs = append(pcrs, pcr)
		}
		slices.Sort(pcrs) // as the TPM gives them out
		for _, pcr := range pcrs {
			out = append(out, pcrValue{bank: bank, pcr: pcr})
		}
	}
	return out, nil
}

// parseBare reads the values of the wanted PCRs one after the other.
func parseBare(raw []byte, wanted []pcrValue) ([]pcrValue, error) {
	total := 0
	for i, w := range wanted {
		n := w.bank.Size()
		if total += n; n == 0 || total > len(raw) {
			total = -1
			break
		}
		wanted[i].value = raw[total-n : total]
	}
	if total != len(raw) {
		return nil, fmt.Errorf("malformed PCR values: %d bytes do not say of which PCRs they are; --pcr-list does", len(raw))
	}
	return wanted, nil
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
