// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

func Example() {
	// What a broker has: what it pinned at enrolment, the challenge it gave, its
	// own clock, and reference values from its store.
	w, reference := testbundle.Booted(), testbundle.Reference()
	challenge, now, received := w.Challenge(), w.Now, w.Build().Bytes
	host, err := verify.NewHost(w.UEID, w.AKPublic, w.AKName, verify.LevelCert)
	if err != nil {
		fmt.Println(err)
		return
	}

	// What it does with the bytes of a bundle.
	bundle, err := evidence.Parse(received)
	if err != nil {
		fmt.Println(verify.Malformed(err))
		return
	}
	result, err := verify.Bundle(bundle, host, challenge, verify.DefaultPolicy(), now)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("true, for", result.Requests()[0].Audience)
	fmt.Println("affirmed:", result.Appraise(0, reference).OK())

	// The program was replaced since somebody pinned its digest.
	reference.Code.Executables[0].Digest = "sha-256:" + evidence.Hash{1}.String()
	for _, check := range result.Appraise(0, reference).Failed() {
		fmt.Println("refused by", check.Attestor, "for", check.Check)
	}
	// Output:
	// true, for https://payments.example
	// affirmed: true
	// refused by code for exe-digest
	// refused by provenance for exe
}
