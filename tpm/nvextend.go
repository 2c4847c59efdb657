// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// nvExtend runs TPM2_NV_Extend (part 3 section 31.7), which go-tpm does not
// have. The index authorizes its own extend: by a policy session, which is gone
// after a success (continueSession is clear) and still there after an error, or
// by its empty password (TPM_RS_PW).
func nvExtend(ctx context.Context, b *bus, index, session tpm2.TPMHandle, data []byte) error {
	answer, err := b.send(ctx, nvExtendFrame(index, session, data))
	if err != nil {
		return fmt.Errorf("TPM2_NV_Extend: %w", err)
	}
	if rc := responseCode(answer); rc != tpm2.TPMRCSuccess {
		return fmt.Errorf("TPM2_NV_Extend: %w", rc)
	}
	if err := checkNoParameters(answer); err != nil {
		return fmt.Errorf("TPM2_NV_Extend: %w", err)
	}
	return nil
}

// nvExtendFrame is the whole command (part 1 section 18). There is no HMAC in
// it: the key of a policy session that is neither bound nor salted is empty,
// and then so may the HMAC be.
func nvExtendFrame(index, session tpm2.TPMHandle, data []byte) []byte {
	auth := tpm2.Marshal(tpm2.TPMSAuthCommand{Handle: session})
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, 0) // the size, below
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMCCNVExtend))
	b = binary.BigEndian.AppendUint32(b, uint32(index)) // authHandle
	b = binary.BigEndian.AppendUint32(b, uint32(index)) // nvIndex
	b = binary.BigEndian.AppendUint32(b, uint32(len(auth)))
	b = append(b, auth...)
	b = append(b, tpm2.Marshal(tpm2.TPM2BMaxNVBuffer{Buffer: data})...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// checkNoParameters holds a successful answer to one session and nothing else.
func checkNoParameters(answer []byte) error {
	body := answer[headerSize:]
	if len(body) < 4 || binary.BigEndian.Uint32(body) != 0 {
		return errors.New("answer has parameters, want none")
	}
	auth, err := tpm2.Unmarshal[tpm2.TPMSAuthResponse](body[4:])
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(*auth), body[4:]) {
		return errors.New("answer is not canonical")
	}
	return nil
}

// underPolicy extends by c under a policy session: by the branch for a written
// index, or, with a latch, by the branch for the first write. The session ends
// with the extend, or here.
func (r *Register) underPolicy(ctx context.Context, c evidence.Hash, latch *latchPolicy) (err error) {
	d := r.dev
	session, _, err := tpm2.PolicySession(call{ctx, d.bus}, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return fmt.Errorf("TPM2_StartAuthSession: %w", err)
	}
	handle := session.Handle()
	end := d.hold(handle)
	defer func() {
		if err != nil {
			end()
		}
	}()
	if latch != nil {
		if _, err := run(ctx, d.bus, tpm2.PolicyPCR{
			PolicySession: handle,
			PcrDigest:     tpm2.TPM2BDigest{Buffer: latch.digest[:]},
			Pcrs:          selection([]uint8{latch.pcr}),
		}); err != nil {
			return r.refused(err)
		}
	}
	if _, err := run(ctx, d.bus, tpm2.PolicyNVWritten{PolicySession: handle, WrittenSet: latch == nil}); err != nil {
		return r.refused(err)
	}
	if r.write.command {
		if _, err := run(ctx, d.bus, tpm2.PolicyCommandCode{PolicySession: handle, Code: tpm2.TPMCCNVExtend}); err != nil {
			return r.refused(err)
		}
	}
	or := tpm2.PolicyOr{PolicySession: handle}
	for _, branch := range r.write.branches {
		or.PHashList.Digests = append(or.PHashList.Digests, tpm2.TPM2BDigest{Buffer: branch[:]})
	}
	if _, err := run(ctx, d.bus, or); err != nil {
		return r.refused(err)
	}
	if err := nvExtend(ctx, d.bus, r.index, handle, c[:]); err != nil {
		return r.refused(err)
	}
	d.keys.remove(handle) // the TPM ended it
	return nil
}
