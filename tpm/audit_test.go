// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

func TestAuditBanks(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Banks: "sha1,sha256,sha384"})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	q := evidence.Hash{9}
	response, signed, err := ak.AuditBanks(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	// What go-tpm makes of the same conversation.
	audit, err := tpm2.NewAudit(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	rsp, err := run(t.Context(), dev.bus, banksQuestion)
	if err != nil {
		t.Fatal(err)
	}
	must(t, tpm2.AuditCommand(audit, banksQuestion, rsp))
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Attested.SessionAudit()
	if err != nil || !bytes.Equal(info.SessionDigest.Buffer, audit.Digest()) {
		t.Fatalf("audit digest is %x, want %x: %v", info.SessionDigest.Buffer, audit.Digest(), err)
	}
	t.Logf("%x %x", response, signed.Attest)
	must(t, dev.Close())
	if left := transient(t, chip.Path()); len(left) != 0 {
		t.Errorf("left %x loaded", left)
	}
}
