// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// owner is the owner hierarchy with the empty password.
func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}

// ownerError adds what to do to what the TPM says about the owner hierarchy.
func ownerError(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("%w: the owner hierarchy has a password; clear it with tpm2_changeauth -c owner, or define the register with tpm2_nvdefine", err)
	case errors.Is(err, tpm2.TPMRCHierarchy):
		return fmt.Errorf("%w: the owner hierarchy is disabled; enable it in the firmware setup", err)
	case errors.Is(err, tpm2.TPMRCNVSpace):
		return fmt.Errorf("%w: the TPM's NV memory is full; remove an index that nobody needs (tpm2_nvundefine)", err)
	}
	return err
}

// Define makes the index, unwritten. It refuses to replace what is there:
// [LatchRegister.Undefine] comes first, and removes only registers.
func (r *LatchRegister) Define(ctx context.Context) error {
	_, err := run(ctx, r.dev.bus, tpm2.NVDefineSpace{
		AuthHandle: owner(),
		PublicInfo: tpm2.New2B(registerPublic(r.index, r.latch, false)),
	})
	return r.refused(ownerError(err))
}

// Open does the first write, by branch 1, and looks whether it was done: the
// register now has the value SHA-256(32 zero bytes || c). It is refused once
// the register has been written, and once the latch is closed.
func (r *LatchRegister) Open(ctx context.Context, c evidence.Hash) error {
	var err error
	for range pcrAttempts {
		// The TPM takes a PolicyPCR for stale when any PCR has moved since, and
		// PCR 10 moves whenever the kernel measures a file.
		if err = r.underPolicy(ctx, c, latchZero(r.latch)); !errors.Is(err, tpm2.TPMRCPCRChanged) {
			break
		}
	}
	if err != nil {
		return err
	}
	value, err := r.Read(ctx)
	if err != nil {
		return err
	}
	if want := extended(evidence.Hash{}, c); value != want {
		return fmt.Errorf("%w: register 0x%x is %x after the first write, want %x", ErrDropped, uint32(r.index), value, want)
	}
	return nil
}

// CloseLatch extends the latch, and looks whether that was done. From then on
// no register can be opened until the TPM is reset. A latch that this boot has
// closed already is left alone; one that holds anything else is ErrRegister.
//
//	latch = SHA-256(32 zero bytes || SHA-256("jurat/latch/v1\0" || Name || boot_id))
func (r *LatchRegister) CloseLatch(ctx context.Context, bootID [16]byte) error {
	digest := evidence.LatchDigest(r.name, bootID[:])
	want := extended(evidence.Hash{}, digest)
	before, err := r.readLatch(ctx)
	if err != nil {
		return err
	}
	if before == want {
		return nil
	}
	if before != (evidence.Hash{}) {
		return fmt.Errorf("%w: latch PCR %d is already %x", ErrRegister, r.latch, before)
	}
	_, err = run(ctx, r.dev.bus, tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(r.latch), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]},
		}},
	})
	if err != nil {
		return err
	}
	after, err := r.readLatch(ctx)
	if err != nil {
		return err
	}
	if after != want {
		return fmt.Errorf("%w: latch PCR %d is %x after closing it, want %x", ErrDropped, r.latch, after, want)
	}
	return nil
}

// Undefine removes the register, and with it everything it held. It removes
// only what a register of some latch PCR is, and leaves the latch as it is.
func (r *LatchRegister) Undefine(ctx context.Context) error {
	area, err := r.dev.area(ctx, r.index)
	if errors.Is(err, errNoIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	if !r.madeHere(area.name) {
		return fmt.Errorf("%w: NV index 0x%x has the name %x", ErrForeign, uint32(r.index), area.name)
	}
	_, err = run(ctx, r.dev.bus, tpm2.NVUndefineSpace{
		AuthHandle: owner(),
		NVIndex:    tpm2.NamedHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: area.name}},
	})
	return r.refused(ownerError(err))
}

// madeHere tells whether name is that of a register at this index, whatever
// its latch PCR: the configured one may have changed.
func (r *LatchRegister) madeHere(name []byte) bool {
	for latch := range uint8(pcrCount) {
		if bytes.Equal(name, RegisterName(uint32(r.index), latch)) || bytes.Equal(name, r.unwritten(latch)) {
			return true
		}
	}
	return false
}
