// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// quoted is what every quote covers: PCRs 0 to 15. PCRs 16 and 23 can be reset
// by root, 17 to 22 belong to a dynamic launch.
var quoted = []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// Quote has the TPM sign PCRs 0 to 15 of the SHA-256 bank together with q, and
// returns the quote with the PCR values it digests. PCR 10 moves whenever the
// kernel measures a file: then it is read and quoted again, a few times. What
// comes back has been checked here as far as the host can: it is whole, it is
// about q, it is by this key, and its values have its digest.
func (ak *AK) Quote(ctx context.Context, q evidence.Hash) (evidence.Quote, error) {
	pcrs, err := ak.dev.ReadPCRs(ctx, quoted)
	if err != nil {
		return evidence.Quote{}, err
	}
	for range pcrAttempts {
		quote, digest, err := ak.quote(ctx, q)
		if err != nil {
			return evidence.Quote{}, err
		}
		if digest == pcrDigest(pcrs) {
			quote.PCRs = pcrs
			return quote, nil
		}
		// They moved before the quote, so the values of now may be what it has.
		if pcrs, err = ak.dev.ReadPCRs(ctx, quoted); err != nil {
			return evidence.Quote{}, err
		}
		if digest == pcrDigest(pcrs) {
			quote.PCRs = pcrs
			return quote, nil
		}
	}
	return evidence.Quote{}, fmt.Errorf("%w: no match in %d quotes", ErrMoving, pcrAttempts)
}

// pcrDigest is what a quote says of these PCRs.
//
//	pcrDigest = SHA-256(value of the lowest index || ... || of the highest)
func pcrDigest(pcrs []evidence.PCR) evidence.Hash {
	h := sha256.New()
	for _, pcr := range pcrs {
		h.Write(pcr.Digest)
	}
	return evidence.Hash(h.Sum(nil))
}

// quote makes one quote and returns it with the PCR digest it signs.
func (ak *AK) quote(ctx context.Context, q evidence.Hash) (evidence.Quote, evidence.Hash, error) {
	rsp, err := run(ctx, ak.dev.bus, tpm2.Quote{
		SignHandle:     ak.key.auth(),
		QualifyingData: tpm2.TPM2BData{Buffer: q[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      selection(quoted),
	})
	if err != nil {
		return evidence.Quote{}, evidence.Hash{}, err
	}
	attest := rsp.Quoted.Bytes()
	digest, err := ak.checkAttest(attest, q)
	if err != nil {
		return evidence.Quote{}, evidence.Hash{}, fmt.Errorf("TPM2_Quote: %w", err)
	}
	signature, err := ak.checkSignature(attest, &rsp.Signature)
	if err != nil {
		return evidence.Quote{}, evidence.Hash{}, fmt.Errorf("TPM2_Quote: %w", err)
	}
	return evidence.Quote{Attest: attest, Signature: signature}, digest, nil
}

// checkAttest reads what the TPM signed and returns its PCR digest.
func (ak *AK) checkAttest(attest []byte, q evidence.Hash) (evidence.Hash, error) {
	a, err := ak.openAttest(attest, tpm2.TPMSTAttestQuote, q)
	if err != nil {
		return evidence.Hash{}, err
	}
	info, err := a.Attested.Quote()
	if err != nil {
		return evidence.Hash{}, fmt.Errorf("attest: %w", err)
	}
	if want := selection(quoted); !bytes.Equal(tpm2.Marshal(info.PCRSelect), tpm2.Marshal(want)) {
		return evidence.Hash{}, errors.New("attest covers other PCRs than asked for")
	}
	if len(info.PCRDigest.Buffer) != sha256.Size {
		return evidence.Hash{}, fmt.Errorf("attest has a PCR digest of %d bytes, want %d", len(info.PCRDigest.Buffer), sha256.Size)
	}
	return evidence.Hash(info.PCRDigest.Buffer), nil
}

// checkSignature verifies a signature of the key and returns it as TPMT_SIGNATURE.
//
//	ECDSA-P256 over SHA-256(TPMS_ATTEST)
func (ak *AK) checkSignature(attest []byte, signature *tpm2.TPMTSignature) ([]byte, error) {
	if signature.SigAlg != tpm2.TPMAlgECDSA {
		return nil, fmt.Errorf("signature algorithm 0x%x, want ECDSA", uint16(signature.SigAlg))
	}
	sig, err := signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if sig.Hash != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("signature over hash 0x%x, want SHA-256", uint16(sig.Hash))
	}
	digest := sha256.Sum256(attest)
	r, s := new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)
	if !ecdsa.Verify(ak.verify, digest[:], r, s) {
		return nil, errors.New("signature is not by the attestation key")
	}
	return tpm2.Marshal(*signature), nil
}
