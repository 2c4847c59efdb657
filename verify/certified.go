// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/subtle"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// certified is a TPMS_ATTEST of any other type than quote: what stands in front
// of every one of them, and the rest still to be read.
type certified struct {
	reader
	extra        []byte
	resetCount   uint32
	restartCount uint32
}

// checkCertified holds what a TPM signed beside the quote against the enrolled
// key: its type, its signer, what it was made for, and the signature. what
// names it in rejections. The body is left to the caller, who ends with done.
func checkCertified(what string, c *evidence.Certification, key *attestationKey, typ uint16, extra *evidence.Hash) (*certified, *Rejection) {
	if len(c.Attest) == 0 || len(c.Attest) > evidence.MaxAttest {
		return nil, reject(codeAttestSize, what+" attest", fmt.Sprintf("1 to %d bytes", evidence.MaxAttest), fmt.Sprintf("%d bytes", len(c.Attest)))
	}
	a := &certified{reader: reader{rest: c.Attest}}
	if magic := a.u32(); !a.short && magic != tpmGenerated {
		return nil, reject(codeMagic, what+" magic", fmt.Sprintf("%08x", tpmGenerated), fmt.Sprintf("%08x", magic))
	}
	if got := a.u16(); !a.short && got != typ {
		return nil, reject(codeType, what+" type", fmt.Sprintf("%04x", typ), fmt.Sprintf("%04x", got))
	}
	signer := a.sized()
	a.extra = a.sized()
	a.u64() // the clock says nothing that the quote does not
	a.resetCount, a.restartCount = a.u32(), a.u32()
	safe := a.u8()
	a.u64() // firmware
	if a.short || safe > 1 {
		return nil, reject(codeAttestForm, what+" attest", "a canonical TPMS_ATTEST", fmt.Sprintf("%d bytes", len(c.Attest)))
	}
	if rejection := checkSignature(what, c.Attest, c.Signature, key); rejection != nil {
		return nil, rejection
	}
	if !bytes.Equal(signer, key.signer) {
		return nil, reject(codeSigner, what+" qualifiedSigner", hexOf(key.signer), hexOf(signer))
	}
	if subtle.ConstantTimeCompare(a.extra, extra[:]) != 1 {
		return nil, reject(codeExtraData, what+" extraData", extra.String(), hexOf(a.extra))
	}
	return a, nil
}

// done wants the body to have been read to its very end.
func (a *certified) done(what string) *Rejection {
	if a.short || len(a.rest) != 0 {
		return reject(codeAttestForm, what+" attest", "exactly one canonical TPMS_ATTEST", fmt.Sprintf("%d bytes left over", len(a.rest)))
	}
	return nil
}
