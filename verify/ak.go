// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Attributes of a key (TPMA_OBJECT, Part 2 section 8.3).
const (
	attrFixedTPM            uint32 = 1 << 1
	attrSTClear             uint32 = 1 << 2
	attrFixedParent         uint32 = 1 << 4
	attrSensitiveDataOrigin uint32 = 1 << 5
	attrUserWithAuth        uint32 = 1 << 6
	attrAdminWithPolicy     uint32 = 1 << 7
	attrFirmwareLimited     uint32 = 1 << 8
	attrSVNLimited          uint32 = 1 << 9
	attrNoDA                uint32 = 1 << 10
	attrRestricted          uint32 = 1 << 16
	attrSign                uint32 = 1 << 18

	// Made by the TPM, bound to it, and able to sign only what the TPM says.
	attrsRequired = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrRestricted | attrSign
	// Says nothing about what the key signs. All others, decrypt and
	// encryptedDuplication among them, must be clear.
	attrsAllowed = attrsRequired | attrSTClear | attrUserWithAuth | attrAdminWithPolicy | attrFirmwareLimited | attrSVNLimited | attrNoDA
)

// attestationKey is a checked public area, taken apart.
type attestationKey struct {
	public    []byte // TPMT_PUBLIC
	name      []byte
	signer    []byte // qualified name as a primary of the endorsement hierarchy
	alg, hash uint16 // what its signatures have to say of themselves
	verify    *ecdsa.PublicKey
}

// CheckAK says why a public area (TPMT_PUBLIC) cannot be that of an attestation
// key, or nil. Brokers call it before they make a credential for a key: a key
// that is not restricted would sign any TPMS_ATTEST that root makes up.
func CheckAK(public []byte) error {
	if _, rejection := parseAK(public); rejection != nil {
		return rejection
	}
	return nil
}

// parseAK checks a public area and computes what a quote must say.
//
//	Name            = nameAlg || SHA-256(TPMT_PUBLIC)
//	qualifiedSigner = nameAlg || SHA-256(TPM_RH_ENDORSEMENT || Name)
func parseAK(public []byte) (*attestationKey, *Rejection) {
	malformed := func(r *reader) *Rejection {
		return reject(codeAKForm, "AK public area", "exactly one TPMT_PUBLIC", fmt.Sprintf("%d bytes, %d of them behind its end", len(public), len(r.rest)))
	}
	r := &reader{rest: public}
	typ, nameAlg, attrs := r.u16(), r.u16(), r.u32()
	policy := r.sized() // who may use the key, not what it signs
	symmetric, scheme := r.u16(), r.u16()
	switch {
	case r.short:
		return nil, malformed(r)
	case typ != tpmAlgECC || nameAlg != tpmAlgSHA256:
		return nil, reject(codeAKAlg, "AK public area", "ECC key with a SHA-256 name", fmt.Sprintf("type %04x, name algorithm %04x", typ, nameAlg))
	case attrs&attrsRequired != attrsRequired || attrs&^attrsAllowed != 0:
		return nil, reject(codeAKAttrs, "AK attributes", fmt.Sprintf("%08x and at most %08x", attrsRequired, attrsAllowed), fmt.Sprintf("%08x", attrs))
	case len(policy) != 0 && len(policy) != sha256.Size:
		return nil, reject(codeAKForm, "AK authPolicy", "none or a SHA-256 digest", fmt.Sprintf("%d bytes", len(policy)))
	case symmetric != tpmAlgNull || scheme != tpmAlgECDSA:
		return nil, reject(codeAKAlg, "AK scheme", "ECDSA without a symmetric algorithm", fmt.Sprintf("scheme %04x, symmetric %04x", scheme, symmetric))
	}
	hash, curve, kdf := r.u16(), r.u16(), r.u16()
	x, y := r.sized(), r.sized()
	switch {
	case r.short || len(r.rest) != 0:
		return nil, malformed(r)
	case hash != tpmAlgSHA256 || curve != tpmP256 || kdf != tpmAlgNull:
		return nil, reject(codeAKAlg, "AK scheme", "SHA-256 on P-256 without a KDF", fmt.Sprintf("hash %04x, curve %04x, KDF %04x", hash, curve, kdf))
	}
	point, err := uncompressed(x, y)
	if err != nil {
		return nil, reject(codeAKPoint, "AK unique", "a point on P-256", err.Error())
	}
	key := &attestationKey{public: bytes.Clone(public), alg: scheme, hash: hash, verify: point}
	key.name = name(nil, public)
	key.signer = name(binary.BigEndian.AppendUint32(nil, tpmEndorsement), key.name)
	return key, nil
}

// name returns nameAlg || SHA-256(prefix || data).
func name(prefix, data []byte) []byte {
	digest := sha256.Sum256(append(prefix, data...))
	return append(binary.BigEndian.AppendUint16(nil, tpmAlgSHA256), digest[:]...)
}

func uncompressed(x, y []byte) (*ecdsa.PublicKey, error) {
	if len(x) > 32 || len(y) > 32 {
		return nil, fmt.Errorf("coordinates of %d and %d bytes", len(x), len(y))
	}
	point := make([]byte, 65)
	point[0] = 4
	copy(point[33-len(x):], x)
	copy(point[65-len(y):], y)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}
