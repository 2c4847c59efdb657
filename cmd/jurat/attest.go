// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// attestJSON is what a TPMS_ATTEST says, read but not verified.
type attestJSON struct {
	Type            string         `json:"type"`
	QualifiedSigner evidence.Bytes `json:"qualified_signer"`
	ExtraData       evidence.Bytes `json:"extra_data"`
	Clock           uint64         `json:"clock_ms"`
	ResetCount      uint32         `json:"reset_count"`
	RestartCount    uint32         `json:"restart_count"`
	Safe            bool           `json:"safe"`
	Firmware        uint64         `json:"firmware"`
	PCRs            []int          `json:"pcrs"` // the selection of the first bank
	Banks           int            `json:"banks"`
	PCRDigest       evidence.Bytes `json:"pcr_digest"`
}

// readAttest returns nil when data is no TPMS_ATTEST.
func readAttest(data []byte) *attestJSON {
	at, err := tpm2.Unmarshal[tpm2.TPMSAttest](data)
	if err != nil || at.Magic != tpm2.TPMGeneratedValue {
		return nil
	}
	out := &attestJSON{
		Type: "other", QualifiedSigner: at.QualifiedSigner.Buffer, ExtraData: at.ExtraData.Buffer, Clock: at.ClockInfo.Clock,
		ResetCount: at.ClockInfo.ResetCount, RestartCount: at.ClockInfo.RestartCount, Safe: bool(at.ClockInfo.Safe),
		Firmware: at.FirmwareVersion, PCRs: []int{},
	}
	if at.Type != tpm2.TPMSTAttestQuote {
		return out
	}
	quote, err := at.Attested.Quote()
	if err != nil {
		return nil
	}
	out.Type, out.PCRDigest, out.Banks = "quote", quote.PCRDigest.Buffer, len(quote.PCRSelect.PCRSelections)
	if out.Banks > 0 {
		for i, octet := range quote.PCRSelect.PCRSelections[0].PCRSelect {
			for bit := range 8 {
				if octet>>bit&1 == 1 {
					out.PCRs = append(out.PCRs, i*8+bit)
				}
			}
		}
	}
	return out
}
