// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// ReadPCRs reads PCRs of the SHA-256 bank, all at one moment: the TPM gives at
// most eight at a time, and its update counter says whether any PCR changed
// between the first and the last. pcrs is ascending, without repetition.
func (d *Device) ReadPCRs(ctx context.Context, pcrs []uint8) ([]evidence.PCR, error) {
	for i, pcr := range pcrs {
		if pcr >= pcrCount || i > 0 && pcr <= pcrs[i-1] {
			return nil, fmt.Errorf("PCR list %d is not ascending below %d", pcrs, pcrCount)
		}
	}
	for range pcrAttempts {
		values, moved, err := d.readOnce(ctx, pcrs)
		if err != nil {
			return nil, err
		}
		if !moved {
			return values, nil
		}
	}
	return nil, fmt.Errorf("%w: no stable reading in %d", ErrMoving, pcrAttempts)
}

// readOnce reads pcrs and reports whether any PCR moved meanwhile.
func (d *Device) readOnce(ctx context.Context, pcrs []uint8) (values []evidence.PCR, moved bool, err error) {
	var counter uint32
	for len(values) < len(pcrs) {
		want := pcrs[len(values):]
		want = want[:min(len(want), pcrsPerRead)]
		rsp, err := run(ctx, d.bus, tpm2.PCRRead{PCRSelectionIn: selection(want)})
		if err != nil {
			return nil, false, err
		}
		if len(values) > 0 && rsp.PCRUpdateCounter != counter {
			return nil, true, nil
		}
		counter = rsp.PCRUpdateCounter
		more, err := readValues(rsp, want)
		if err != nil {
			return nil, false, err
		}
		values = append(values, more...)
	}
	return values, false, nil
}

// readValues takes an answer apart. A TPM may give fewer PCRs than asked for,
// but gives the lowest ones, and says which.
func readValues(rsp *tpm2.PCRReadResponse, want []uint8) ([]evidence.PCR, error) {
	var got []uint8
	for _, sel := range rsp.PCRSelectionOut.PCRSelections {
		if sel.Hash == tpm2.TPMAlgSHA256 {
			got = append(got, selected(sel)...)
		}
	}
	digests := rsp.PCRValues.Digests
	if len(got) == 0 && len(digests) == 0 {
		return nil, ErrBank
	}
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) || len(digests) != len(got) {
		return nil, fmt.Errorf("TPM2_PCR_Read: asked for PCRs %d, got %d values for %d", want, len(digests), got)
	}
	values := make([]evidence.PCR, len(got))
	for i, pcr := range got {
		if n := len(digests[i].Buffer); n != sha256.Size {
			return nil, fmt.Errorf("TPM2_PCR_Read: PCR %d has %d bytes, want %d", pcr, n, sha256.Size)
		}
		values[i] = evidence.PCR{Index: pcr, Digest: digests[i].Buffer}
	}
	return values, nil
}

// selection asks for PCRs of the SHA-256 bank.
func selection(pcrs []uint8) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, pcrCount/8)
	for _, pcr := range pcrs {
		bitmap[pcr/8] |= 1 << (pcr % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap}}}
}

// selected lists the PCRs of a selection, ascending.
func selected(sel tpm2.TPMSPCRSelection) []uint8 {
	var pcrs []uint8
	for i := range min(len(sel.PCRSelect)*8, 256) {
		if sel.PCRSelect[i/8]&(1<<(i%8)) != 0 {
			pcrs = append(pcrs, uint8(i))
		}
	}
	return pcrs
}
