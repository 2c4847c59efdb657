// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// FuzzAttest holds the decoder of quotes against go-tpm's: what it accepts,
// go-tpm reads the same way and writes back to the same bytes.
func FuzzAttest(f *testing.F) {
	f.Add(tpm2.Marshal(sampleAttest()))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, rejection := parseAttest(data)
		if rejection != nil {
			return
		}
		oracle, err := tpm2.Unmarshal[tpm2.TPMSAttest](data)
		if err != nil {
			t.Fatalf("accepted what go-tpm refuses: %v", err)
		}
		if oracle.Magic.Check() != nil || !bytes.Equal(tpm2.Marshal(*oracle), data) {
			t.Fatal("accepted what is no canonical TPM structure")
		}
		info, err := oracle.Attested.Quote()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.signer, oracle.QualifiedSigner.Buffer) || !bytes.Equal(a.extra, oracle.ExtraData.Buffer) ||
			a.clock != oracle.ClockInfo.Clock || a.resetCount != oracle.ClockInfo.ResetCount || a.restartCount != oracle.ClockInfo.RestartCount ||
			a.safe != bool(oracle.ClockInfo.Safe) || a.firmware != oracle.FirmwareVersion || !bytes.Equal(a.digest, info.PCRDigest.Buffer) ||
			int(a.count) != len(info.PCRSelect.PCRSelections) {
			t.Fatalf("read %+v, go-tpm %+v", a, oracle)
		}
		for i, s := range info.PCRSelect.PCRSelections {
			if a.banks[i].alg != uint16(s.Hash) || !bytes.Equal(a.banks[i].bitmap, s.PCRSelect) {
				t.Fatalf("bank %d: read %+v, go-tpm %+v", i, a.banks[i], s)
			}
		}
	})
}

func sampleAttest() tpm2.TPMSAttest {
	return tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: make([]byte, 34)},
		ExtraData: tpm2.TPM2BData{Buffer: make([]byte, 32)}, ClockInfo: tpm2.TPMSClockInfo{Clock: 1, ResetCount: 2, RestartCount: 3, Safe: true}, FirmwareVersion: 4,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{1, 2, 3}}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
		}),
	}
}

// FuzzAK holds the reading of public areas against go-tpm's.
func FuzzAK(f *testing.F) {
	good := corpusAK
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		key, rejection := parseAK(data)
		if rejection != nil {
			return
		}
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](data)
		if err != nil {
			t.Fatalf("accepted what go-tpm refuses: %v", err)
		}
		a := public.ObjectAttributes
		if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt || a.EncryptedDuplication || a.X509Sign {
			t.Fatalf("accepted attributes %+v", a)
		}
		oracle, err := tpm2.ObjectName(public)
		if err != nil || !bytes.Equal(oracle.Buffer, key.name) {
			t.Fatalf("name %x, go-tpm %x (%v)", key.name, oracle.Buffer, err)
		}
		point, err := tpm2.Pub(*public)
		if err != nil || !key.verify.Equal(point.(*ecdsa.PublicKey)) {
			t.Fatalf("point differs from go-tpm's (%v)", err)
		}
	})
}

// corpusAK is the public area of a swtpm key: ECC P-256, restricted.
var corpusAK = func() []byte {
	b, err := base64.StdEncoding.DecodeString("ACMACwAFAHIAAAAQABgACwADABAAIN+YdrEMAtnUaLX9XilctdXEFfsqigBak5tqm8ozBz+eACCazqoRT4LEnj27dVZmD5TkC01ucOV23i4WO+7pITJxyw==")
	if err != nil {
		panic(err)
	}
	return b
}()

// corpus returns a folder of recorded data.
func corpus(t *testing.T, folder string) string {
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = "../../shared/corpus"
	}
	dir := filepath.Join(root, folder)
	_, err := os.Stat(dir)
	require.Need(t, "corpus", err)
	return dir
}

func read(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// toolsPCRs reads the values from a file of tpm2_quote --pcrs_format=serialized:
// C structures in the byte order of the machine, all of them little endian here.
func toolsPCRs(t *testing.T, data []byte, pcrs uint32) []evidence.PCR {
	t.Helper()
	le := binary.LittleEndian
	var digests [][]byte
	for list := data[136:]; len(list) >= 532; list = list[532:] {
		for i := range le.Uint32(list) {
			at := 4 + i*66
			digests = append(digests, list[at+2:at+2+uint32(le.Uint16(list[at:]))])
		}
	}
	var out []evidence.PCR
	for pcr := range 24 {
		if pcrs&(1<<pcr) != 0 {
			if len(digests) == 0 {
				t.Fatalf("no value of PCR %d", pcr)
			}
			out, digests = append(out, evidence.PCR{Index: uint8(pcr), Digest: digests[0]}), digests[1:]
		}
	}
	return out
}

// TestCorpusQuotes verifies quotes that other programs had made on other
// machines: PCRs 0 to 14, their own nonce, a key that is not a primary.
func TestCorpusQuotes(t *testing.T) {
	machines, err := filepath.Glob(filepath.Join(corpus(t, "vm"), "*", "quote.msg"))
	if err != nil || len(machines) == 0 {
		t.Fatalf("no quote in the corpus (%v)", err)
	}
	const pcrs = 1<<15 - 1
	for _, path := range machines {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			key, rejection := parseAK(read(t, dir, "ak.pub.tpmt")[2:]) // a TPM2B_PUBLIC in spite of its name
			if rejection != nil {
				t.Fatal(rejection)
			}
			if !bytes.Equal(key.name, read(t, dir, "ak.name")) {
				t.Errorf("name %x", key.name)
			}
			q := evidence.Quote{Attest: read(t, dir, "quote.msg"), Signature: read(t, dir, "quote.sig"), PCRs: toolsPCRs(t, read(t, dir, "quote.pcrs"), pcrs)}
			extra := evidence.Hash(read(t, dir, "nonce.bin"))
			refused := func(want Code, q evidence.Quote, extra evidence.Hash, pcrs uint32) {
				t.Helper()
				if _, _, rejection := checkQuote(&q, key, &extra, pcrs); rejection == nil || rejection.Code != want {
					t.Errorf("got %v, want %s", rejection, want)
				}
			}
			refused(codeSigner, q, extra, pcrs) // made below the EK, not as a primary
			a, rejection := parseAttest(q.Attest)
			if rejection != nil {
				t.Fatal(rejection)
			}
			key.signer = a.signer
			a, values, rejection := checkQuote(&q, key, &extra, pcrs)
			if rejection != nil {
				t.Fatal(rejection)
			}
			if got, covered := values.At(14); !covered || !bytes.Equal(got[:], q.PCRs[14].Digest) || a.resetCount == 0 {
				t.Errorf("PCR 14 is %v (%v), reset count %d", got, covered, a.resetCount)
			}
			if _, covered := values.At(15); covered {
				t.Error("a value of PCR 15, which was not quoted")
			}
			refused(codePCRSelection, q, extra, 1<<16-1)
			refused(codeExtraData, q, evidence.Hash{1}, pcrs)
			forged := q
			forged.PCRs = append([]evidence.PCR{{Index: 0, Digest: make([]byte, 32)}}, q.PCRs[1:]...)
			refused(codePCRDigest, forged, extra, pcrs)
			for _, other := range machines {
				if other != path {
					foreign := q
					foreign.Signature = read(t, filepath.Dir(other), "quote.sig")
					refused(codeSignature, foreign, extra, pcrs)
				}
			}
		})
	}
}

// TestCorpusKeylime refuses keylime's own test quote: SHA-1 bank, PCR 16.
func TestCorpusKeylime(t *testing.T) {
	parts := strings.Split(strings.TrimPrefix(string(read(t, corpus(t, "quotes"), "rust-keylime-test-quote.txt")), "r"), ":")
	attest, err := base64.StdEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	a, rejection := parseAttest(attest)
	if rejection != nil {
		t.Fatal(rejection)
	}
	if string(a.extra) != "TEST" {
		t.Errorf("extraData %q", a.extra)
	}
	const pcrs = 1<<16 - 1
	if _, rejection = checkPCRs(&a, nil, pcrs); rejection == nil || rejection.Code != codePCRBank {
		t.Errorf("SHA-1 bank: %v", rejection)
	}
	a.banks[0].alg = tpmAlgSHA256
	if _, rejection = checkPCRs(&a, nil, pcrs); rejection == nil || rejection.Code != codePCRSelection || rejection.Observed != "PCRs 16" {
		t.Errorf("PCR 16: %v", rejection)
	}
	if _, rejection := (&Policy{PCRs: []int{16}, Anchors: []string{"none"}, Tiers: []string{"lsm"}}).selection(); rejection == nil || rejection.Check != "V17" {
		t.Errorf("a policy with PCR 16: %v", rejection)
	}
	signature, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, rejection := parseSignature("quote", signature, tpmAlgECDSA, tpmAlgSHA256); rejection == nil || rejection.Code != codeSigAlg {
		t.Errorf("RSA signature: %v", rejection)
	}
}
