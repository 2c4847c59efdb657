// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
)

// Algorithm is a hash algorithm by its number in the TCG Algorithm Registry
// (TPM_ALG_ID).
type Algorithm uint16

// The algorithms that have a name here.
const (
	SHA1     Algorithm = 0x0004
	SHA256   Algorithm = 0x000b
	SHA384   Algorithm = 0x000c
	SHA512   Algorithm = 0x000d
	SM3      Algorithm = 0x0012
	SHA3_256 Algorithm = 0x0027
	SHA3_384 Algorithm = 0x0028
	SHA3_512 Algorithm = 0x0029
)

var algorithms = [...]struct {
	id   Algorithm
	name string
	size int
	make func() hash.Hash // nil: named, but not computed here
}{
	{SHA1, "sha1", 20, sha1.New},
	{SHA256, "sha256", 32, sha256.New},
	{SHA384, "sha384", 48, sha512.New384},
	{SHA512, "sha512", 64, sha512.New},
	{SM3, "sm3_256", 32, nil},
	{SHA3_256, "sha3_256", 32, func() hash.Hash { return sha3.New256() }},
	{SHA3_384, "sha3_384", 48, func() hash.Hash { return sha3.New384() }},
	{SHA3_512, "sha3_512", 64, func() hash.Hash { return sha3.New512() }},
}

// String returns the name that tpm2-tools and systemd use, such as "sha256", or
// the number, such as "0x00f1".
func (a Algorithm) String() string {
	for i := range algorithms {
		if algorithms[i].id == a {
			return algorithms[i].name
		}
	}
	return fmt.Sprintf("0x%04x", uint16(a))
}

// Size returns the bytes of a digest, 0 for an algorithm that has no name here.
func (a Algorithm) Size() int {
	for i := range algorithms {
		if algorithms[i].id == a {
			return algorithms[i].size
		}
	}
	return 0
}

// Computable reports whether digests of this algorithm can be replayed and
// checked here. Banks of all others are skipped by their size.
func (a Algorithm) Computable() bool { return a.new() != nil }

func (a Algorithm) new() hash.Hash {
	for i := range algorithms {
		if algorithms[i].id == a && algorithms[i].make != nil {
			return algorithms[i].make()
		}
	}
	return nil
}

// parseAlgorithm returns the algorithm of a name as [Algorithm.String] gives it.
func parseAlgorithm(name string) (Algorithm, bool) {
	for i := range algorithms {
		if algorithms[i].name == name {
			return algorithms[i].id, true
		}
	}
	return 0, false
}

// is reports whether digest is H(data). Both are public, so that time tells
// nothing.
func (a Algorithm) is(digest, data []byte) bool {
	switch a {
	case SHA1:
		sum := sha1.Sum(data)
		return bytes.Equal(digest, sum[:])
	case SHA256:
		sum := sha256.Sum256(data)
		return bytes.Equal(digest, sum[:])
	case SHA384:
		sum := sha512.Sum384(data)
		return bytes.Equal(digest, sum[:])
	case SHA512:
		sum := sha512.Sum512(data)
		return bytes.Equal(digest, sum[:])
	}
	h := a.new()
	if h == nil {
		return false
	}
	h.Write(data)
	return bytes.Equal(digest, h.Sum(nil))
}

// sum returns H(data) of an algorithm that can be computed.
func (a Algorithm) sum(data []byte) []byte {
	h := a.new()
	h.Write(data)
	return h.Sum(nil)
}
