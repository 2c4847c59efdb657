// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

// How the log is anchored in the TPM (spec/evidence.md section 6.1).
const (
	AnchorBroken  = "broken"   // by a register that no longer bears the log out: somebody else wrote to it
	AnchorNone    = "none"     // by the quote's extraData alone
	AnchorNVLatch = "nv-latch" // NV extend index whose first write a PCR gated
	AnchorNvPCR   = "nvpcr"    // systemd NvPCR
)

// Register is the TPM register that checkpoints are extended into, and those
// the broker has not seen there yet (spec/evidence.md section 6.3).
//
//	value = SHA-256(... SHA-256(SHA-256(Base || tail 0) || tail 1) ... || tail n)
type Register struct {
	_         struct{}      `cbor:",toarray"`
	Index     uint32        `json:"index"`     // handle of the NV index
	Latch     uint8         `json:"latch"`     // PCR that gated its first write; 0 with AnchorNvPCR
	From      uint64        `json:"from"`      // checkpoints extended before those in Tail
	Base      Hash          `json:"base"`      // value of the register after them
	Tail      Bytes         `json:"tail"`      // digests of the checkpoints extended since, in order, 32 bytes each
	Certified Certification `json:"certified"` // TPM2_NV_Certify over the whole index
}

// Banks is which PCR banks are active, in the TPM's own words: the answer to
// TPM2_GetCapability(TPM_CAP_PCRS, 0, 1) in an audit session, and what the TPM
// signs about that session (spec/evidence.md section 6.4). Banks can only
// change when the TPM is reset, so it is made once in an epoch.
type Banks struct {
	_         struct{}      `cbor:",toarray"`
	Response  Bytes         `json:"response"`  // parameters of the answer: moreData, TPMS_CAPABILITY_DATA
	Certified Certification `json:"certified"` // TPM2_GetSessionAuditDigest
}

// BanksDigest returns what the signature over the audit session carries as
// extraData. The reset counters beside it, which the TPM signs too, say for
// which start of the TPM it holds.
//
//	q = SHA-256("jurat/banks/v1\0" || boot_id)
func BanksDigest(bootID []byte) Hash { return labelled("jurat/banks/v1\x00", bootID) }

// LatchDigest returns what is extended into the latch PCR once the register
// has been opened, so that it cannot be opened again before the next reset.
//
//	latch = SHA-256("jurat/latch/v1\0" || nv_name || boot_id)
func LatchDigest(nvName, bootID []byte) Hash {
	return labelled("jurat/latch/v1\x00", append(nvName[:len(nvName):len(nvName)], bootID...))
}

// Certification is what a TPM signed about something else than PCRs (sections
// 6.3 and 6.4).
type Certification struct {
	_         struct{} `cbor:",toarray"`
	Attest    Bytes    `json:"attest"`    // TPMS_ATTEST
	Signature Bytes    `json:"signature"` // TPMT_SIGNATURE
}
