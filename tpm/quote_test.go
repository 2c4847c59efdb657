// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// agree asks go-attestation for its opinion on a quote.
func agree(t testing.TB, ak *AK, quote evidence.Quote, q evidence.Hash) {
	t.Helper()
	public, err := attest.ParseAKPublic(ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	var pcrs []attest.PCR
	for _, pcr := range quote.PCRs {
		pcrs = append(pcrs, attest.PCR{Index: int(pcr.Index), Digest: pcr.Digest, DigestAlg: crypto.SHA256})
	}
	if err := public.Verify(attest.Quote{Quote: quote.Attest, Signature: quote.Signature}, pcrs, q[:]); err != nil {
		t.Fatalf("go-attestation: %v", err)
	}
}

func TestQuote(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true, Firmware: true})
	ak := createAK(t, open(t, chip.Path()), "1")
	q := evidence.HeaderDigest([]byte("header"))
	quote, err := ak.Quote(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	agree(t, ak, quote, q)

	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](quote.Attest)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.ExtraData.Buffer, q[:]) {
		t.Errorf("extraData %x, want %x", a.ExtraData.Buffer, q)
	}
	if !bytes.Equal(a.QualifiedSigner.Buffer, QualifiedName(ak.Name())) {
		t.Errorf("signer %x, want %x", a.QualifiedSigner.Buffer, QualifiedName(ak.Name()))
	}
	// An AK outside the endorsement hierarchy would give obfuscated counts.
	clock, err := ak.dev.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a.ClockInfo.ResetCount != clock.ResetCount || a.ClockInfo.RestartCount != clock.RestartCount {
		t.Errorf("quote says resets %d restarts %d, the clock %+v", a.ClockInfo.ResetCount, a.ClockInfo.RestartCount, clock)
	}
	properties, err := ak.dev.Properties(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a.FirmwareVersion != properties.Firmware {
		t.Errorf("quote says firmware %x, the properties %x", a.FirmwareVersion, properties.Firmware)
	}
	if len(quote.PCRs) != 16 {
		t.Fatalf("%d PCRs, want 16", len(quote.PCRs))
	}
	booted := bootlog.Boot{}.PCRs()
	for i, pcr := range quote.PCRs {
		if int(pcr.Index) != i || !bytes.Equal(pcr.Digest, booted[i][:]) {
			t.Errorf("PCR %d at %d is %x, want %x", pcr.Index, i, pcr.Digest, booted[i])
		}
	}
	if len(quote.Attest) > evidence.MaxAttest || len(quote.Signature) > evidence.MaxSignature {
		t.Errorf("attest of %d bytes and signature of %d are above the limits of the format", len(quote.Attest), len(quote.Signature))
	}
}

// A third opinion, from another code base.
func TestQuoteSatisfiesTPM2Tools(t *testing.T) {
	_, err := exec.LookPath("tpm2_checkquote")
	require.Need(t, "tpm", err)
	ak := createAK(t, open(t, startTPM(t, softtpm.Options{Blank: true}).Path()), "1")
	q := evidence.HeaderDigest([]byte("header"))
	quote, err := ak.Quote(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(ak.verify)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"ak": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), "msg": quote.Attest, "sig": quote.Signature,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(q evidence.Hash) ([]byte, error) {
		cmd := exec.Command("tpm2_checkquote", "-u", "ak", "-m", "msg", "-s", "sig", "-q", hex.EncodeToString(q[:]), "-g", "sha256")
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	if out, err := check(q); err != nil {
		t.Errorf("tpm2_checkquote: %v\n%s", err, out)
	}
	if _, err := check(evidence.Hash{1}); err == nil {
		t.Error("tpm2_checkquote takes any extraData: it proves nothing here")
	}
}

// tapLink does something in front of chosen commands.
type tapLink struct {
	link
	before func(tpm2.TPMCC)
}

func (l *tapLink) exchange(command []byte) ([]byte, error) {
	l.before(commandCode(command))
	return l.link.exchange(command)
}

// tapped opens chip with a tap that measures into PCR 10 when when says so, and
// counts commands.
func tapped(t *testing.T, chip *softtpm.TPM, when func(code tpm2.TPMCC, nth int) bool) (*AK, map[tpm2.TPMCC]int) {
	t.Helper()
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	count := make(map[tpm2.TPMCC]int)
	dev.bus.link = &tapLink{dev.bus.link, func(code tpm2.TPMCC) {
		count[code]++
		if when(code, count[code]) {
			if err := chip.Measure(10, sha256.Sum256([]byte{byte(count[code])})); err != nil {
				t.Error(err)
			}
		}
	}}
	return ak, count
}

func TestQuoteWhilePCR10Moves(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	q := evidence.Hash{7}
	for _, c := range []struct {
		name          string
		when          func(code tpm2.TPMCC, nth int) bool
		quotes, reads int
	}{
		{"not at all", func(tpm2.TPMCC, int) bool { return false }, 1, 2},
		{"between two readings", func(code tpm2.TPMCC, nth int) bool { return code == tpm2.TPMCCPCRRead && nth == 2 }, 1, 4},
		{"between reading and quote", func(code tpm2.TPMCC, nth int) bool { return code == tpm2.TPMCCQuote && nth == 1 }, 1, 4},
		{"before quote and after", func(code tpm2.TPMCC, nth int) bool {
			return code == tpm2.TPMCCQuote && nth == 1 || code == tpm2.TPMCCPCRRead && nth == 3
		}, 2, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			ak, count := tapped(t, chip, c.when)
			quote, err := ak.Quote(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			agree(t, ak, quote, q)
			if count[tpm2.TPMCCQuote] != c.quotes || count[tpm2.TPMCCPCRRead] != c.reads {
				t.Errorf("%d quotes and %d readings, want %d and %d",
					count[tpm2.TPMCCQuote], count[tpm2.TPMCCPCRRead], c.quotes, c.reads)
			}
		})
	}
	for name, when := range map[string]func(tpm2.TPMCC, int) bool{
		"always": func(code tpm2.TPMCC, _ int) bool { return code == tpm2.TPMCCPCRRead },
		"at each first reading and each quote": func(code tpm2.TPMCC, nth int) bool {
			return code == tpm2.TPMCCQuote || code == tpm2.TPMCCPCRRead && nth%2 == 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			ak, count := tapped(t, chip, when)
			quote, err := ak.Quote(t.Context(), q)
			if !errors.Is(err, ErrMoving) || quote.Attest != nil || quote.PCRs != nil {
				t.Fatalf("%+v, %v", quote, err)
			}
			if count[tpm2.TPMCCQuote] > pcrAttempts {
				t.Errorf("%d quotes, at most %d", count[tpm2.TPMCCQuote], pcrAttempts)
			}
		})
	}
}

func TestQuotesWhileIMAMeasures(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	ak := createAK(t, open(t, chip.Path()), "1")
	ctx, cancel := context.WithCancel(t.Context())
	var kernel sync.WaitGroup
	kernel.Go(func() {
		for i := byte(0); ctx.Err() == nil; i++ {
			if err := chip.Measure(10, sha256.Sum256([]byte{i})); err != nil {
				t.Error(err)
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	seen := make(map[string]bool)
	for i := range 100 {
		q := evidence.Hash{byte(i)}
		quote, err := ak.Quote(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, ak, quote, q)
		seen[string(quote.PCRs[10].Digest)] = true
	}
	cancel()
	kernel.Wait()
	if len(seen) < 5 {
		t.Errorf("PCR 10 had %d values in 100 quotes: nothing was tried", len(seen))
	}
}

func TestTPMGoneInTheMiddleOfAQuote(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	dev.bus.link = &tapLink{dev.bus.link, func(code tpm2.TPMCC) {
		if code == tpm2.TPMCCQuote {
			time.AfterFunc(50*time.Millisecond, func() { chip.Kill() })
			chip.SetDelay(200*time.Millisecond, 0)
		}
	}}
	quote, err := ak.Quote(t.Context(), evidence.Hash{1})
	if !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	if quote.Attest != nil || quote.Signature != nil || quote.PCRs != nil {
		t.Fatalf("part of a quote: %+v", quote)
	}
	if _, err := ak.Quote(t.Context(), evidence.Hash{1}); !errors.Is(err, ErrGone) {
		t.Fatalf("a second time: %v", err)
	}
	// The same host goes on with the same key once the TPM is back.
	if err := chip.Reset(); err != nil {
		t.Fatal(err)
	}
	chip.SetDelay(0, 0)
	again := createAK(t, open(t, chip.Path()), "1")
	if quote, err = again.Quote(t.Context(), evidence.Hash{1}); err != nil {
		t.Fatal(err)
	}
	agree(t, ak, quote, evidence.Hash{1})
}

func TestChecksWhatTheTPMSigned(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	q := evidence.Hash{1}
	quote, err := ak.Quote(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ak.checkAttest(quote.Attest, q); err != nil {
		t.Fatal(err)
	}
	creation, err := ak.CertifyCreation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := createAK(t, dev, "2")
	theirs, err := other.Quote(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(*tpm2.TPMSAttest)) []byte {
		a, err := tpm2.Unmarshal[tpm2.TPMSAttest](quote.Attest)
		if err != nil {
			t.Fatal(err)
		}
		change(a)
		return tpm2.Marshal(*a)
	}
	info := func(pcrs []uint8, digest []byte) tpm2.TPMUAttest {
		return tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: selection(pcrs), PCRDigest: tpm2.TPM2BDigest{Buffer: digest}})
	}
	for says, attest := range map[string][]byte{
		"unmarshalling": nil,
		"ran out":       quote.Attest[:len(quote.Attest)-1],
		"not canonical": append(bytes.Clone(quote.Attest), 0),
		"0xff544347":    edit(func(a *tpm2.TPMSAttest) { a.Magic = 1 }),
		"want 0x8018":   creation.Attest,
		"extraData 00":  edit(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) }),
		"extraData ,":   edit(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = nil }),
		"signer":        theirs.Attest,
		"other PCRs":    edit(func(a *tpm2.TPMSAttest) { a.Attested = info(quoted[:15], make([]byte, 32)) }),
		"20 bytes":      edit(func(a *tpm2.TPMSAttest) { a.Attested = info(quoted, make([]byte, 20)) }),
	} {
		if _, err := ak.checkAttest(attest, q); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want it to say %q", err, says)
		}
	}

	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](quote.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if encoded, err := ak.checkSignature(quote.Attest, signature); err != nil || !bytes.Equal(encoded, quote.Signature) {
		t.Fatalf("%x, %v", encoded, err)
	}
	if _, err := ak.checkSignature(creation.Attest, signature); err == nil {
		t.Error("signature over something else: taken")
	}
	if _, err := other.checkSignature(quote.Attest, signature); err == nil {
		t.Error("signature by another key: taken")
	}
	ecdsaSig, err := signature.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	ecdsaSig.Hash = tpm2.TPMAlgSHA1
	if _, err := ak.checkSignature(quote.Attest, signature); err == nil {
		t.Error("signature that claims SHA-1: taken")
	}
	if _, err := ak.checkSignature(quote.Attest, &tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgNull}); err == nil || !strings.Contains(err.Error(), "want ECDSA") {
		t.Errorf("no signature: %v", err)
	}
	if ak.verify.Equal(other.verify) || !ak.verify.Equal(ak.verify) {
		t.Error("keys of two rotations are the same")
	}
}

func BenchmarkQuote(b *testing.B) {
	for name, path := range map[string]func(*softtpm.TPM) string{
		"swtpm": (*softtpm.TPM).RawPath, "relay": (*softtpm.TPM).Path,
	} {
		b.Run(name, func(b *testing.B) {
			chip := startTPM(b, softtpm.Options{Blank: true, Firmware: true})
			ak := createAK(b, open(b, path(chip)), "1")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ak.Quote(b.Context(), evidence.Hash{1}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "quotes/s")
		})
	}
}
