// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// banks finds out which PCR banks are active, in the TPM's own words (V15). A
// bank that the firmware left alone lets the operating system write a whole
// boot of its own into it; whether the firmware did is for bootLog to say.
// Banks change only when the TPM is reset, so what was proved once since then
// holds.
func (v *verification) banks() *Rejection {
	a, last := &v.attest, v.host.Last
	if last != nil && len(last.Banks) > 0 && last.ResetCount == a.resetCount && last.RestartCount == a.restartCount {
		v.active = last.Banks
		return nil
	}
	given := v.b.Banks
	if given == nil {
		return reject(codeBanks, "banks", "the TPM's word on its active PCR banks", "none")
	}
	extra := evidence.BanksDigest(v.b.Header.BootID)
	signed, rejection := checkCertified("banks", &given.Certified, v.key, tpmStSessionAudit, &extra)
	if rejection != nil {
		return rejection
	}
	exclusive := signed.u8()
	digest := signed.sized()
	if rejection := signed.done("banks"); rejection != nil {
		return rejection
	}
	if exclusive > 1 {
		return reject(codeAttestForm, "banks exclusiveSession", "0 or 1", number(uint32(exclusive)))
	}
	if signed.resetCount != a.resetCount || signed.restartCount != a.restartCount {
		return reject(codeBanks, "banks clockInfo", fmt.Sprintf("%d resets, %d restarts, as in the quote", a.resetCount, a.restartCount),
			fmt.Sprintf("%d resets, %d restarts", signed.resetCount, signed.restartCount))
	}
	if want := auditDigest(given.Response); !bytes.Equal(digest, want[:]) {
		return reject(codeBanks, "banks auditDigest", want.String(), hexOf(digest))
	}
	v.active, rejection = activeBanks(given.Response)
	return rejection
}

// auditDigest is what a session ends with in which TPM2_GetCapability was
// audited, and nothing else (TPM 2.0 part 1 sections 18.7, 18.8 and 32).
//
//	cpHash      = SHA-256(TPM_CC_GetCapability || TPM_CAP_PCRS || property 0 || count 1)
//	rpHash      = SHA-256(TPM_RC_SUCCESS || TPM_CC_GetCapability || response)
//	auditDigest = SHA-256(32 zero bytes || cpHash || rpHash)
func auditDigest(response []byte) evidence.Hash {
	cp := sha256.Sum256([]byte{0, 0, 0x01, 0x7a, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1})
	rp := sha256.Sum256(append([]byte{0, 0, 0, 0, 0, 0, 0x01, 0x7a}, response...))
	return sha256.Sum256(slices.Concat(make([]byte, 32), cp[:], rp[:]))
}

// activeBanks reads the algorithms with at least one PCR out of the parameters
// of an answer to TPM2_GetCapability.
func activeBanks(response []byte) ([]uint16, *Rejection) {
	r := &reader{rest: response}
	more, capability, count := r.u8(), r.u32(), r.u32()
	if r.short || more != 0 || capability != tpmCapPCRs || count > maxCapBanks {
		return nil, reject(codeBanks, "banks response", fmt.Sprintf("TPM_CAP_PCRS of at most %d banks, all of them", maxCapBanks),
			fmt.Sprintf("capability %d of %d banks, more: %d", capability, count, more))
	}
	var active []uint16
	for range count {
		algorithm := r.u16()
		if bitmap := r.take(int(r.u8())); len(bytes.Trim(bitmap, "\x00")) > 0 {
			active = append(active, algorithm)
		}
	}
	if r.short || len(r.rest) != 0 {
		return nil, reject(codeBanks, "banks response", "exactly one TPMS_CAPABILITY_DATA", fmt.Sprintf("%d bytes left over", len(r.rest)))
	}
	if !slices.Contains(active, tpmAlgSHA256) {
		return nil, reject(codeBanks, "active banks", "SHA-256 among them", bankList(active))
	}
	return active, nil
}

// capped wants every active bank to be filled by whoever filled the one that
// is quoted: each measured event of the log has a digest for it.
func (v *verification) capped() *Rejection {
	for _, algorithm := range v.active {
		if algorithm == tpmAlgSHA256 {
			continue
		}
		if v.boot == nil {
			return reject(codeBanks, "active banks", "SHA-256 alone, as there is no boot log to cover others", bankList(v.active))
		}
		if event, missing := v.boot.uncovered(eventlog.Algorithm(algorithm)); missing {
			return reject(codeBanks, fmt.Sprintf("boot log event %d", event), "a digest for each active bank: "+bankList(v.active),
				"none for "+eventlog.Algorithm(algorithm).String())
		}
	}
	return nil
}

func bankList(banks []uint16) string {
	if len(banks) == 0 {
		return "none"
	}
	names := make([]string, len(banks))
	for i, algorithm := range banks {
		names[i] = eventlog.Algorithm(algorithm).String()
	}
	return strings.Join(names, ", ")
}
