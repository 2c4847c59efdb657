// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/internal/require"
)

// quoteNonce is that of the sample quote.
const quoteNonce = "6f1c2a9b6f1c2a9b6f1c2a9b6f1c2a9b"

// sampleQuote writes a quote over PCR 0, 7 and 10, always the same.
func sampleQuote(t *testing.T, w *world) {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	area := fromHex(t, "0023000b00050072000000100018000b00030010"+"0020%x0020%x", point[1:33], point[33:])
	name := sha256.Sum256(area)
	signer := sha256.Sum256(fromHex(t, "4000000b000b%x", name[:]))
	var values []byte
	list := binary.LittleEndian.AppendUint32(nil, 3)
	for _, pcr := range []byte{0, 7, 10} {
		value := bytes.Repeat([]byte{pcr + 1}, 32)
		values = append(values, value...)
		list = append(append(append(list, 32, 0), value...), make([]byte, 32)...)
	}
	digest := sha256.Sum256(values)
	attest := fromHex(t, "ff5443478018"+"0022000b%x"+"0010%s"+"0000000000989680"+"00000003"+"00000001"+"01"+"2019102300163636"+"00000001000b03810400"+"0020%x",
		signer[:], quoteNonce, digest[:])
	signed := sha256.Sum256(attest)
	der, err := key.Sign(nil, signed[:], crypto.SHA256) // no randomness: RFC 6979
	if err != nil {
		t.Fatal(err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		t.Fatal(err)
	}
	selection := append([]byte{1, 0, 0, 0, 0x0b, 0, 3, 0x81, 0x04, 0}, make([]byte, 122)...)
	write(t, w.path("ak.tpmt"), area)
	write(t, w.path("ak.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	write(t, w.path("msg"), attest)
	write(t, w.path("sig"), fromHex(t, "0018000b0020%x0020%x", sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))))
	write(t, w.path("pcrs"), append(append(selection, 1, 0, 0, 0), append(list, make([]byte, 532-len(list))...)...))
}

func fromHex(t *testing.T, format string, args ...any) []byte {
	t.Helper()
	b, err := hex.DecodeString(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestQuoteRefused: what is said, to people and to scripts, of a quote with
// nothing right, and exit code 1 with the object of the command.
func TestQuoteRefused(t *testing.T) {
	var b strings.Builder
	for _, form := range [][]string{nil, {"--json"}} {
		w := newWorld(t)
		sampleQuote(t, w)
		sig, err := os.ReadFile(w.path("sig"))
		if err != nil {
			t.Fatal(err)
		}
		sig[20] ^= 1
		w.stdin = string(sig)
		args := strings.Fields("quote check --ak " + w.path("ak.tpmt") + " --msg " + w.path("msg") + " --sig - --nonce 00 --pcrs " + w.path("msg"))
		code, out, errs := w.run(append(form, args...)...)
		fmt.Fprintf(&b, "$ jurat %s\n%s%sexit %d\n\n", strings.Join(append(form, "quote check"), " "), out, errs, code)
	}
	golden(t, "quote-check-refused", b.String())
}

// TestQuoteUsage: command lines that say too little or too much.
func TestQuoteUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--msg m --sig s --nonce 00":                "--ak is missing",
		"--ak a --sig s --nonce 00":                 "--msg is missing",
		"--ak a --msg m --nonce 00":                 "--sig is missing",
		"--ak a --msg m --sig s --nonce xy":         "hexadecimal",
		"--ak a --msg m --sig s --nonce 0x":         "hexadecimal",
		"--ak - --msg - --sig s --nonce 00":         "more than one file is -",
		"--ak a --msg m --sig s --nonce 00 --pcrs ": "no such file",
	} {
		code, _, errs := newWorld(t).run(append([]string{"quote", "check"}, strings.Split(args, " ")...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s; want %q", args, code, errs, want)
		}
	}
}

// TestQuoteCorpus: recorded quotes through the real command.
func TestQuoteCorpus(t *testing.T) {
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	machines, err := filepath.Glob(filepath.Join(root, "vm", "*", "quote.msg"))
	if err == nil && len(machines) == 0 {
		err = fmt.Errorf("no machines in %s", root)
	}
	require.Need(t, "corpus", err)
	for _, msg := range machines {
		dir := filepath.Dir(msg)
		nonce, err := os.ReadFile(filepath.Join(dir, "nonce.bin"))
		if err != nil {
			t.Fatal(err)
		}
		for nonce, want := range map[string]int{hex.EncodeToString(nonce): exitYes, strings.Repeat("00", 32): exitNo} {
			code, out, errs := newWorld(t).run("quote", "check", "--ak", filepath.Join(dir, "ak.pub.tpmt"), "--msg", msg,
				"--sig", filepath.Join(dir, "quote.sig"), "--pcrs", filepath.Join(dir, "quote.pcrs"), "--nonce", nonce, "--json")
			var r quoteCheckJSON
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != want || r.OK != (code == 0) || (r.Code == "E_EXTRADATA") == r.OK {
				t.Errorf("%s, nonce %s: exit %d, %v, code %q\n%s", dir, nonce, code, err, r.Code, errs)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	for want, list := range map[string][]uint32{"none": nil, "0": {0}, "0-2, 7, 10-11": {0, 1, 2, 7, 10, 11}} {
		if got := ranges(list); got != want {
			t.Errorf("%v is shown as %q, want %q", list, got, want)
		}
	}
}
