// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit_test

import (
	"crypto/ed25519"
	"fmt"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/evidence"
)

// A log of one entry, its checkpoint, and the receipt that anybody with the
// log's public key can check.
func Example() {
	signer, err := audit.NewSigner("jurat.dev/log/broker.example", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		fmt.Println(err)
		return
	}
	entry, err := (&audit.Entry{Version: audit.Version, Type: audit.TypeDecision, Time: 1795435200000, Txn: "01JD", Decision: "allow"}).Marshal()
	if err != nil {
		fmt.Println(err)
		return
	}
	checkpoint, err := signer.Checkpoint(1, evidence.LeafHash(entry)) // the root of a tree of one is its leaf
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := audit.Receipt{Index: 0, Checkpoint: checkpoint}.Marshal()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", receipt)

	verifier, err := audit.NewVerifier(signer.VerifierKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	index, seen, err := verifier.VerifyReceipt(receipt, entry)
	fmt.Println(index, seen.Size, err)
	// Output:
	// c2sp.org/tlog-proof@v1
	// index 0
	//
	// jurat.dev/log/broker.example
	// 1
	// +wv5pimTX4+VUbq5rNjP9xmWnOiXlxsuEnj8C7QyqOw=
	//
	// — jurat.dev/log/broker.example vcAhDPxBInXFxIuQ33jUGJy9bnLrsuZn2Ypuzz7tEO5KBxUPq9gE/S3e3Nm8UeEyA940LAJJE3baVTR01lhIOEDFUgQ=
	// 0 1 <nil>
}
