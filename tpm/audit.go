// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// banksQuestion is the command whose answer is audited: which PCR banks are
// active.
var banksQuestion = tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, Property: 0, PropertyCount: 1}

// AuditBanks has the TPM answer which PCR banks are active, and has the key
// sign that answer together with q: a bank that the firmware did not extend
// lets the operating system write a whole boot of its own into it. Banks change
// only at a reset of the TPM, so this is asked once in an epoch.
//
// response is the parameters of the answer to TPM2_GetCapability(TPM_CAP_PCRS,
// 0, 1): moreData (1 byte), then TPMS_CAPABILITY_DATA, which is the capability
// 00000005 and a TPML_PCR_SELECTION. The statement is a TPMS_ATTEST of type
// TPM_ST_ATTEST_SESSION_AUDIT; its session is of SHA-256, fresh, and audited
// nothing else (part 1 section 17.3; TPM2_GetSessionAuditDigest itself is not
// audited, since the session does not authorize it). With numbers in hex, big
// endian:
//
//	sessionDigest = SHA-256(32 zero bytes || cpHash || rpHash)
//	cpHash = SHA-256(0000017a || 00000005 || 00000000 || 00000001)
//	rpHash = SHA-256(00000000 || 0000017a || response)
//
// exclusiveSession is whatever it is: others use the TPM at the same time.
func (ak *AK) AuditBanks(ctx context.Context, q evidence.Hash) (response []byte, signed evidence.Certification, err error) {
	d := ak.dev
	session, _, err := tpm2.HMACSession(call{ctx, d.bus}, tpm2.TPMAlgSHA256, 16, tpm2.Audit())
	if err != nil {
		return nil, signed, fmt.Errorf("TPM2_StartAuthSession: %w", err)
	}
	defer d.hold(session.Handle())()
	answer, err := run(ctx, d.bus, banksQuestion, session)
	if err != nil {
		return nil, signed, err
	}
	response = append([]byte{0}, tpm2.Marshal(answer.CapabilityData)...)
	if answer.MoreData {
		response[0] = 1
	}
	rsp, err := run(ctx, d.bus, tpm2.GetSessionAuditDigest{
		PrivacyAdminHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:         ak.key.auth(),
		SessionHandle:      session.Handle(),
		QualifyingData:     tpm2.TPM2BData{Buffer: q[:]},
		InScheme:           tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	})
	if err != nil {
		return nil, signed, err
	}
	attest := rsp.AuditInfo.Bytes()
	if err := ak.checkAudit(attest, q, response); err != nil {
		return nil, signed, fmt.Errorf("TPM2_GetSessionAuditDigest: %w", err)
	}
	signature, err := ak.checkSignature(attest, &rsp.Signature)
	if err != nil {
		return nil, signed, fmt.Errorf("TPM2_GetSessionAuditDigest: %w", err)
	}
	return response, evidence.Certification{Attest: attest, Signature: signature}, nil
}

// checkAudit holds what the TPM signed against the answer it gave.
func (ak *AK) checkAudit(attest []byte, q evidence.Hash, response []byte) error {
	a, err := ak.openAttest(attest, tpm2.TPMSTAttestSessionAudit, q)
	if err != nil {
		return err
	}
	info, err := a.Attested.SessionAudit()
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	if want := banksDigest(response); !bytes.Equal(info.SessionDigest.Buffer, want[:]) {
		return fmt.Errorf("attest has audit digest %x, want %x", info.SessionDigest.Buffer, want[:])
	}
	return nil
}

// banksDigest is the sessionDigest above.
func banksDigest(response []byte) evidence.Hash {
	code := binary.BigEndian.AppendUint32(nil, uint32(banksQuestion.Command()))
	question := bytes.Clone(code)
	for _, parameter := range []uint32{uint32(banksQuestion.Capability), banksQuestion.Property, banksQuestion.PropertyCount} {
		question = binary.BigEndian.AppendUint32(question, parameter)
	}
	success := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRCSuccess))
	cpHash := sha256.Sum256(question)
	rpHash := sha256.Sum256(append(append(success, code...), response...))
	return sha256.Sum256(append(append(make([]byte, sha256.Size), cpHash[:]...), rpHash[:]...))
}
