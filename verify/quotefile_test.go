// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"

	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

// attester makes quotes with a key in software, and can get everything wrong.
type attester struct {
	rsa     *rsa.PrivateKey
	ecdsa   *ecdsa.PrivateKey
	alg     uint16 // of signatures
	hash    uint16
	nameAlg uint16
	attrs   uint32
	scheme  uint16 // in the public area; alg if 0
}

func newAttester(t testing.TB, alg, hash uint16, curve elliptic.Curve) *attester {
	t.Helper()
	a := &attester{alg: alg, hash: hash, nameAlg: tpmAlgSHA256, attrs: attrsRequired | attrUserWithAuth}
	var err error
	if curve != nil {
		a.ecdsa, err = ecdsa.GenerateKey(curve, rand.Reader)
	} else {
		a.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *attester) public() crypto.PublicKey {
	if a.rsa != nil {
		return a.rsa.Public()
	}
	return a.ecdsa.Public()
}

func (a *attester) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(a.public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// area is the TPMT_PUBLIC of the key.
func (a *attester) area() []byte {
	be := binary.BigEndian
	typ := tpmAlgRSA
	if a.ecdsa != nil {
		typ = tpmAlgECC
	}
	scheme := a.scheme
	if scheme == 0 {
		scheme = a.alg
	}
	out := be.AppendUint32(be.AppendUint16(be.AppendUint16(nil, typ), a.nameAlg), a.attrs)
	out = be.AppendUint16(be.AppendUint16(appendSized(out, nil), tpmAlgNull), scheme)
	out = be.AppendUint16(out, a.hash)
	if a.rsa != nil {
		out = be.AppendUint32(be.AppendUint16(out, uint16(a.rsa.N.BitLen())), 0)
		return appendSized(out, a.rsa.N.Bytes())
	}
	curve := map[elliptic.Curve]uint16{elliptic.P256(): tpmP256, elliptic.P384(): tpmP384, elliptic.P521(): 5}[a.ecdsa.Curve]
	out = be.AppendUint16(be.AppendUint16(out, curve), tpmAlgNull)
	point, err := a.ecdsa.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	n := len(point) / 2
	return appendSized(appendSized(out, point[1:1+n]), point[1+n:])
}

func (a *attester) sign(t testing.TB, attest []byte) []byte {
	t.Helper()
	hash, _ := tpmHash(a.hash)
	h := hash.New()
	h.Write(attest)
	digest := h.Sum(nil)
	out := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, a.alg), a.hash)
	switch a.alg {
	case tpmAlgRSASSA, tpmAlgRSAPSS:
		sig, err := rsa.SignPKCS1v15(nil, a.rsa, hash, digest)
		if a.alg == tpmAlgRSAPSS {
			sig, err = rsa.SignPSS(rand.Reader, a.rsa, hash, digest, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return appendSized(out, sig)
	}
	r, s, err := ecdsa.Sign(rand.Reader, a.ecdsa, digest)
	if err != nil {
		t.Fatal(err)
	}
	return appendSized(appendSized(out, r.Bytes()), s.Bytes())
}

// quoting is a quote before it is signed.
type quoting struct {
	attest
	values [][]byte
}

// newQuoted quotes the registers of a bank, each of which has its number in it.
func newQuoted(signer []byte, banks ...bank) *quoting {
	q := &quoting{}
	q.signer, q.extra, q.safe, q.clock, q.resetCount, q.firmware = signer, []byte("a nonce of 20 bytes."), true, 1234, 3, 7
	for i, b := range banks {
		q.banks[i] = b
		hash, _ := tpmHash(b.alg)
		selected, _ := b.selected()
		for index := range 32 {
			if selected&(1<<index) != 0 {
				q.values = append(q.values, bytes.Repeat([]byte{byte(index + 1)}, hash.Size()))
			}
		}
	}
	q.count = uint32(len(banks))
	return q
}

func (q *quoting) files(t testing.TB, a *attester, key []byte) QuoteFiles {
	t.Helper()
	hash, _ := tpmHash(a.hash)
	h := hash.New()
	h.Write(slices.Concat(q.values...))
	if q.digest == nil {
		q.digest = h.Sum(nil)
	}
	attest := q.append(nil)
	return QuoteFiles{Key: key, Attest: attest, Signature: a.sign(t, attest), Nonce: bytes.Clone(q.extra), PCRs: q.serialized()}
}

// serialized writes the values as tpm2_quote -o does.
func (q *quoting) serialized() []byte {
	le := binary.LittleEndian
	out := make([]byte, fileSelection+4)
	le.PutUint32(out, q.count)
	for i := range q.count {
		entry := out[4+8*i:]
		le.PutUint16(entry, q.banks[i].alg)
		entry[2] = byte(len(q.banks[i].bitmap))
		copy(entry[3:7], q.banks[i].bitmap)
	}
	for values := range slices.Chunk(q.values, 8) {
		list := make([]byte, fileList)
		le.PutUint32(list, uint32(len(values)))
		for i, v := range values {
			le.PutUint16(list[4+i*fileDigest:], uint16(len(v)))
			copy(list[4+i*fileDigest+2:], v)
		}
		out = append(out, list...)
		le.PutUint32(out[fileSelection:], le.Uint32(out[fileSelection:])+1)
	}
	return out
}

// pcrs is a bank with these registers.
func pcrs(alg uint16, indexes ...int) bank {
	b := bank{alg, make([]byte, 3)}
	for _, i := range indexes {
		b.bitmap[i/8] |= 1 << (i % 8)
	}
	return b
}

func codesOf(c QuoteCheck) string {
	var out []string
	for _, r := range c.Failed {
		out = append(out, string(r.Code))
	}
	return strings.Join(out, " ")
}

func findingsOf(c QuoteCheck) string {
	var out []string
	for _, f := range c.Findings {
		out = append(out, f.Code)
	}
	return strings.Join(out, " ")
}

// TestQuoteFileKinds: every kind of key and hash that is good, in every form of
// a key and of values.
func TestQuoteFileKinds(t *testing.T) {
	for what, a := range map[string]*attester{
		"P-256": newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P256()), "P-384": newAttester(t, tpmAlgECDSA, tpmAlgSHA384, elliptic.P384()),
		"P-256 with SHA-512": newAttester(t, tpmAlgECDSA, tpmAlgSHA512, elliptic.P256()), "RSASSA": newAttester(t, tpmAlgRSASSA, tpmAlgSHA256, nil),
		"RSAPSS": newAttester(t, tpmAlgRSAPSS, tpmAlgSHA384, nil),
	} {
		area := a.area()
		der, _ := pem.Decode(a.pem(t))
		for form, key := range map[string][]byte{"PEM": a.pem(t), "DER": der.Bytes, "TPMT": area, "TPM2B": appendSized(nil, area)} {
			bare := form == "PEM" || form == "DER"
			signer := nameOf(tpmAlgSHA256, append([]byte{0x40, 0, 0, 0x0b}, nameOf(tpmAlgSHA256, area)...))
			q := newQuoted(signer, pcrs(tpmAlgSHA256, 0, 1, 2, 7, 9, 10, 11, 12, 13, 14), pcrs(tpmAlgSHA384, 4))
			files := q.files(t, a, key)
			got := CheckQuoteFiles(files)
			want := map[bool]string{true: "key-unproved several-banks", false: "several-banks"}[bare]
			if !got.OK || findingsOf(got) != want || got.Key.Restricted == bare || (got.Key.Name == nil) != bare {
				t.Errorf("%s, %s: %s; findings %q, key %+v", what, form, codesOf(got), findingsOf(got), got.Key)
			}
			if f := got.Facts; len(f.Banks) != 2 || len(f.Banks[0].Values) != 10 || f.Banks[0].Values[9].Index != 14 || f.Banks[1].Algorithm != "sha384" ||
				len(f.Banks[1].Values[0].Digest) != 48 || f.Clock != 1234 || f.ResetCount != 3 || f.Firmware != 7 || !f.Safe {
				t.Errorf("%s, %s: facts %+v", what, form, f)
			}
			files.PCRs = slices.Concat(q.values...) // the form "values"
			if got := CheckQuoteFiles(files); !got.OK || len(got.Facts.Banks[1].Values) != 1 {
				t.Errorf("%s, %s, values: %s", what, form, codesOf(got))
			}
			files.PCRs = nil
			if got := CheckQuoteFiles(files); !got.OK || findingsOf(got) != want+" no-values" || got.Facts.Banks[0].Values != nil {
				t.Errorf("%s, %s, no values: %s, findings %q", what, form, codesOf(got), findingsOf(got))
			}
		}
	}
}

// TestQuoteFileFindings: what is said beside a yes.
func TestQuoteFileFindings(t *testing.T) {
	a := newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P256())
	q := newQuoted(nameOf(tpmAlgSHA256, nil), pcrs(tpmAlgSHA1, 0), pcrs(tpmAlgSHA256, 7, 16, 23))
	q.extra, q.safe = []byte{0x90, 0x09}, false
	got := CheckQuoteFiles(q.files(t, a, a.area()))
	if want := "counts-obscured several-banks sha1-bank resettable-pcr clock-unsafe short-nonce"; !got.OK || findingsOf(got) != want {
		t.Errorf("%s; findings %q, want %q", codesOf(got), findingsOf(got), want)
	}
	if (QuoteCheck{}).OK {
		t.Error("the zero value accepts")
	}
}

// FuzzQuoteFiles: no file makes it panic, and without the key nothing is good
// but what the key signed.
func FuzzQuoteFiles(f *testing.F) {
	a := newAttester(f, tpmAlgECDSA, tpmAlgSHA256, elliptic.P256())
	q := newQuoted(nameOf(tpmAlgSHA256, nil), pcrs(tpmAlgSHA256, 0, 7, 16))
	good := q.files(f, a, a.pem(f))
	f.Add(good.Key, good.Attest, good.Signature, good.Nonce, good.PCRs)
	f.Add(a.area(), good.Attest, good.Signature, good.Nonce, slices.Concat(q.values...))
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, attest, signature, nonce, values []byte) {
		got := CheckQuoteFiles(QuoteFiles{key, attest, signature, nonce, values})
		if got.OK != (len(got.Failed) == 0) {
			t.Fatal("contradicts itself")
		}
		got = CheckQuoteFiles(QuoteFiles{good.Key, attest, signature, nonce, values})
		if got.OK && !bytes.Equal(attest, good.Attest) {
			t.Fatalf("accepts what the key did not sign: %x", attest)
		}
	})
}

// FuzzPCRFile: no file makes the parser panic or give what is not in the file,
// and what it takes is read back.
func FuzzPCRFile(f *testing.F) {
	f.Add(newQuoted(nil, pcrs(tpmAlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7, 10, 14), pcrs(tpmAlgSHA512, 23)).serialized())
	f.Add(newQuoted(nil, pcrs(tpmAlgSHA1, 16)).serialized())
	f.Add(make([]byte, fileSelection+4))
	for _, at := range []int{0, 6, fileSelection, fileSelection + 4, fileSelection + 4 + 4 + 7*fileDigest} { // counts and sizes that are too large
		wrong := newQuoted(nil, pcrs(tpmAlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7)).serialized()
		wrong[at] = 65
		f.Add(wrong)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, ok := parsePCRFile(data)
		if !ok {
			return
		}
		if len(file.banks) > fileBanks || len(file.values) > maxFileLists*fileListLength {
			t.Fatalf("%d banks, %d values", len(file.banks), len(file.values))
		}
		for _, v := range file.values {
			if len(v) > 64 || !bytes.Contains(data, v) {
				t.Fatalf("value of %d bytes", len(v))
			}
		}
	})
}
