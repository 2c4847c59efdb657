// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import "fmt"

// HeaderVersion is the only version of quote headers there is.
const HeaderVersion = 1

// Header is what a quote signs (spec/evidence.md section 6): one quote over
// the log, the boot and every request of a batch.
type Header struct {
	_          struct{}    `cbor:",toarray"`
	Version    uint64      `json:"version"`
	AKName     Bytes       `json:"ak_name"`
	BootID     Bytes       `json:"boot_id"`
	Epoch      uint64      `json:"epoch"`
	Sequence   uint64      `json:"sequence"` // counts up with each quote over the life of the log
	Anchor     string      `json:"anchor"`
	NVName     Bytes       `json:"nv_name"` // name of the register's index; empty for AnchorNone
	Number     uint64      `json:"checkpoint_number"`
	Checkpoint Hash        `json:"checkpoint"`
	BootLog    Value[Hash] `json:"boot_log"`   // SHA-256 of the boot event log
	OSLog      Value[Hash] `json:"os_log"`     // SHA-256 of the operating system's own log of what it measured
	IMACount   uint64      `json:"ima_count"`  // entries of the IMA list before the quote, as far as they are sent or known
	IMADigest  Value[Hash] `json:"ima_digest"` // SHA-256 of those of them that are sent
	Tier       string      `json:"tier"`       // what the sensor can see: "tracepoint", "trampoline", "lsm"
	Sensor     Hash        `json:"sensor"`     // SHA-256 of the BPF object
	Batch      uint64      `json:"batch_size"`
	BatchRoot  Hash        `json:"batch_root"`
	Previous   Hash        `json:"previous_quote"` // SHA-256 of the previous quote's TPMS_ATTEST; zero for the first
	Wall       uint64      `json:"wall_s"`         // the host's clock, seconds since 1970: reported, never decides
}

// Marshal returns the canonical bytes of h.
func (h *Header) Marshal() []byte { return mustEncode(h, (*Header).wire) }

// ParseHeader decodes one quote header in canonical form.
func ParseHeader(data []byte) (*Header, error) {
	if len(data) > MaxHeader {
		return nil, fmt.Errorf("quote header of %d bytes, at most %d", len(data), MaxHeader)
	}
	h := new(Header)
	if err := decode(data, h, (*Header).wire); err != nil {
		return nil, fmt.Errorf("malformed quote header: %v", err)
	}
	if h.Version != HeaderVersion {
		return nil, fmt.Errorf("quote header version %d, want %d", h.Version, HeaderVersion)
	}
	if len(h.BootID) != 16 {
		return nil, fmt.Errorf("quote header has a boot id of %d bytes, want 16", len(h.BootID))
	}
	if h.Batch == 0 || h.Batch > MaxBatch {
		return nil, fmt.Errorf("quote header counts %d requests, want 1 to %d", h.Batch, MaxBatch)
	}
	return h, nil
}

// HeaderDigest returns what a quote carries as extraData.
//
//	q = SHA-256("jurat/quote/v1\0" || enc(Header))
func HeaderDigest(enc []byte) Hash { return labelled("jurat/quote/v1\x00", enc) }

// PossessionDigest returns what the quote of an attestation key that a cloud
// provider certified carries as extraData at enrolment: the key speaks for
// itself over the secret that came out of the broker's challenge.
//
//	q = SHA-256("jurat/possession/v1\0" || secret)
func PossessionDigest(secret []byte) Hash { return labelled("jurat/possession/v1\x00", secret) }

// Quote is a TPM quote with the PCR values it digests (spec/evidence.md
// section 6.2). The TPM structures stay opaque bytes here.
type Quote struct {
	_         struct{} `cbor:",toarray"`
	Attest    Bytes    `json:"attest"`    // TPMS_ATTEST
	Signature Bytes    `json:"signature"` // TPMT_SIGNATURE
	PCRs      []PCR    `json:"pcrs"`      // ascending; which they are, the signed selection says
}

// PCR is one platform configuration register.
type PCR struct {
	_      struct{} `cbor:",toarray"`
	Index  uint8    `json:"index"`
	Digest Bytes    `json:"digest"`
}
