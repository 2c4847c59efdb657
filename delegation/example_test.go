// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/delegation"
)

// A delegation is asked for, approved with an ssh key, and judged by somebody
// who trusts that key and nothing else.
func Example() {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	alice := delegation.Person{Issuer: "https://broker.example", Subject: "alice@example.test"}
	_, enc, err := delegation.New(delegation.Delegation{
		ID: "dlg_0123456789abcdefghjkmnpqr0", Broker: "https://broker.example", Requester: "spiffe://example/operator",
		Workload: delegation.Workload{ID: "spiffe://example/agents/invoice", Levels: delegation.Lowest()},
		Approver: alice, Purpose: "Close October invoices", Actions: []string{"invoice.read"}, Audience: "https://payments.example",
		Limits:    delegation.Limits{Per: delegation.PerCredential},
		NotBefore: uint64(start.Unix()), Expires: uint64(start.Add(time.Hour).Unix()), Uses: 20, FourEyes: 1,
		RequestedAt: uint64(start.Unix()), Nonce: bytes.Repeat([]byte{7}, delegation.NonceSize),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := delegation.Sign(rand.Reader, signer, delegation.Approval, enc)
	if err != nil {
		fmt.Println(err)
		return
	}

	standing, err := delegation.Verify(&delegation.Bundle{
		Type: delegation.BundleType, Version: delegation.Version, Object: enc,
		Answers: []delegation.Answer{{Act: delegation.Approval, Method: delegation.MethodSSH, Person: alice, At: uint64(start.Unix()), Signature: sig.Blob()}},
	}, []delegation.Approver{{Person: alice, Keys: []delegation.Registered{{Key: sig.Key()}}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(delegation.Fingerprint(standing.D()))
	fmt.Println(standing.At(start), "and an hour later", standing.At(start.Add(time.Hour)))
	fmt.Println(standing.Delegation().Allows("https://payments.example", []string{"invoice.pay"}, nil))
	// Output:
	// ravir pulug pavul birat nimig sopud
	// approved and an hour later expired
	// actions: "invoice.pay" is not delegated
}
