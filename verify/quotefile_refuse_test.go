// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"slices"
	"testing"
)

// refusals are quotes that are wrong in one way each, and what is said of them.
type refusals map[string]struct {
	files QuoteFiles
	want  string
}

func (r refusals) check(t *testing.T) {
	t.Helper()
	for what, c := range r {
		if got := CheckQuoteFiles(c.files); codesOf(got) != c.want || got.OK {
			t.Errorf("%s: %q, ok %v; want %q", what, codesOf(got), got.OK, c.want)
		}
	}
}

// bench is what the refused quotes are made with.
type bench struct {
	t             *testing.T
	ec, rs, other *attester
}

func newBench(t *testing.T) *bench {
	b := &bench{
		t: t, ec: newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P256()), rs: newAttester(t, tpmAlgRSASSA, tpmAlgSHA256, nil),
		other: newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P256()),
	}
	if !CheckQuoteFiles(b.made(b.ec, nothing)).OK || !CheckQuoteFiles(b.area(b.ec)).OK || !CheckQuoteFiles(b.area(b.rs)).OK {
		t.Fatal("the quote that is changed is not good itself")
	}
	return b
}

func plain() *quoting { return newQuoted(nameOf(tpmAlgSHA256, []byte("x")), pcrs(tpmAlgSHA256, 0, 7)) }

func nothing(*quoting) {}

// made is a quote that was changed before it was signed, with a PEM key.
func (b *bench) made(a *attester, change func(q *quoting)) QuoteFiles {
	q := plain()
	change(q)
	return q.files(b.t, a, a.pem(b.t))
}

// changed is a quote whose files were changed.
func (b *bench) changed(change func(f *QuoteFiles)) QuoteFiles {
	f := b.made(b.ec, nothing)
	change(&f)
	return f
}

func (b *bench) keyed(key []byte) QuoteFiles { return b.changed(func(f *QuoteFiles) { f.Key = key }) }

// area is a quote with the TPM's public area of the key.
func (b *bench) area(a *attester) QuoteFiles { return plain().files(b.t, a, a.area()) }

func (b *bench) selecting(banks ...bank) QuoteFiles {
	return newQuoted(nameOf(tpmAlgSHA256, nil), banks...).files(b.t, b.ec, b.ec.pem(b.t))
}

func with(a attester, change func(a *attester)) *attester {
	change(&a)
	return &a
}

func byHash(a *attester, hash uint16) *attester { return with(*a, func(a *attester) { a.hash = hash }) }

// TestQuoteFileForm: what is not one quote, signed by this key for this nonce.
func TestQuoteFileForm(t *testing.T) {
	b := newBench(t)
	refusals{
		"nothing":               {QuoteFiles{}, "E_AK_FORM E_ATTEST_SIZE"},
		"magic":                 {b.changed(func(f *QuoteFiles) { f.Attest = resigned(t, b.ec, f, 0, 0xfe) }), "E_MAGIC"},
		"certification":         {b.changed(func(f *QuoteFiles) { f.Attest = resigned(t, b.ec, f, 5, 0x17) }), "E_TYPE"},
		"trailing byte":         {b.changed(func(f *QuoteFiles) { f.Attest = append(f.Attest, 0); f.Signature = b.ec.sign(t, f.Attest) }), "E_ATTEST_FORM"},
		"truncated":             {b.changed(func(f *QuoteFiles) { f.Attest = f.Attest[:len(f.Attest)-1] }), "E_ATTEST_FORM"},
		"large":                 {b.changed(func(f *QuoteFiles) { f.Attest = make([]byte, 1025) }), "E_ATTEST_SIZE"},
		"by another key":        {b.keyed(b.other.pem(t)), "E_SIGNATURE"},
		"by an RSA key":         {b.keyed(b.rs.pem(t)), "E_SIG_ALG"},
		"changed after signing": {b.changed(func(f *QuoteFiles) { f.Attest[70] ^= 1 }), "E_SIGNATURE"},
		"SHA-1 signature":       {b.made(byHash(b.rs, tpmAlgSHA1), nothing), "E_SIG_ALG"},
		"SHA-1 by ECDSA":        {b.made(byHash(b.ec, tpmAlgSHA1), nothing), "E_SIG_ALG"},
		"no signature":          {b.changed(func(f *QuoteFiles) { f.Signature = nil }), "E_SIG_ALG"},
		"behind the signature":  {b.changed(func(f *QuoteFiles) { f.Signature = append(f.Signature, 0) }), "E_SIG_FORM"},
		"zero signature":        {b.changed(func(f *QuoteFiles) { f.Signature = []byte{0, 0x18, 0, 0x0b, 0, 1, 0, 0, 1, 0} }), "E_SIGNATURE"},
		"long number":           {b.changed(func(f *QuoteFiles) { f.Signature = padded(f.Signature) }), "E_SIG_FORM"},
		"short RSA signature":   {QuoteFiles{b.rs.pem(t), plain().append(nil), []byte{0, 0x14, 0, 0x0b, 0, 1, 0}, plain().extra, nil}, "E_SIG_FORM"},
		"another nonce":         {b.changed(func(f *QuoteFiles) { f.Nonce[0] ^= 1 }), "E_EXTRADATA"},
		"shorter nonce":         {b.changed(func(f *QuoteFiles) { f.Nonce = f.Nonce[:19] }), "E_EXTRADATA"},
		"longer nonce":          {b.changed(func(f *QuoteFiles) { f.Nonce = append(f.Nonce, 0) }), "E_EXTRADATA"},
		"no nonce":              {b.made(b.ec, func(q *quoting) { q.extra = nil }), "E_EXTRADATA"},
		"nonce of 65 bytes":     {b.made(b.ec, func(q *quoting) { q.extra = make([]byte, 65) }), "E_EXTRADATA"},
		"no signer":             {b.made(b.ec, func(q *quoting) { q.signer = nil }), "E_SIGNER"},
		"signer is a handle":    {b.made(b.ec, func(q *quoting) { q.signer = []byte{0x40, 0, 0, 7} }), "E_SIGNER"},
		"signer by SHA-384":     {func() QuoteFiles { f := b.area(b.ec); return signedAs(t, b.ec, f.Key, nameOf(tpmAlgSHA384, nil)) }(), "E_SIGNER"},
	}.check(t)
}

// TestQuoteFileSelection: registers that prove nothing about a boot.
func TestQuoteFileSelection(t *testing.T) {
	b := newBench(t)
	refusals{
		"no bank":                {b.selecting(), "E_PCR_SELECTION"},
		"no PCR":                 {b.selecting(pcrs(tpmAlgSHA256)), "E_PCR_SELECTION"},
		"PCR 16":                 {b.selecting(pcrs(tpmAlgSHA256, 16)), "E_PCR_SELECTION"},
		"SHA-1, PCR 16":          {b.selecting(pcrs(tpmAlgSHA1, 16)), "E_PCR_BANK E_PCR_SELECTION"},
		"PCR 16 and 23":          {b.selecting(pcrs(tpmAlgSHA256, 16, 23), pcrs(tpmAlgSHA384, 16)), "E_PCR_SELECTION"},
		"SHA-1":                  {b.selecting(pcrs(tpmAlgSHA1, 0, 7)), "E_PCR_BANK"},
		"SHA-1, SHA-256 16":      {b.selecting(pcrs(tpmAlgSHA1, 0, 7), pcrs(tpmAlgSHA256, 16)), "E_PCR_SELECTION"},
		"SHA-1, SHA-256 of none": {b.selecting(pcrs(tpmAlgSHA1, 0, 7), pcrs(tpmAlgSHA256)), "E_PCR_BANK"},
		"a bank twice":           {b.selecting(pcrs(tpmAlgSHA256, 0), pcrs(tpmAlgSHA256, 1)), "E_PCR_SELECTION"},
		"bit map of 5":           {b.selecting(bank{tpmAlgSHA256, []byte{1, 0, 0, 0, 0}}), "E_PCR_SELECTION E_PCR_SELECTION E_PCR_VALUES"},
	}.check(t)
}

// TestQuoteFileValues: values that are not those that were signed.
func TestQuoteFileValues(t *testing.T) {
	b := newBench(t)
	refusals{
		"another value":      {b.changed(func(f *QuoteFiles) { f.PCRs[136+4+2] ^= 1 }), "E_PCR_DIGEST"},
		"another index":      {b.changed(func(f *QuoteFiles) { f.PCRs[7] = 0x82 }), "E_PCR_SELECTION"},
		"another bank":       {b.changed(func(f *QuoteFiles) { f.PCRs[4] = 0x0c }), "E_PCR_SELECTION"},
		"a bank more":        {b.changed(func(f *QuoteFiles) { f.PCRs[0] = 2 }), "E_PCR_SELECTION"},
		"short value":        {b.changed(func(f *QuoteFiles) { f.PCRs[136+4] = 31 }), "E_PCR_VALUES"},
		"a value more":       {b.changed(func(f *QuoteFiles) { f.PCRs[136] = 3 }), "E_PCR_VALUES"},
		"a value less":       {b.changed(func(f *QuoteFiles) { f.PCRs[136] = 1 }), "E_PCR_VALUES"},
		"no values":          {b.changed(func(f *QuoteFiles) { f.PCRs = []byte{} }), "E_PCR_VALUES"},
		"raw, a byte more":   {b.changed(func(f *QuoteFiles) { f.PCRs = append(slices.Concat(plain().values...), 0) }), "E_PCR_VALUES"},
		"raw, a byte less":   {b.changed(func(f *QuoteFiles) { f.PCRs = slices.Concat(plain().values...)[1:] }), "E_PCR_VALUES"},
		"raw, other order":   {b.changed(func(f *QuoteFiles) { v := plain().values; f.PCRs = append(v[1], v[0]...) }), "E_PCR_DIGEST"},
		"values of SM3":      {b.made(b.ec, func(q *quoting) { q.banks[1], q.count = bank{0x12, []byte{1}}, 2 }), "E_PCR_BANK"},
		"wrong in two ways":  {b.changed(func(f *QuoteFiles) { f.Nonce[0] ^= 1; f.Signature[10] ^= 1; f.PCRs[142] ^= 1 }), "E_SIGNATURE E_EXTRADATA E_PCR_DIGEST"},
		"digest of all PCRs": {b.made(b.ec, func(q *quoting) { d := sha256.Sum256(nil); q.digest = d[:] }), "E_PCR_DIGEST"},
	}.check(t)
}

// TestQuoteFileKey: keys that must not sign quotes.
func TestQuoteFileKey(t *testing.T) {
	b := newBench(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	three := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: b.rs.rsa.N, E: 3}}
	refusals{
		"key of no form":      {b.keyed([]byte("key")), "E_AK_FORM"},
		"large key":           {b.keyed(make([]byte, maxQuoteKey+1)), "E_AK_FORM"},
		"broken PEM":          {b.keyed([]byte("-----BEGIN PUBLIC KEY-----\nAA\n")), "E_AK_FORM"},
		"PEM of something":    {b.keyed(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), "E_AK_FORM"},
		"two keys":            {b.keyed(slices.Concat(b.ec.pem(t), b.other.pem(t))), "E_AK_FORM"},
		"behind the key":      {b.keyed(append(b.ec.area(), 0)), "E_AK_FORM"},
		"P-521":               {b.keyed(newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P521()).pem(t)), "E_AK_ALG"},
		"P-521 area":          {b.keyed(newAttester(t, tpmAlgECDSA, tpmAlgSHA256, elliptic.P521()).area()), "E_AK_ALG"},
		"RSA 1024":            {b.keyed((&attester{rsa: small}).pem(t)), "E_AK_ALG"},
		"RSA exponent 3":      {b.keyed((&attester{rsa: three}).pem(t)), "E_AK_ALG"},
		"RSA 1024 area":       {b.keyed(with(*b.rs, func(a *attester) { a.rsa = small }).area()), "E_AK_ALG"},
		"not restricted":      {b.area(with(*b.ec, func(a *attester) { a.attrs &^= attrRestricted })), "E_AK_ATTRS"},
		"not of this TPM":     {b.area(with(*b.rs, func(a *attester) { a.attrs &^= attrFixedTPM })), "E_AK_ATTRS"},
		"decrypts":            {b.area(with(*b.ec, func(a *attester) { a.attrs |= 1 << 17 })), "E_AK_ATTRS"},
		"no scheme":           {b.area(with(*b.rs, func(a *attester) { a.scheme = tpmAlgNull })), "E_AK_ALG"},
		"scheme of another":   {b.area(with(*b.ec, func(a *attester) { a.scheme = tpmAlgRSASSA })), "E_AK_ALG"},
		"SHA-1 scheme":        {b.area(byHash(b.rs, tpmAlgSHA1)), "E_AK_ALG"},
		"SHA-1 name":          {b.area(with(*b.rs, func(a *attester) { a.nameAlg = tpmAlgSHA1 })), "E_AK_ALG"},
		"fixed hash":          {plain().files(t, byHash(b.ec, tpmAlgSHA512), b.ec.area()), "E_SIG_ALG"},
		"fixed scheme":        {plain().files(t, with(*b.rs, func(a *attester) { a.alg = tpmAlgRSAPSS }), b.rs.area()), "E_SIG_ALG"},
		"other size":          {patched(b, b.rs, 17, 1), "E_AK_FORM"},
		"symmetric algorithm": {patched(b, b.ec, 11, 6), "E_AK_ALG"},
		"KDF":                 {patched(b, b.ec, 19, 0x20), "E_AK_ALG"},
		"policy of 5 bytes":   {b.keyed(slices.Concat(b.ec.area()[:8], []byte{0, 5, 1, 2, 3, 4, 5}, b.ec.area()[10:])), "E_AK_FORM"},
		"point off the curve": {b.keyed(offCurve(b.ec.area())), "E_AK_POINT"},
	}.check(t)
}

// resigned returns the attest of f with byte i changed, and signs it.
func resigned(t *testing.T, a *attester, f *QuoteFiles, i int, b byte) []byte {
	attest := bytes.Clone(f.Attest)
	attest[i] = b
	f.Signature = a.sign(t, attest)
	return attest
}

func signedAs(t *testing.T, a *attester, key, signer []byte) QuoteFiles {
	return newQuoted(signer, pcrs(tpmAlgSHA256, 0)).files(t, a, key)
}

// padded gives the first number of an ECDSA signature a zero byte more than the
// curve has room for.
func padded(signature []byte) []byte {
	n := int(signature[5])
	longer := append(make([]byte, 33-n), signature[6:6+n]...)
	return slices.Concat(signature[:4], []byte{0, 33}, longer, signature[6+n:])
}

// patched is a quote with one byte of the public area changed.
func patched(b *bench, a *attester, i int, to byte) QuoteFiles {
	area := a.area()
	area[i] = to
	return plain().files(b.t, a, area)
}

func offCurve(area []byte) []byte {
	area[len(area)-1] ^= 1
	return area
}
