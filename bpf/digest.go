// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

// KernelDigest is what the kernel itself says Program.File contains, at the
// exec. The zero value: it did not say.
type KernelDigest struct {
	DigestSource DigestSource
	Digest       [32]byte
}

// DigestSource says who in the kernel made a digest, and of what.
type DigestSource uint8

// The sources. What they are digests of differs: IMA's is SHA-256 over the
// file's bytes, as sha256sum has it; that of fs-verity is SHA-256 over the
// descriptor with the root of the file's Merkle tree, as "fsverity measure" has it.
const (
	DigestIMA DigestSource = iota + 1
	DigestVerity
)

// String returns the name of the source; empty for none.
func (d DigestSource) String() string {
	switch d {
	case DigestIMA:
		return "ima"
	case DigestVerity:
		return "fsverity"
	}
	return ""
}

// Numbers of SHA-256 (enum hash_algo, FS_VERITY_HASH_ALG_SHA256).
const (
	imaSHA256    = 4
	veritySHA256 = 1
)
