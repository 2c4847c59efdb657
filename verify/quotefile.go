// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/jurat-dev/jurat/evidence"
)

// Limits of a quote that stands alone.
const (
	maxQuoteNonce   = 64 // bytes of extraData that every TPM takes: a SHA-512 digest
	shortQuoteNonce = 16 // bytes below which a nonce may be met again
)

// QuoteFiles is a quote that stands alone, as files of tpm2-tools: no bundle,
// no enrolled host.
type QuoteFiles struct {
	Key       []byte // public key: PEM or DER, or TPM2B_PUBLIC or TPMT_PUBLIC
	Attest    []byte // TPMS_ATTEST (tpm2_quote -m)
	Signature []byte // TPMT_SIGNATURE (tpm2_quote -s)
	Nonce     []byte // what extraData has to be, 1 to 64 bytes
	PCRs      []byte // PCR values (tpm2_quote -o), serialized or values; nil: there are none
}

// QuoteCheck is what came of checking a [QuoteFiles]. Its zero value refuses.
type QuoteCheck struct {
	OK       bool
	Failed   []*Rejection // every check that said no, in their order
	Findings []QuoteFinding
	Key      QuoteKey
	Facts    *QuoteFacts // nil if the TPMS_ATTEST cannot be read; believe it only if OK
}

// QuoteFinding is something to know about a quote that is no reason to refuse it.
type QuoteFinding struct {
	Code string `json:"code"` // stable word
	Text string `json:"text"`
}

// QuoteFacts is what a quote says.
type QuoteFacts struct {
	Signer       []byte // qualified name of the key, by the TPM
	ExtraData    []byte
	Clock        uint64 // milliseconds that the TPM ran
	Safe         bool   // no value of the clock before this one was greater
	ResetCount   uint32
	RestartCount uint32
	Firmware     uint64
	PCRDigest    []byte
	Banks        []QuotedBank // in the order of the signed selection
}

// QuotedBank is what a quote says about one bank.
type QuotedBank struct {
	Algorithm string // "sha256"; "alg-0012" for one that is not known
	PCRs      []uint32
	Values    []evidence.PCR // nil unless given, and of the signed digest
}

// CheckQuoteFiles checks a quote that stands alone: form, signature, nonce, PCR
// values. It looks at everything even when something fails, so that it is all
// said at once.
//
// That OK is true means that the holder of this key, and if a TPM's public area
// was given a TPM, made this quote for this nonce. It does not mean that the
// values are those of a good machine.
func CheckQuoteFiles(q QuoteFiles) QuoteCheck {
	var out QuoteCheck
	key, rejection := parseQuoteKey(q.Key)
	out.refuse(rejection)
	if key != nil {
		out.Key = key.describe()
	}
	a, rejection := parseAttest(q.Attest)
	out.refuse(rejection)
	if rejection != nil {
		return out
	}
	out.Facts = a.facts()
	var digest crypto.Hash
	if key != nil {
		digest, rejection = key.checkSignature(q.Attest, q.Signature)
		out.refuse(rejection)
	}
	out.refuse(checkSigner(&a, key))
	out.refuse(checkNonce(&a, q.Nonce))
	out.refuse(checkBanks(&a))
	out.refuse(checkRegisters(&a))
	if q.PCRs != nil && digest != 0 {
		out.refuse(checkValues(&a, q.PCRs, digest, out.Facts))
	}
	out.OK = len(out.Failed) == 0
	out.findings(&a, key, &q)
	return out
}

func (c *QuoteCheck) refuse(r *Rejection) {
	if r != nil {
		c.Failed = append(c.Failed, r)
	}
}

func (c *QuoteCheck) find(code, format string, args ...any) {
	c.Findings = append(c.Findings, QuoteFinding{code, clean(fmt.Sprintf(format, args...))})
}

// checkSigner refuses what a TPM says of no key, and another key's quote.
func checkSigner(a *attest, key *quoteKey) *Rejection {
	hash, ok := tpmHash(algOf(a.signer))
	if !ok || len(a.signer) != 2+hash.Size() {
		return reject(codeSigner, "quote qualifiedSigner", "a name of a key", hexOf(a.signer))
	}
	if key != nil && key.nameAlg != 0 && key.nameAlg != algOf(a.signer) {
		return reject(codeSigner, "quote qualifiedSigner", fmt.Sprintf("a name by algorithm %04x", key.nameAlg), fmt.Sprintf("%04x", algOf(a.signer)))
	}
	return nil
}

// algOf returns the algorithm at the beginning of a name.
func algOf(name []byte) uint16 {
	r := reader{rest: name}
	return r.u16()
}

// checkNonce compares in constant time, as the caller may be asked often.
func checkNonce(a *attest, nonce []byte) *Rejection {
	if len(nonce) == 0 || len(nonce) > maxQuoteNonce {
		return reject(codeExtraData, "nonce", fmt.Sprintf("1 to %d bytes", maxQuoteNonce), fmt.Sprintf("%d bytes", len(nonce)))
	}
	if subtle.ConstantTimeCompare(a.extra, nonce) != 1 {
		return reject(codeExtraData, "quote extraData", hexOf(nonce), hexOf(a.extra))
	}
	return nil
}

// checkBanks refuses a selection in no good form, and the SHA-1 bank alone.
func checkBanks(a *attest) *Rejection {
	strong, any := false, false
	for i := range a.count {
		b := &a.banks[i]
		selected, ok := b.selected()
		if !ok {
			return reject(codePCRSelection, "quote selection", "bit maps of 1 to 4 bytes", fmt.Sprintf("%d bytes", len(b.bitmap)))
		}
		for j := range i {
			if a.banks[j].alg == b.alg {
				return reject(codePCRSelection, "quote selection", "each bank once", a.bankNames())
			}
		}
		any = any || selected != 0
		strong = strong || selected != 0 && b.alg != tpmAlgSHA1
	}
	if any && !strong {
		return reject(codePCRBank, "quote selection", "a bank stronger than SHA-1", a.bankNames())
	}
	return nil
}

// checkRegisters refuses a selection that proves nothing about a boot: of no
// register, or only of those that whoever is on the machine can reset. Those of
// the SHA-1 bank do not count beside others.
func checkRegisters(a *attest) *Rejection {
	var weak, strong uint32
	for i := range a.count {
		selected, _ := a.banks[i].selected()
		if a.banks[i].alg == tpmAlgSHA1 {
			weak |= selected
		} else {
			strong |= selected
		}
	}
	if strong == 0 {
		strong = weak
	}
	if strong&^resettable == 0 {
		return reject(codePCRSelection, "quote selection", "a PCR that cannot be reset (other than 16 and 23)", "PCRs "+pcrList(strong))
	}
	return nil
}

// resettable are PCR 16 and 23: whoever may use the TPM can set them to zero.
const resettable = 1<<16 | 1<<23

// selected returns the registers of a bank as a bit map.
func (b *bank) selected() (uint32, bool) {
	if len(b.bitmap) == 0 || len(b.bitmap) > 4 {
		return 0, false
	}
	var out uint32
	for i, bits := range b.bitmap {
		out |= uint32(bits) << (8 * i)
	}
	return out, true
}

// findings says what is no reason to refuse.
func (c *QuoteCheck) findings(a *attest, key *quoteKey, q *QuoteFiles) {
	if key != nil && key.nameAlg == 0 {
		c.find("key-unproved", "a PEM or DER key does not show that it is restricted to what a TPM says: give the TPM's public area for that")
	}
	if key != nil && key.nameAlg != 0 && !bytes.Equal(a.signer, key.endorsementSigner()) {
		c.find("counts-obscured", "not shown to be a key of the endorsement hierarchy: of others the TPM obscures reset counts and firmware version")
	}
	if a.count > 1 {
		c.find("several-banks", "one digest over several banks (%s): each is shown only as good as all of them", a.bankNames())
	}
	for i := range a.count {
		selected, ok := a.banks[i].selected()
		if ok && a.banks[i].alg == tpmAlgSHA1 && selected != 0 {
			c.find("sha1-bank", "the SHA-1 bank is among what is quoted: its values prove nothing by themselves")
		}
		if ok && selected&resettable != 0 {
			c.find("resettable-pcr", "PCRs %s of bank %s can be reset by whoever uses the TPM", pcrList(selected&resettable), algName(a.banks[i].alg))
		}
	}
	if !a.safe {
		c.find("clock-unsafe", "the TPM's clock is not safe: an earlier value may have been greater (usual after a loss of power)")
	}
	if len(q.Nonce) < shortQuoteNonce {
		c.find("short-nonce", "a nonce of less than %d bytes can come again, and this quote with it", shortQuoteNonce)
	}
	if q.PCRs == nil {
		c.find("no-values", "no PCR values were given: only their digest is signed here")
	}
}

func (a *attest) facts() *QuoteFacts {
	f := &QuoteFacts{
		Signer: a.signer, ExtraData: a.extra, Clock: a.clock, Safe: a.safe, ResetCount: a.resetCount, RestartCount: a.restartCount,
		Firmware: a.firmware, PCRDigest: a.digest,
	}
	for i := range a.count {
		b := QuotedBank{Algorithm: algName(a.banks[i].alg)}
		selected, _ := a.banks[i].selected()
		for ; selected != 0; selected &= selected - 1 {
			b.PCRs = append(b.PCRs, uint32(bits.TrailingZeros32(selected)))
		}
		f.Banks = append(f.Banks, b)
	}
	return f
}

// checkSignature verifies a TPMT_SIGNATURE over the TPMS_ATTEST (Part 2 section
// 11.3.4), by the algorithm of the key, and returns its hash, 0 for one that
// must not be used.
func (k *quoteKey) checkSignature(attest, data []byte) (crypto.Hash, *Rejection) {
	in := reader{rest: data}
	alg, hashAlg := in.u16(), in.u16()
	hash, known := tpmHash(hashAlg)
	if in.short || !k.signs(alg, hashAlg) || !known || hash == crypto.SHA1 {
		return 0, reject(codeSigAlg, "quote signature", k.want(), fmt.Sprintf("algorithm %04x with hash %04x", alg, hashAlg))
	}
	h := hash.New()
	h.Write(attest)
	digest := h.Sum(nil)
	valid := false
	if k.rsa != nil {
		sig := in.sized()
		if len(in.rest) != 0 || len(sig) != k.rsa.Size() {
			return 0, reject(codeSigForm, "quote signature", fmt.Sprintf("a canonical TPMT_SIGNATURE of %d bytes", k.rsa.Size()), fmt.Sprintf("%d bytes", len(data)))
		}
		if alg == tpmAlgRSAPSS {
			valid = rsa.VerifyPSS(k.rsa, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		} else {
			valid = rsa.VerifyPKCS1v15(k.rsa, hash, digest, sig) == nil
		}
	} else {
		r, s := in.sized(), in.sized()
		size := (k.ecdsa.Params().BitSize + 7) / 8
		if in.short || len(in.rest) != 0 || len(r) > size || len(s) > size {
			return 0, reject(codeSigForm, "quote signature", fmt.Sprintf("a canonical TPMT_SIGNATURE with two numbers of at most %d bytes", size), fmt.Sprintf("%d bytes", len(data)))
		}
		valid = ecdsa.Verify(k.ecdsa, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
	}
	if !valid {
		return hash, reject(codeSignature, "quote signature", "one by the given key", "one that is not")
	}
	return hash, nil
}
