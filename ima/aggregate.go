// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"crypto"
	_ "crypto/md5" // which ima_hash=md5 asks for
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// BootAggregate returns the digest over the boot's PCRs with which the kernel
// begins its list, if this entry is it. Ask only the first entry, and those
// after a kexec: a file may have the same name. Where there was no TPM at boot
// the digest is all zero.
func (e *Entry) BootAggregate() (FileDigest, bool) {
	digest, name, ok := e.File()
	return digest, ok && string(name) == "boot_aggregate"
}

// Aggregate is one value that boot_aggregate can have.
type Aggregate struct {
	PCRs   int // how many registers it covers: from PCR 0 on, 8 or 10
	Digest []byte
}

// BootAggregate returns the values that boot_aggregate can have in algorithm
// alg ("sha1", "sha256", "sha384", "sha512", "md5"), the ordinary one first. pcrs
// returns a register's value in one bank, or nil if it is not known; what needs
// an unknown one is left out.
//
//	alg(PCR 0 || ... || PCR 9)  by default, since Linux 5.8
//	alg(PCR 0 || ... || PCR 7)  before, and always for SHA-1
//
// The bank is that of alg. Before Linux 5.7, and for "md5", it is always SHA-1:
// who wants to accept that calls with values of that bank.
func BootAggregate(alg string, pcrs func(index int) []byte) []Aggregate {
	h, ok := map[string]crypto.Hash{
		"md5": crypto.MD5, "sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
	}[alg]
	if !ok {
		return nil
	}
	var out []Aggregate
	digest := h.New()
	for i := range 10 {
		value := pcrs(i)
		if value == nil {
			return out
		}
		digest.Write(value)
		switch {
		case i == 7:
			out = append(out, Aggregate{8, digest.Sum(nil)})
			if h == crypto.SHA1 || h == crypto.MD5 {
				return out
			}
		case i == 9:
			out = append([]Aggregate{{10, digest.Sum(nil)}}, out...)
		}
	}
	return out
}
