// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1" // only ever to say that it is refused, and for the size of its values
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
)

// More constants of TPM 2.0 Library Part 2, sections 6.3 and 6.4.
const (
	tpmAlgRSA    uint16 = 0x0001
	tpmAlgSHA1   uint16 = 0x0004
	tpmAlgSHA384 uint16 = 0x000c
	tpmAlgSHA512 uint16 = 0x000d
	tpmAlgRSASSA uint16 = 0x0014
	tpmAlgRSAPSS uint16 = 0x0016
	tpmP384      uint16 = 0x0004

	rsaExponent = 65537
	minRSA      = 2048 // bits
	maxRSA      = 8192
	maxQuoteKey = 8 << 10 // bytes
)

// tpmHash returns the hash of an algorithm that has one here.
func tpmHash(alg uint16) (crypto.Hash, bool) {
	switch alg {
	case tpmAlgSHA1:
		return crypto.SHA1, true
	case tpmAlgSHA256:
		return crypto.SHA256, true
	case tpmAlgSHA384:
		return crypto.SHA384, true
	case tpmAlgSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// algName names the algorithm of a bank.
func algName(alg uint16) string {
	switch alg {
	case tpmAlgSHA1:
		return "sha1"
	case tpmAlgSHA256:
		return "sha256"
	case tpmAlgSHA384:
		return "sha384"
	case tpmAlgSHA512:
		return "sha512"
	}
	return fmt.Sprintf("alg-%04x", alg)
}

// QuoteKey describes the key that a quote was checked with.
type QuoteKey struct {
	Kind       string // "RSA 2048", "ECDSA P-256"; empty if the key cannot be used
	Name       []byte // the TPM's name of it; nil if only the bare key was given
	Restricted bool   // its public area says that it signs only what the TPM says
}

// quoteKey is a key that may sign quotes.
type quoteKey struct {
	rsa          *rsa.PublicKey // or
	ecdsa        *ecdsa.PublicKey
	scheme, hash uint16 // what its public area fixes; 0: a bare key fixes nothing
	nameAlg      uint16 // 0: a bare key has no name
	name         []byte
}

func (k *quoteKey) describe() QuoteKey {
	out := QuoteKey{Name: k.name, Restricted: k.nameAlg != 0} // a public area that was not was refused
	if k.rsa != nil {
		out.Kind = fmt.Sprintf("RSA %d", k.rsa.N.BitLen())
	} else {
		out.Kind = "ECDSA " + k.ecdsa.Params().Name
	}
	return out
}

// signs reports whether the key makes signatures of this kind.
func (k *quoteKey) signs(alg, hash uint16) bool {
	if k.scheme != 0 {
		return alg == k.scheme && hash == k.hash
	}
	if k.rsa != nil {
		return alg == tpmAlgRSASSA || alg == tpmAlgRSAPSS
	}
	return alg == tpmAlgECDSA
}

func (k *quoteKey) want() string {
	switch {
	case k.scheme != 0:
		return fmt.Sprintf("algorithm %04x with hash %04x, as the key has", k.scheme, k.hash)
	case k.rsa != nil:
		return "RSASSA or RSAPSS with SHA-256, SHA-384 or SHA-512"
	}
	return "ECDSA with SHA-256, SHA-384 or SHA-512"
}

// endorsementSigner returns the qualified name of the key if it is a primary of
// the endorsement hierarchy.
func (k *quoteKey) endorsementSigner() []byte {
	return nameOf(k.nameAlg, append(binary.BigEndian.AppendUint32(nil, tpmEndorsement), k.name...))
}

// nameOf returns nameAlg || H(data).
func nameOf(alg uint16, data []byte) []byte {
	hash, ok := tpmHash(alg)
	if !ok {
		return nil
	}
	h := hash.New()
	h.Write(data)
	return h.Sum(binary.BigEndian.AppendUint16(nil, alg))
}

// parseQuoteKey reads a key in any form that tpm2-tools write.
func parseQuoteKey(data []byte) (*quoteKey, *Rejection) {
	form := func(observed string) (*quoteKey, *Rejection) {
		return nil, reject(codeAKForm, "AK", "one public key: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC", observed)
	}
	if len(data) == 0 || len(data) > maxQuoteKey {
		return form(fmt.Sprintf("%d bytes", len(data)))
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return form("PEM that cannot be read")
		case block.Type != "PUBLIC KEY":
			return form("PEM of a " + block.Type)
		case len(bytes.TrimSpace(rest)) != 0:
			return form("something behind the key")
		}
		return parseBareKey(block.Bytes)
	}
	if data[0] == 0x30 { // a SEQUENCE, and no type of key
		return parseBareKey(data)
	}
	if r := (reader{rest: data}); int(r.u16()) == len(data)-2 {
		data = r.rest // TPM2B_PUBLIC
	}
	return parsePublicArea(data)
}

// parseBareKey reads a SubjectPublicKeyInfo (RFC 5280 section 4.1).
func parseBareKey(der []byte) (*quoteKey, *Rejection) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, reject(codeAKForm, "AK", "a SubjectPublicKeyInfo", err.Error())
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		return checkRSA(&quoteKey{rsa: public})
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() || public.Curve == elliptic.P384() {
			return &quoteKey{ecdsa: public}, nil
		}
		return nil, reject(codeAKAlg, "AK", "curve P-256 or P-384", public.Params().Name)
	}
	return nil, reject(codeAKAlg, "AK", "an RSA or ECDSA key", fmt.Sprintf("%T", public))
}

func checkRSA(k *quoteKey) (*quoteKey, *Rejection) {
	if n := k.rsa.N.BitLen(); n < minRSA || n > maxRSA || k.rsa.E != rsaExponent {
		return nil, reject(codeAKAlg, "AK", fmt.Sprintf("RSA of %d to %d bits with exponent %d", minRSA, maxRSA, rsaExponent), fmt.Sprintf("%d bits with exponent %d", n, k.rsa.E))
	}
	return k, nil
}

// parsePublicArea reads a TPMT_PUBLIC (Part 2 section 12.2.4) of a restricted
// signing key, RSA or ECC. Package broker enrols a narrower kind: see [CheckAK].
func parsePublicArea(public []byte) (*quoteKey, *Rejection) {
	r := &reader{rest: public}
	typ, nameAlg, attrs := r.u16(), r.u16(), r.u32()
	policy, symmetric := r.sized(), r.u16()
	nameHash, ok := tpmHash(nameAlg)
	switch {
	case r.short || typ != tpmAlgRSA && typ != tpmAlgECC:
		return nil, reject(codeAKForm, "AK public area", "exactly one TPMT_PUBLIC of an RSA or ECC key", fmt.Sprintf("%d bytes", len(public)))
	case !ok || nameAlg == tpmAlgSHA1:
		return nil, reject(codeAKAlg, "AK public area", "a name by SHA-256, SHA-384 or SHA-512", fmt.Sprintf("name algorithm %04x", nameAlg))
	case attrs&attrsRequired != attrsRequired || attrs&^attrsAllowed != 0:
		return nil, reject(codeAKAttrs, "AK attributes", fmt.Sprintf("%08x and at most %08x", attrsRequired, attrsAllowed), fmt.Sprintf("%08x", attrs))
	case len(policy) != 0 && len(policy) != nameHash.Size():
		return nil, reject(codeAKForm, "AK authPolicy", "none or a digest by the name algorithm", fmt.Sprintf("%d bytes", len(policy)))
	case symmetric != tpmAlgNull:
		return nil, reject(codeAKAlg, "AK scheme", "no symmetric algorithm", fmt.Sprintf("symmetric %04x", symmetric))
	}
	k := &quoteKey{scheme: r.u16(), hash: r.u16(), nameAlg: nameAlg, name: nameOf(nameAlg, public)}
	hash, ok := tpmHash(k.hash)
	if !ok || hash == crypto.SHA1 || !schemeOf(typ, k.scheme) {
		return nil, reject(codeAKAlg, "AK scheme", "RSASSA, RSAPSS or ECDSA with SHA-256, SHA-384 or SHA-512", fmt.Sprintf("scheme %04x with hash %04x", k.scheme, k.hash))
	}
	if typ == tpmAlgRSA {
		return k.readRSA(r)
	}
	return k.readECC(r)
}

// schemeOf reports whether keys of this type sign by this scheme.
func schemeOf(typ, scheme uint16) bool {
	if typ == tpmAlgECC {
		return scheme == tpmAlgECDSA
	}
	return scheme == tpmAlgRSASSA || scheme == tpmAlgRSAPSS
}

// end refuses what is behind the public area.
func (k *quoteKey) end(r *reader) *Rejection {
	if r.short || len(r.rest) != 0 {
		return reject(codeAKForm, "AK public area", "exactly one TPMT_PUBLIC", fmt.Sprintf("%d bytes behind its end", len(r.rest)))
	}
	return nil
}

func (k *quoteKey) readRSA(r *reader) (*quoteKey, *Rejection) {
	size, exponent, modulus := r.u16(), r.u32(), r.sized()
	if exponent == 0 { // Part 2 section 12.2.3.5
		exponent = rsaExponent
	}
	if rejection := k.end(r); rejection != nil {
		return nil, rejection
	}
	k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(exponent)}
	if k.rsa.N.BitLen() != int(size) {
		return nil, reject(codeAKForm, "AK unique", fmt.Sprintf("%d bits", size), fmt.Sprintf("%d bits", k.rsa.N.BitLen()))
	}
	return checkRSA(k)
}

func (k *quoteKey) readECC(r *reader) (*quoteKey, *Rejection) {
	curve, kdf := r.u16(), r.u16()
	x, y := r.sized(), r.sized()
	if rejection := k.end(r); rejection != nil {
		return nil, rejection
	}
	on := map[uint16]elliptic.Curve{tpmP256: elliptic.P256(), tpmP384: elliptic.P384()}[curve]
	if on == nil || kdf != tpmAlgNull {
		return nil, reject(codeAKAlg, "AK scheme", "P-256 or P-384 without a KDF", fmt.Sprintf("curve %04x, KDF %04x", curve, kdf))
	}
	size := on.Params().BitSize / 8
	if len(x) > size || len(y) > size {
		return nil, reject(codeAKPoint, "AK unique", fmt.Sprintf("coordinates of at most %d bytes", size), fmt.Sprintf("%d and %d bytes", len(x), len(y)))
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	var err error
	if k.ecdsa, err = ecdsa.ParseUncompressedPublicKey(on, point); err != nil {
		return nil, reject(codeAKPoint, "AK unique", "a point on "+on.Params().Name, err.Error())
	}
	return k, nil
}
