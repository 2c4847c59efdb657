// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// checkQuote holds a quote against the enrolled key, what it has to be about,
// and the PCRs it has to cover. This is all of a TPM quote that does not need
// the rest of the bundle.
func checkQuote(q *evidence.Quote, key *attestationKey, extra *evidence.Hash, pcrs uint32) (attest, PCRs, *Rejection) {
	a, rejection := parseAttest(q.Attest)
	if rejection != nil {
		return a, PCRs{}, rejection
	}
	if rejection := checkSignature("quote", q.Attest, q.Signature, key); rejection != nil {
		return a, PCRs{}, rejection
	}
	if !bytes.Equal(a.signer, key.signer) {
		return a, PCRs{}, reject(codeSigner, "quote qualifiedSigner", hexOf(key.signer), hexOf(a.signer))
	}
	if subtle.ConstantTimeCompare(a.extra, extra[:]) != 1 {
		return a, PCRs{}, reject(codeExtraData, "quote extraData", extra.String(), hexOf(a.extra))
	}
	values, rejection := checkPCRs(&a, q.PCRs, pcrs)
	return a, values, rejection
}

// checkSignature verifies a signature of the enrolled key over a TPMS_ATTEST.
//
//	ECDSA-P256 over SHA-256(TPMS_ATTEST)
func checkSignature(what string, attest, signature []byte, key *attestationKey) *Rejection {
	sig, rejection := parseSignature(what, signature, key.alg, key.hash)
	if rejection != nil {
		return rejection
	}
	digest := sha256.Sum256(attest)
	var der [72]byte
	if !ecdsa.VerifyASN1(key.verify, digest[:], sig.der(der[:0])) {
		return reject(codeSignature, what+" signature", "one by the enrolled key "+hexOf(key.name), "one that is not")
	}
	return nil
}

// checkPCRs takes the values by the selection that was signed, never by what
// stands beside them.
//
//	pcrDigest = SHA-256(value of the lowest index || ... || of the highest)
func checkPCRs(a *attest, values []evidence.PCR, want uint32) (PCRs, *Rejection) {
	if a.count != 1 || a.banks[0].alg != tpmAlgSHA256 {
		return PCRs{}, reject(codePCRBank, "quote selection", "one bank, SHA-256", a.bankNames())
	}
	bitmap := a.banks[0].bitmap
	if len(bitmap) != 3 {
		return PCRs{}, reject(codePCRSelection, "quote selection", "a bit map of 3 bytes", fmt.Sprintf("%d bytes", len(bitmap)))
	}
	signed := uint32(bitmap[0]) | uint32(bitmap[1])<<8 | uint32(bitmap[2])<<16
	if signed != want {
		return PCRs{}, reject(codePCRSelection, "quote selection", "PCRs "+pcrList(want), "PCRs "+pcrList(signed))
	}
	out := PCRs{signed: signed}
	var all [24 * sha256.Size]byte
	concat := all[:0]
	next := signed
	for _, v := range values {
		if next == 0 || int(v.Index) != bits.TrailingZeros32(next) {
			return PCRs{}, reject(codePCRValues, fmt.Sprintf("PCR value %d", v.Index), "values of PCRs "+pcrList(signed)+" in this order", "one out of place")
		}
		if len(v.Digest) != sha256.Size {
			return PCRs{}, reject(codePCRValues, fmt.Sprintf("PCR value %d", v.Index), "32 bytes", fmt.Sprintf("%d bytes", len(v.Digest)))
		}
		next &= next - 1
		copy(out.values[v.Index][:], v.Digest)
		concat = append(concat, v.Digest...)
	}
	if next != 0 {
		return PCRs{}, reject(codePCRValues, "PCR values", "values of PCRs "+pcrList(signed), "none of PCRs "+pcrList(next))
	}
	digest := sha256.Sum256(concat)
	if !bytes.Equal(a.digest, digest[:]) {
		return PCRs{}, reject(codePCRDigest, "quote pcrDigest", hexOf(digest[:]), hexOf(a.digest))
	}
	return out, nil
}

func (a *attest) bankNames() string {
	var names []string
	for i := range a.count {
		names = append(names, fmt.Sprintf("%04x", a.banks[i].alg))
	}
	return fmt.Sprintf("%d banks: %s", a.count, strings.Join(names, ", "))
}

// pcrList writes a bit map as "0-7, 10".
func pcrList(selected uint32) string {
	var parts []string
	for i := 0; i < 32; i++ {
		first := i
		for i < 32 && selected&(1<<i) != 0 {
			i++
		}
		switch i - first {
		case 0:
		case 1:
			parts = append(parts, strconv.Itoa(first))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", first, i-1))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
