// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// Errors of registers.
var (
	// ErrRegister: the TPM refused to write or to certify the register. It is
	// not what it was, or this is not its turn: inspect it again.
	ErrRegister = errors.New("register refused")
	// ErrForeign: something else is kept at the register's NV index.
	ErrForeign = errors.New("the NV index holds something else")
	// ErrDropped: the TPM, or what stands between it and us, said that it
	// extended a value and did not.
	ErrDropped = errors.New("the TPM said that it extended, and did not")
)

// Register is an NV index of type extend: 32 bytes that only move on. Like a
// PCR it cannot be set, and unlike PCRs 8 to 15 it belongs to nobody else.
//
//	value of an index that was never written: none
//	after the first extend:                   SHA-256(32 zero bytes || c)
//	after each further one:                   SHA-256(value || c)
type Register struct {
	dev   *Device
	index tpm2.TPMHandle
	name  []byte // of the index once written
	write writer
}

// writer says how a register's extends are authorized.
type writer struct {
	password bool            // the empty password of the index: systemd before version 262
	branches []evidence.Hash // of the PolicyOR that is the index's authPolicy
	command  bool            // the branches also pin TPM2_NV_Extend
}

// Index is the handle of the NV index.
func (r *Register) Index() uint32 { return uint32(r.index) }

// Name is what TPM2_NV_Certify reports of the index once it has been written:
//
//	Name = nameAlg || SHA-256(TPMS_NV_PUBLIC)
func (r *Register) Name() []byte { return bytes.Clone(r.name) }

// Extend moves the register on by c. It is refused while the register has
// never been written: only [LatchRegister.Open] does the first write. That the
// TPM says yes is all there is to know here: whether the register moved, and
// whether it still is the register, only [Register.Certify] says.
func (r *Register) Extend(ctx context.Context, c evidence.Hash) error {
	if r.write.password {
		return r.refused(nvExtend(ctx, r.dev.bus, r.index, tpm2.TPMRSPW, c[:]))
	}
	return r.underPolicy(ctx, c, nil)
}

// Read returns the register's value. It is reported, not signed.
func (r *Register) Read(ctx context.Context) (evidence.Hash, error) {
	rsp, err := run(ctx, r.dev.bus, tpm2.NVRead{
		AuthHandle: r.auth(),
		NVIndex:    tpm2.NamedHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: r.name}},
		Size:       sha256.Size,
	})
	if err != nil {
		return evidence.Hash{}, r.refused(err)
	}
	if n := len(rsp.Data.Buffer); n != sha256.Size {
		return evidence.Hash{}, fmt.Errorf("register 0x%x: TPM2_NV_Read gave %d bytes, want %d", uint32(r.index), n, sha256.Size)
	}
	return evidence.Hash(rsp.Data.Buffer), nil
}

// auth is the empty password of the index, which may read it.
func (r *Register) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: r.name}, Auth: tpm2.PasswordAuth(nil)}
}

// refused makes ErrRegister of what the TPM itself answered, unless that is a
// warning: it would say the same of any register, and something else later.
func (r *Register) refused(err error) error {
	var rc tpm2.TPMRC
	if errors.As(err, &rc) && !rc.IsWarning() {
		return fmt.Errorf("%w: NV index 0x%x: %w", ErrRegister, uint32(r.index), err)
	}
	return err
}

// extended is the value of a register or of a PCR after one more extend.
//
//	SHA-256(value || c)
func extended(value, c evidence.Hash) evidence.Hash {
	return sha256.Sum256(append(value[:], c[:]...))
}

// nvArea is the public area of an NV index as the TPM has it.
type nvArea struct {
	public  *tpm2.TPMSNVPublic
	encoded []byte // TPMS_NV_PUBLIC
	name    []byte // as the TPM reports it; of our own computing where nameAlg is SHA-256
}

// area reads the public area of an index, or errNoIndex.
func (d *Device) area(ctx context.Context, index tpm2.TPMHandle) (nvArea, error) {
	defined, err := d.handles(ctx, index, index)
	if err != nil {
		return nvArea{}, err
	}
	if len(defined) == 0 {
		return nvArea{}, errNoIndex
	}
	rsp, err := run(ctx, d.bus, tpm2.NVReadPublic{NVIndex: index})
	if err != nil {
		return nvArea{}, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nvArea{}, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
	}
	a := nvArea{public: public, encoded: tpm2.Marshal(*public), name: rsp.NVName.Buffer}
	if public.NVIndex != index {
		return nvArea{}, fmt.Errorf("NV index 0x%x: answer is about 0x%x", uint32(index), uint32(public.NVIndex))
	}
	if public.NameAlg == tpm2.TPMAlgSHA256 && !bytes.Equal(a.name, nvName(a.encoded)) {
		return nvArea{}, fmt.Errorf("NV index 0x%x: name %x, want %x", uint32(index), a.name, nvName(a.encoded))
	}
	return a, nil
}

// nvName is the name of an index with this public area.
//
//	Name = TPM_ALG_SHA256 || SHA-256(TPMS_NV_PUBLIC)
func nvName(encoded []byte) []byte {
	digest := sha256.Sum256(encoded)
	return append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)), digest[:]...)
}
