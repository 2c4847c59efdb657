// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// Constants of TPM 2.0 Library Part 2.
const (
	tpmGenerated      uint32 = 0xff544347 // TPM_GENERATED_VALUE, section 6.2
	tpmStQuote        uint16 = 0x8018     // TPM_ST_ATTEST_QUOTE, section 6.9
	tpmStNV           uint16 = 0x8014     // TPM_ST_ATTEST_NV
	tpmCapPCRs        uint32 = 5          // TPM_CAP_PCRS, section 6.12
	tpmEndorsement    uint32 = 0x4000000b // TPM_RH_ENDORSEMENT, section 7.4
	tpmStSessionAudit uint16 = 0x8016     // TPM_ST_ATTEST_SESSION_AUDIT
	tpmAlgSHA256      uint16 = 0x000b     // section 6.3
	tpmAlgNull        uint16 = 0x0010
	tpmAlgECDSA       uint16 = 0x0018
	tpmAlgECC         uint16 = 0x0023
	tpmP256           uint16 = 0x0003 // TPM_ECC_NIST_P256, section 6.4
)

// reader takes a TPM structure apart. Once it ran out of bytes it stays short
// and gives zeros, which never write back to the same bytes.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.short = nil, true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized reads a TPM2B.
func (r *reader) sized() []byte { return r.take(int(r.u16())) }

func appendSized(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

// attest is a TPMS_ATTEST of type quote (Part 2 section 10.12.12). Its slices
// point into the bytes it was read from.
type attest struct {
	signer       []byte // qualifiedSigner
	extra        []byte // extraData
	clock        uint64 // milliseconds
	resetCount   uint32
	restartCount uint32
	safe         bool
	firmware     uint64
	banks        [maxBanks]bank
	count        uint32 // of banks
	digest       []byte // pcrDigest
}

// bank is a TPMS_PCR_SELECTION.
type bank struct {
	alg    uint16
	bitmap []byte
}

// maxBanks is HASH_COUNT of the largest TPM there is, and then some.
const maxBanks = 8

// maxCapBanks bounds the banks that a TPM may list, active or not.
const maxCapBanks = 16

// parseAttest reads a quote and refuses any byte the TPM would not have
// written: what was read, written again, is the input.
func parseAttest(data []byte) (a attest, _ *Rejection) {
	if len(data) == 0 || len(data) > evidence.MaxAttest {
		return a, reject(codeAttestSize, "quote attest", fmt.Sprintf("1 to %d bytes", evidence.MaxAttest), fmt.Sprintf("%d bytes", len(data)))
	}
	r := reader{rest: data}
	if magic := r.u32(); !r.short && magic != tpmGenerated {
		return a, reject(codeMagic, "quote magic", fmt.Sprintf("%08x", tpmGenerated), fmt.Sprintf("%08x", magic))
	}
	if typ := r.u16(); !r.short && typ != tpmStQuote {
		return a, reject(codeType, "quote type", fmt.Sprintf("%04x (quote)", tpmStQuote), fmt.Sprintf("%04x", typ))
	}
	a.signer, a.extra = r.sized(), r.sized()
	a.clock, a.resetCount, a.restartCount, a.safe = r.u64(), r.u32(), r.u32(), r.u8() == 1
	a.firmware = r.u64()
	if a.count = r.u32(); a.count > maxBanks {
		return a, reject(codeAttestForm, "quote selection", fmt.Sprintf("at most %d banks", maxBanks), fmt.Sprintf("%d banks", a.count))
	}
	for i := range a.count {
		a.banks[i].alg = r.u16()
		a.banks[i].bitmap = r.take(int(r.u8()))
	}
	a.digest = r.sized()
	var buf [evidence.MaxAttest]byte
	if again := a.append(buf[:0]); !bytes.Equal(again, data) {
		return a, reject(codeAttestForm, "quote attest", "exactly one canonical TPMS_ATTEST", fmt.Sprintf("%d bytes, read as one of %d", len(data), len(again)))
	}
	return a, nil
}

// append writes the structure as a TPM does.
func (a *attest) append(dst []byte) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(be.AppendUint32(dst, tpmGenerated), tpmStQuote)
	dst = appendSized(appendSized(dst, a.signer), a.extra)
	dst = be.AppendUint32(be.AppendUint32(be.AppendUint64(dst, a.clock), a.resetCount), a.restartCount)
	safe := byte(0)
	if a.safe {
		safe = 1
	}
	dst = be.AppendUint64(append(dst, safe), a.firmware)
	dst = be.AppendUint32(dst, a.count)
	for i := range a.count {
		dst = append(be.AppendUint16(dst, a.banks[i].alg), byte(len(a.banks[i].bitmap)))
		dst = append(dst, a.banks[i].bitmap...)
	}
	return appendSized(dst, a.digest)
}

// signature is a TPMT_SIGNATURE with a TPMS_SIGNATURE_ECDSA in it (Part 2
// sections 11.3.4 and 11.2.3).
type signature struct {
	alg, hash uint16
	r, s      []byte
}

// parseSignature reads a signature of the algorithm and hash that the enrolled
// key has, and no other.
func parseSignature(what string, data []byte, alg, hash uint16) (sig signature, _ *Rejection) {
	in := reader{rest: data}
	sig.alg, sig.hash = in.u16(), in.u16()
	if !in.short && (sig.alg != alg || sig.hash != hash) {
		return sig, reject(codeSigAlg, what+" signature", fmt.Sprintf("algorithm %04x with hash %04x", alg, hash), fmt.Sprintf("algorithm %04x with hash %04x", sig.alg, sig.hash))
	}
	sig.r, sig.s = in.sized(), in.sized()
	if len(in.rest) != 0 || !scalar(sig.r) || !scalar(sig.s) {
		return sig, reject(codeSigForm, what+" signature", "a canonical TPMT_SIGNATURE with two numbers of at most 32 bytes", fmt.Sprintf("%d bytes", len(data)))
	}
	return sig, nil
}

// scalar reports whether b can be half of a P-256 signature.
func scalar(b []byte) bool {
	return len(b) <= 32 && len(bytes.TrimLeft(b, "\x00")) > 0
}

// der writes the signature as ECDSA-Sig-Value (RFC 3279 section 2.2.3), which
// is how crypto/ecdsa takes it.
func (s *signature) der(dst []byte) []byte {
	dst = append(dst, 0x30, 0)
	for _, n := range [][]byte{s.r, s.s} {
		n = bytes.TrimLeft(n, "\x00")
		if n[0]&0x80 != 0 {
			dst = append(dst, 0x02, byte(len(n)+1), 0)
		} else {
			dst = append(dst, 0x02, byte(len(n)))
		}
		dst = append(dst, n...)
	}
	dst[1] = byte(len(dst) - 2)
	return dst
}
