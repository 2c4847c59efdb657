// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// ErrActivation: the TPM did not open the credential. It was made for another
// key, another TPM, or it was changed on the way.
var ErrActivation = errors.New("the credential is not for this attestation key in this TPM")

// ActivateCredential opens what a broker encrypted to ek for this AK by
// TPM2_MakeCredential: only the TPM that has both keys can, and so the broker
// learns that it does. credential is a TPMS_ID_OBJECT and secret the encrypted
// seed, both without the size in front that their TPM2B form has.
func (ak *AK) ActivateCredential(ctx context.Context, ek EK, credential, secret []byte) (opened []byte, err error) {
	kind, err := kindOf(ek)
	if err != nil {
		return nil, err
	}
	if len(credential) > maxCredential || len(secret) > maxCredential {
		return nil, fmt.Errorf("%w: %d and %d bytes, at most %d", ErrActivation, len(credential), len(secret), maxCredential)
	}
	d := ak.dev
	defined, err := d.handles(ctx, nvFirst, nvLast)
	if err != nil {
		return nil, err
	}
	k, err := d.loadEK(ctx, kind, defined)
	if err != nil {
		return nil, fmt.Errorf("endorsement key %s: %w", kind.algorithm, err)
	}
	defer func() {
		if err = errors.Join(err, d.release(k)); err != nil {
			opened = nil
		}
	}()
	if !bytes.Equal(k.encoded, ek.Public) {
		return nil, fmt.Errorf("endorsement key %s of this TPM is another one than the credential is for", kind.algorithm)
	}
	keyAuth := k.auth()
	if kind.byPolicy {
		session, closer, err := d.endorsementSession(ctx)
		if err != nil {
			return nil, err
		}
		defer closer()
		keyAuth.Auth = session
	}
	rsp, err := run(ctx, d.bus, tpm2.ActivateCredential{
		ActivateHandle: ak.key.auth(),
		KeyHandle:      keyAuth,
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: secret},
	})
	if aboutInput(err) {
		return nil, fmt.Errorf("%w: %w", ErrActivation, err)
	}
	if err != nil {
		return nil, err
	}
	return rsp.CertInfo.Buffer, nil
}

// kindOf finds the template that ek was made from.
func kindOf(ek EK) (ekKind, error) {
	for _, kind := range ekKinds {
		if kind.algorithm == ek.Algorithm {
			return kind, nil
		}
	}
	return ekKind{}, fmt.Errorf("endorsement key of algorithm %q is of no known kind", ek.Algorithm)
}

// aboutInput tells whether the TPM refused the credential itself: every
// format-one error that names a parameter, as against a handle or a session.
// TPM_RC_FAILURE is what libtpms says of an RSA secret that does not decrypt; a
// TPM that had really failed would not have let us load the EK just before.
func aboutInput(err error) bool {
	if errors.Is(err, tpm2.TPMRCFailure) {
		return true
	}
	var rc tpm2.TPMRC
	var fmt1 tpm2.TPMFmt1Error
	if !errors.As(err, &rc) || !rc.As(&fmt1) {
		return false
	}
	parameter, _ := fmt1.Parameter()
	return parameter
}

// endorsementSession opens a policy session that satisfies the policy of the
// low-range EK templates.
//
//	authPolicy = PolicySecret(TPM_RH_ENDORSEMENT)
func (d *Device) endorsementSession(ctx context.Context) (tpm2.Session, func(), error) {
	session, _, err := tpm2.PolicySession(call{ctx, d.bus}, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, nil, fmt.Errorf("TPM2_StartAuthSession: %w", err)
	}
	handle := session.Handle()
	end := d.hold(handle)
	_, err = run(ctx, d.bus, tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: handle,
		NonceTPM:      session.NonceTPM(),
	})
	if err != nil {
		end()
		return nil, nil, err
	}
	return session, end, nil
}
