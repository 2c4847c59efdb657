// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// Certify has ak sign the register's name and value together with q, and
// returns the statement (a TPMS_ATTEST of type TPM_ST_ATTEST_NV) with the value
// in it. The caller, who knows what it extended, compares: an extend that got
// lost on the way shows here. It is refused while the register has never been
// written.
func (r *Register) Certify(ctx context.Context, ak *AK, q evidence.Hash) (evidence.Certification, evidence.Hash, error) {
	rsp, err := run(ctx, r.dev.bus, tpm2.NVCertify{
		SignHandle:     ak.key.auth(),
		AuthHandle:     r.auth(),
		NVIndex:        tpm2.NamedHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: r.name}},
		QualifyingData: tpm2.TPM2BData{Buffer: q[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Size:           sha256.Size,
	})
	if err != nil {
		return evidence.Certification{}, evidence.Hash{}, r.refused(err)
	}
	attest := rsp.CertifyInfo.Bytes()
	value, err := r.checkCertified(ak, attest, q)
	if err != nil {
		return evidence.Certification{}, evidence.Hash{}, fmt.Errorf("TPM2_NV_Certify: %w", err)
	}
	signature, err := ak.checkSignature(attest, &rsp.Signature)
	if err != nil {
		return evidence.Certification{}, evidence.Hash{}, fmt.Errorf("TPM2_NV_Certify: %w", err)
	}
	return evidence.Certification{Attest: attest, Signature: signature}, value, nil
}

// checkCertified reads what the TPM signed about the register.
func (r *Register) checkCertified(ak *AK, attest []byte, q evidence.Hash) (evidence.Hash, error) {
	a, err := ak.openAttest(attest, tpm2.TPMSTAttestNV, q)
	if err != nil {
		return evidence.Hash{}, err
	}
	info, err := a.Attested.NV()
	if err != nil {
		return evidence.Hash{}, fmt.Errorf("attest: %w", err)
	}
	if !bytes.Equal(info.IndexName.Buffer, r.name) {
		return evidence.Hash{}, fmt.Errorf("%w: attest is about NV name %x, want %x", ErrRegister, info.IndexName.Buffer, r.name)
	}
	if info.Offset != 0 || len(info.NVContents.Buffer) != sha256.Size {
		return evidence.Hash{}, fmt.Errorf("attest has %d bytes of the register at %d, want %d at 0", len(info.NVContents.Buffer), info.Offset, sha256.Size)
	}
	return evidence.Hash(info.NVContents.Buffer), nil
}

// openAttest reads a statement that the key signed about q and holds it to
// its type, its signer and its canonical form.
func (ak *AK) openAttest(attest []byte, kind tpm2.TPMST, q evidence.Hash) (*tpm2.TPMSAttest, error) {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	if err := a.Magic.Check(); err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	if a.Type != kind {
		return nil, fmt.Errorf("attest is of type 0x%x, want 0x%x", uint16(a.Type), uint16(kind))
	}
	if !bytes.Equal(a.ExtraData.Buffer, q[:]) {
		return nil, fmt.Errorf("attest has extraData %x, want %x", a.ExtraData.Buffer, q[:])
	}
	if want := QualifiedName(ak.Name()); !bytes.Equal(a.QualifiedSigner.Buffer, want) {
		return nil, fmt.Errorf("attest has signer %x, want %x", a.QualifiedSigner.Buffer, want)
	}
	if !bytes.Equal(tpm2.Marshal(*a), attest) {
		return nil, errors.New("attest is not canonical")
	}
	return a, nil
}
