// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// AK is the attestation key: it signs what the TPM itself says, and nothing
// else.
//
// It is a primary key of the endorsement hierarchy, so the TPM makes the same
// key again from the same template and nothing has to be stored. Being in that
// hierarchy, its quotes carry the true clock, counts and firmware version
// instead of obfuscated ones, and who signed can be computed from its name
// ([QualifiedName]). The template is fixed for good, since a change of any bit
// makes another key:
//
//	type        ECC P-256, scheme ECDSA with SHA-256, no symmetric algorithm, no KDF
//	nameAlg     SHA-256
//	attributes  fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA restricted sign
//	authPolicy  empty; the authorization value is empty too
//	unique.x    SHA-256("jurat-ak/v1" || rotation id)
//	unique.y    32 zero bytes
//
// restricted is what keeps root from signing a quote of its own making. noDA
// keeps the key usable while somebody else's wrong passwords lock the TPM.
type AK struct {
	dev    *Device
	key    *key
	verify *ecdsa.PublicKey
}

// akTemplate is the template above.
//
//	unique.x = SHA-256("jurat-ak/v1" || rotation)
func akTemplate(rotation string) tpm2.TPMTPublic {
	x := sha256.Sum256([]byte("jurat-ak/v1" + rotation))
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:            true,
			FixedParent:         true,
			SensitiveDataOrigin: true,
			UserWithAuth:        true,
			NoDA:                true,
			Restricted:          true,
			SignEncrypt:         true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x[:]},
			Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
		}),
	}
}

// CreateAK makes the attestation key of this TPM. Another rotation id makes
// another key, for when a host is to be enrolled anew. The key stays loaded
// until Close; make it once, at start.
func (d *Device) CreateAK(ctx context.Context, rotation string) (*AK, error) {
	k, err := d.createPrimary(ctx, akTemplate(rotation))
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	public, err := tpm2.Pub(*k.public)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	point, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("attestation key: is a %T", public)
	}
	return &AK{dev: d, key: k, verify: point}, nil
}

// Public is the key's public area (TPMT_PUBLIC).
func (ak *AK) Public() []byte { return ak.key.encoded }

// Name is the key's name, computed from its public area.
//
//	Name = nameAlg || SHA-256(TPMT_PUBLIC)
func (ak *AK) Name() []byte { return ak.key.name.Buffer }

// QualifiedName is what stands in a quote as its signer, for a primary key of
// the endorsement hierarchy with this name.
//
//	QualifiedName = nameAlg || SHA-256(TPM_RH_ENDORSEMENT || Name)
func QualifiedName(name []byte) []byte {
	parent := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHEndorsement))
	digest := sha256.Sum256(append(parent, name...))
	return append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)), digest[:]...)
}

// Creation is the key's own statement that this TPM made it: what
// go-attestation's ActivationParameters wants to see of an AK.
type Creation struct {
	Data      []byte // TPMS_CREATION_DATA
	Attest    []byte // TPMS_ATTEST of type TPM_ST_ATTEST_CREATION
	Signature []byte // TPMT_SIGNATURE over Attest
}

// CertifyCreation has the key attest its own creation.
func (ak *AK) CertifyCreation(ctx context.Context) (Creation, error) {
	rsp, err := run(ctx, ak.dev.bus, tpm2.CertifyCreation{
		SignHandle:     ak.key.auth(),
		ObjectHandle:   tpm2.NamedHandle{Handle: ak.key.handle, Name: ak.key.name},
		CreationHash:   ak.key.created.CreationHash,
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		CreationTicket: ak.key.created.CreationTicket,
	})
	if err != nil {
		return Creation{}, err
	}
	attest := rsp.CertifyInfo.Bytes()
	signature, err := ak.checkSignature(attest, &rsp.Signature)
	if err != nil {
		return Creation{}, fmt.Errorf("TPM2_CertifyCreation: %w", err)
	}
	return Creation{Data: ak.key.created.CreationData.Bytes(), Attest: attest, Signature: signature}, nil
}
