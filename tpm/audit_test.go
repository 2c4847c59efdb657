// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// audited is the digest in a statement about an audit session.
func audited(t *testing.T, attest []byte) []byte {
	t.Helper()
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	must(t, err)
	info, err := a.Attested.SessionAudit()
	must(t, err)
	return info.SessionDigest.Buffer
}

func TestAuditBanks(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Banks: "sha1,sha256,sha384"})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	q := evidence.Hash{9}
	response, signed, err := ak.AuditBanks(t.Context(), q)
	must(t, err)
	want, err := hex.DecodeString("00" + "00000005" + "00000004" +
		"000403ffffff" + "000b03ffffff" + "000c03ffffff" + "000d03000000")
	must(t, err)
	if !bytes.Equal(response, want) {
		t.Errorf("response %x, want %x", response, want)
	}
	// What go-tpm makes of the same conversation.
	audit, err := tpm2.NewAudit(tpm2.TPMAlgSHA256)
	must(t, err)
	rsp, err := run(t.Context(), dev.bus, banksQuestion)
	must(t, err, tpm2.AuditCommand(audit, banksQuestion, rsp))
	if got := audited(t, signed.Attest); !bytes.Equal(got, audit.Digest()) {
		t.Errorf("audit digest is %x, want %x", got, audit.Digest())
	}

	for name, c := range map[string]struct {
		attest   []byte
		q        evidence.Hash
		response []byte
	}{
		"other question":   {signed.Attest, evidence.Hash{8}, response},
		"a bank less":      {signed.Attest, q, append(append(bytes.Clone(response[:8]), 3), response[9+6:]...)},
		"more data":        {signed.Attest, q, append([]byte{1}, response[1:]...)},
		"trailing byte":    {append(bytes.Clone(signed.Attest), 0), q, response},
		"another response": {signed.Attest, q, nil},
	} {
		if err := ak.checkAudit(c.attest, c.q, c.response); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	must(t, ak.checkAudit(signed.Attest, q, response))
	if err := createAK(t, dev, "2").checkAudit(signed.Attest, q, response); err == nil {
		t.Error("took what another key signed")
	}
	quote, err := ak.Quote(t.Context(), q)
	must(t, err)
	if err := ak.checkAudit(quote.Attest, q, response); err == nil {
		t.Error("took a quote")
	}
}

// The statement covers the one command: asking for it does not go into it, nor
// does what others do on the same TPM.
func TestAuditCoversOneCommand(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev, other := open(t, chip.Path()), open(t, chip.Path())
	ak := createAK(t, dev, "1")
	session, _, err := tpm2.HMACSession(call{t.Context(), dev.bus}, tpm2.TPMAlgSHA256, 16, tpm2.Audit())
	must(t, err)
	_, err = run(t.Context(), dev.bus, banksQuestion, session)
	must(t, err)
	var digests [2][]byte
	for i := range digests {
		rsp, err := run(t.Context(), dev.bus, tpm2.GetSessionAuditDigest{
			PrivacyAdminHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			SignHandle:         ak.key.auth(),
			SessionHandle:      session.Handle(),
			InScheme:           tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		})
		must(t, err)
		digests[i] = audited(t, rsp.AuditInfo.Bytes())
		_, err = other.Properties(t.Context())
		must(t, err)
	}
	if !bytes.Equal(digests[0], digests[1]) {
		t.Errorf("the digest moved from %x to %x", digests[0], digests[1])
	}
	_, err = run(t.Context(), dev.bus, banksQuestion, session)
	must(t, err)
}

// Recorded from swtpm 0.7.1 with SHA-1 and SHA-256 active: every number that a
// verifier in another language goes through.
func TestAuditWorkedExample(t *testing.T) {
	response, err := hex.DecodeString("000000000500000004000403ffffff000b03ffffff000c03000000000d03000000")
	must(t, err)
	attest, err := hex.DecodeString("" +
		"ff54434780160022000b31f8e1f91fed3e66acac4dff1508d0407039963d474f5a215c9a41f629a9e69a0020010000000000000000000000" +
		"000000000000000000000000000000000000000000000000000001d50000000200000000012019102300163636010020b04424e63434b24e" +
		"35744b90a521e247d428fa7e5e0b4f4c97be3c596a64f3a9")
	must(t, err)
	if got, want := banksDigest(response), audited(t, attest); !bytes.Equal(got[:], want) {
		t.Errorf("audit digest %x, want %x", got, want)
	}
	for name, c := range map[string]struct{ of, want string }{
		"cpHash":        {"0000017a" + "00000005" + "00000000" + "00000001", "036345dab1b291012ce7cae6ed4bcbe25e3e57597cb8f4ac8dcb1195fd136682"},
		"rpHash":        {"00000000" + "0000017a" + hex.EncodeToString(response), "2c6a1de599dc6096215d42ea82733c90dda73ceb4ce5206bb8fdd8c492fa2aea"},
		"sessionDigest": {"0000000000000000000000000000000000000000000000000000000000000000" + "036345dab1b291012ce7cae6ed4bcbe25e3e57597cb8f4ac8dcb1195fd136682" + "2c6a1de599dc6096215d42ea82733c90dda73ceb4ce5206bb8fdd8c492fa2aea", "b04424e63434b24e35744b90a521e247d428fa7e5e0b4f4c97be3c596a64f3a9"},
	} {
		b, err := hex.DecodeString(c.of)
		must(t, err)
		sum := sha256.Sum256(b)
		if got := hex.EncodeToString(sum[:]); got != c.want {
			t.Errorf("%s is %s, want %s", name, got, c.want)
		}
	}
}
