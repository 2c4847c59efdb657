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

// ErrNoRegister: there is no NvPCR at the index, or systemd has not initialized
// it since the TPM started.
var ErrNoRegister = errors.New("no initialized NvPCR")

// NvPCR takes one of systemd's NvPCRs for a register: an NV index of type
// extend that systemd defined and initialized early in this boot.
//
// Since version 262 of systemd its policy is PolicyOR(initial,
// PolicyNvWritten(YES)): the first write takes a signed policy of the initrd,
// every later one is free. initial is the digest of that first branch, which
// systemd leaves in hexadecimal in /run/systemd/nvpcr/NAME.auth. Versions 259 to
// 261 let the empty password of the index write; initial is nil then. Such
// an index can be undefined and written anew by root, and it is for the
// verifier, who sees the name, to say what that is worth.
func (d *Device) NvPCR(ctx context.Context, index uint32, initial []byte) (*Register, error) {
	area, err := d.area(ctx, tpm2.TPMHandle(index))
	if errors.Is(err, errNoIndex) {
		return nil, fmt.Errorf("%w: NV index 0x%x is not defined", ErrNoRegister, index)
	}
	if err != nil {
		return nil, err
	}
	public := area.public
	attributes := public.Attributes
	switch {
	case attributes.NT != tpm2.TPMNTExtend, public.NameAlg != tpm2.TPMAlgSHA256, public.DataSize != sha256.Size:
		return nil, fmt.Errorf("%w: NV index 0x%x is of type %d with hash 0x%x and %d bytes, want an extend index (4) with SHA-256 (0xb) and 32",
			ErrForeign, index, attributes.NT, uint16(public.NameAlg), public.DataSize)
	case !attributes.Written:
		return nil, fmt.Errorf("%w: NV index 0x%x was never written", ErrNoRegister, index)
	case !attributes.AuthRead:
		return nil, fmt.Errorf("%w: NV index 0x%x cannot be read with its own password", ErrForeign, index)
	}
	r := &Register{dev: d, index: tpm2.TPMHandle(index), name: area.name}
	if attributes.PolicyWrite && initial != nil {
		written := policyStep(evidence.Hash{}, tpm2.TPMCCPolicyNvWritten, []byte{1})
		if len(initial) != sha256.Size {
			return nil, fmt.Errorf("first branch of the policy of NV index 0x%x has %d bytes, want %d", index, len(initial), sha256.Size)
		}
		branches := []evidence.Hash{evidence.Hash(initial), written}
		if policy := policyOr(branches); !bytes.Equal(public.AuthPolicy.Buffer, policy[:]) {
			return nil, fmt.Errorf("%w: NV index 0x%x has the policy %x, want %x", ErrForeign, index, public.AuthPolicy.Buffer, policy)
		}
		r.write.branches = branches
		return r, nil
	}
	if attributes.AuthWrite {
		r.write.password = true
		return r, nil
	}
	return nil, fmt.Errorf("%w: NV index 0x%x can be written neither with its own password nor by a known policy", ErrForeign, index)
}
