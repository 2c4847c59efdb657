// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"crypto"
	"testing"

	"github.com/google/go-attestation/attest"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify/internal/testvectors"
)

// opinion asks go-attestation whether a quote is by the key, about the header
// and over the values. It looks at fewer things than package verify.
func opinion(public []byte, b *evidence.Bundle) error {
	ak, err := attest.ParseAKPublic(public)
	if err != nil {
		return err
	}
	var pcrs []attest.PCR
	for _, p := range b.Quote.PCRs {
		pcrs = append(pcrs, attest.PCR{Index: int(p.Index), Digest: p.Digest, DigestAlg: crypto.SHA256})
	}
	q := evidence.HeaderDigest(b.RawHeader)
	return ak.Verify(attest.Quote{Quote: b.Quote.Attest, Signature: b.Quote.Signature}, pcrs, q[:])
}

// TestSecondOpinion: go-attestation accepts every quote that is accepted here,
// and what it refuses is refused here.
func TestSecondOpinion(t *testing.T) {
	vectors, err := testvectors.Read(vectorDir)
	if err != nil {
		t.Fatal(err)
	}
	var accepted, refused int
	for _, v := range vectors {
		b, err := evidence.Parse(v.Bundle)
		if err != nil {
			continue
		}
		_, rejection := judge(&v)
		if err := opinion(v.Host.AKPublic, b); err == nil {
			accepted++
		} else {
			refused++
			if rejection == nil {
				t.Errorf("%s: accepted, and go-attestation refuses: %v", v.Name, err)
			}
		}
	}
	if accepted < 50 || refused < 20 {
		t.Errorf("go-attestation accepts %d and refuses %d quotes: it was not asked about enough", accepted, refused)
	}
}
