// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goattest "github.com/google/go-attestation/attest"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// recorded are the quotes of machines, by name, with a PEM key.
func recorded(t *testing.T) map[string]QuoteFiles {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(corpus(t, "vm"), "*", "quote.msg"))
	if err != nil || len(dirs) < 3 {
		t.Fatalf("%d machines, %v", len(dirs), err)
	}
	out := make(map[string]QuoteFiles)
	for _, msg := range dirs {
		dir := filepath.Dir(msg)
		out[filepath.Base(dir)] = QuoteFiles{
			Key: read(t, dir, "ak.pub.pem"), Attest: read(t, msg), Signature: read(t, dir, "quote.sig"), Nonce: read(t, dir, "nonce.bin"), PCRs: read(t, dir, "quote.pcrs"),
		}
	}
	return out
}

// TestRecordedQuotes: good with their nonce, with no other.
func TestRecordedQuotes(t *testing.T) {
	for machine, files := range recorded(t) {
		area := read(t, corpus(t, "vm"), machine, "ak.pub.tpmt")
		for form, key := range map[string][]byte{"PEM": files.Key, "TPM2B": area, "TPMT": area[2:]} {
			files.Key = key
			got := CheckQuoteFiles(files)
			if !got.OK || got.Key.Kind != "ECDSA P-256" || got.Key.Restricted != (form != "PEM") || len(got.Facts.Banks) != 1 || len(got.Facts.Banks[0].Values) != 15 {
				t.Errorf("%s, %s: %s, key %+v", machine, form, codesOf(got), got.Key)
			}
			if form != "PEM" && !bytes.Equal(got.Key.Name, read(t, corpus(t, "vm"), machine, "ak.name")) {
				t.Errorf("%s: name %x", machine, got.Key.Name)
			}
		}
		files.Nonce = bytes.Repeat([]byte{1}, 32)
		if got := CheckQuoteFiles(files); codesOf(got) != "E_EXTRADATA" || got.OK {
			t.Errorf("%s, another nonce: %s", machine, codesOf(got))
		}
	}
}

// TestToolsAgree: what tpm2_checkquote says of the recorded quotes and of broken
// ones. It looks at fewer things: its no has to be a no here.
func TestToolsAgree(t *testing.T) {
	_, err := exec.LookPath("tpm2_checkquote")
	require.Need(t, "tpm", err)
	agree, refused := 0, 0
	for machine, files := range recorded(t) {
		for i := range 24 {
			broken := QuoteFiles{files.Key, bytes.Clone(files.Attest), bytes.Clone(files.Signature), bytes.Clone(files.Nonce), bytes.Clone(files.PCRs)}
			switch part := [][]byte{broken.Attest, broken.Signature, broken.Nonce, broken.PCRs[:600]}; {
			case i > 0:
				b := part[i%4]
				b[(i*37)%len(b)] ^= 1 << (i % 8)
			}
			tools, ours := toolsAccept(t, broken), CheckQuoteFiles(broken)
			if ours.OK && !tools {
				t.Errorf("%s, change %d: accepted, and tpm2_checkquote refuses", machine, i)
			}
			if i == 0 && !(ours.OK && tools) {
				t.Errorf("%s: %s, tpm2_checkquote accepts: %v", machine, codesOf(ours), tools)
			}
			if tools == ours.OK {
				agree++
			}
			if !tools {
				refused++
			}
		}
	}
	if refused < 20 {
		t.Errorf("tpm2_checkquote refused %d: it was not asked about enough", refused)
	}
	t.Logf("same answer %d times of 72, %d times no", agree, refused)
}

func toolsAccept(t *testing.T, q QuoteFiles) bool {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ak": q.Key, "msg": q.Attest, "sig": q.Signature, "pcrs": q.PCRs} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("tpm2_checkquote", "-u", "ak", "-m", "msg", "-s", "sig", "-f", "pcrs", "-q", hex.EncodeToString(q.Nonce), "-g", "sha256")
	cmd.Dir = dir
	return cmd.Run() == nil
}

// TestRustKeylimeQuote: SHA-1 everywhere, over PCR 16 alone. It comes without
// its key.
func TestRustKeylimeQuote(t *testing.T) {
	text := strings.TrimSpace(string(read(t, corpus(t, "quotes"), "rust-keylime-test-quote.txt")))
	var parts [3][]byte
	for i, part := range strings.SplitN(strings.TrimPrefix(text, "r"), ":", 3) {
		var err error
		if parts[i], err = base64.StdEncoding.DecodeString(part); err != nil {
			t.Fatal(err)
		}
	}
	a := newAttester(t, tpmAlgRSASSA, tpmAlgSHA256, nil)
	got := CheckQuoteFiles(QuoteFiles{Key: a.pem(t), Attest: parts[0], Signature: parts[1], Nonce: []byte("TEST"), PCRs: parts[2]})
	if codesOf(got) != "E_SIG_ALG E_PCR_BANK E_PCR_SELECTION" || got.Failed[2].Observed != "PCRs 16" {
		t.Errorf("%s: %v", codesOf(got), got.Failed)
	}
	if findings := findingsOf(got); !strings.Contains(findings, "sha1-bank") || !strings.Contains(findings, "resettable-pcr") {
		t.Errorf("findings %q", findings)
	}
	// Its values are those of its digest, which is by SHA-1.
	read, rejection := parseAttest(parts[0])
	if rejection != nil || checkValues(&read, parts[2], crypto.SHA1, read.facts()) != nil {
		t.Errorf("%v, %v", rejection, checkValues(&read, parts[2], crypto.SHA1, read.facts()))
	}
}

// message is a protocol buffer with a number of fields, the last of each kept.
type message map[uint64][][]byte

// protobuf takes a message apart: varints as 8 bytes, big-endian.
func protobuf(t *testing.T, data []byte) message {
	t.Helper()
	out := message{}
	varint := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			t.Fatal("no varint")
		}
		data = data[n:]
		return v
	}
	for len(data) > 0 {
		tag := varint()
		switch tag & 7 {
		case 0:
			out[tag>>3] = append(out[tag>>3], binary.BigEndian.AppendUint64(nil, varint()))
		case 2:
			n := varint()
			if n > uint64(len(data)) {
				t.Fatal("truncated")
			}
			out[tag>>3] = append(out[tag>>3], data[:n])
			data = data[n:]
		default:
			t.Fatalf("wire type %d", tag&7)
		}
	}
	return out
}

// gceQuotes reads an attest.Attestation of go-tpm-tools: 1 is the key, 2 are the
// quotes (1 attest, 2 signature, 3 PCRs: 1 hash, 2 map of index to value).
func gceQuotes(t *testing.T) map[uint64]QuoteFiles {
	t.Helper()
	attestation := protobuf(t, read(t, corpus(t, "quotes"), "gce-cos-85-nonce9009.pb"))
	out := make(map[uint64]QuoteFiles)
	for _, raw := range attestation[2] {
		quote := protobuf(t, raw)
		pcrs := protobuf(t, quote[3][0])
		var values [24][]byte
		for _, raw := range pcrs[2] {
			entry, index := protobuf(t, raw), uint64(0)
			if entry[1] != nil { // PCR 0 is the default
				index = binary.BigEndian.Uint64(entry[1][0])
			}
			values[index] = entry[2][0]
		}
		out[binary.BigEndian.Uint64(pcrs[1][0])] = QuoteFiles{
			Key: attestation[1][0], Attest: quote[1][0], Signature: quote[2][0], Nonce: []byte{0x90, 0x09}, PCRs: bytes.Join(values[:], nil),
		}
	}
	return out
}

// TestGCEQuote: the quotes of a Google machine, one for each bank.
func TestGCEQuote(t *testing.T) {
	quotes := gceQuotes(t)
	for alg, files := range quotes {
		want := ""
		if alg == uint64(tpmAlgSHA1) {
			want = "E_PCR_BANK"
		}
		got := CheckQuoteFiles(files)
		if codesOf(got) != want || got.OK != (want == "") {
			t.Errorf("bank %04x: %s, want %q: %v", alg, codesOf(got), want, got.Failed)
		}
		t.Logf("bank %04x: %s, %s", alg, got.Key.Kind, findingsOf(got))
		if !strings.Contains(findingsOf(got), "resettable-pcr") || len(got.Facts.Banks[0].Values) != 24 {
			t.Errorf("bank %04x: %q, %d values", alg, findingsOf(got), len(got.Facts.Banks[0].Values))
		}
		for _, nonce := range [][]byte{{0x90, 0x08}, {0x90}, {0x90, 9, 0}, nil} {
			files.Nonce = nonce
			if got := CheckQuoteFiles(files); got.OK || !strings.Contains(codesOf(got), "E_EXTRADATA") {
				t.Errorf("bank %04x, nonce %x: %s", alg, nonce, codesOf(got))
			}
		}
	}
	if _, ok := quotes[uint64(tpmAlgSHA256)]; !ok || len(quotes) < 2 {
		t.Errorf("%d quotes", len(quotes))
	}
}

// TestGoAttestationAgrees: its opinion of the Google machine's quotes, and of
// the recorded ones, good and broken.
func TestGoAttestationAgrees(t *testing.T) {
	all := []QuoteFiles{}
	for alg, files := range gceQuotes(t) {
		if alg == uint64(tpmAlgSHA256) {
			all = append(all, files)
		}
	}
	for machine, files := range recorded(t) {
		files.Key = read(t, corpus(t, "vm"), machine, "ak.pub.tpmt")[2:]
		all = append(all, files)
	}
	for n, files := range all {
		values := CheckQuoteFiles(files).Facts.Banks[0].Values
		for i := range 20 {
			broken := files
			if i > 0 {
				broken.Attest = bytes.Clone(files.Attest)
				broken.Attest[(i*29)%len(files.Attest)] ^= 1
			}
			ours, theirs := CheckQuoteFiles(broken), goAttestation(broken, values)
			if ours.OK != (theirs == nil) {
				t.Errorf("quote %d, change %d: %s, go-attestation: %v", n, i, codesOf(ours), theirs)
			}
		}
	}
}

func goAttestation(q QuoteFiles, values []evidence.PCR) error {
	ak, err := goattest.ParseAKPublic(q.Key)
	if err != nil {
		return err
	}
	var pcrs []goattest.PCR
	for _, v := range values {
		pcrs = append(pcrs, goattest.PCR{Index: int(v.Index), Digest: v.Digest, DigestAlg: crypto.SHA256})
	}
	return ak.Verify(goattest.Quote{Quote: q.Attest, Signature: q.Signature}, pcrs, q.Nonce)
}

// TestRecordedKeysAreTheSame: the two files of a machine's key.
func TestRecordedKeysAreTheSame(t *testing.T) {
	for machine, files := range recorded(t) {
		bare, r1 := parseQuoteKey(files.Key)
		area, r2 := parseQuoteKey(read(t, corpus(t, "vm"), machine, "ak.pub.tpmt"))
		if r1 != nil || r2 != nil || !bare.ecdsa.Equal(area.ecdsa) {
			t.Errorf("%s: %v, %v", machine, r1, r2)
		}
		if block, _ := pem.Decode(files.Key); block == nil {
			t.Errorf("%s: no PEM", machine)
		}
	}
}
