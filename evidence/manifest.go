// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Manifest is every code file that a process opened since its exec, folded to
// one hash (spec/evidence.md section 4.4): what tells two programs of one
// interpreter apart. Two processes that read the same bytes have the same
// root, whatever the files were called.
type Manifest struct {
	_     struct{}   `cbor:",toarray"`
	Root  Hash       `json:"root"`  // RFC 6962 tree hash over the digests
	Count uint64     `json:"count"` // of different digests
	Files []CodeFile `json:"files"` // ascending by digest; empty where they took too much room
}

// CodeFile is one file of a manifest. Path is where it was opened: a hint for
// people, never an identity.
type CodeFile struct {
	_      struct{} `cbor:",toarray"`
	Digest Hash     `json:"digest"` // SHA-256 of the whole file
	Path   string   `json:"path"`
}

// NewManifest folds files, in any order, to a manifest. Of files with the same
// digest one is kept.
//
//	root = RFC 6962 tree hash, leaves = the 32 bytes of each digest, ascending
func NewManifest(files []CodeFile) Manifest {
	sorted := slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b CodeFile) int {
		if c := bytes.Compare(a.Digest[:], b.Digest[:]); c != 0 {
			return c
		}
		return bytes.Compare([]byte(a.Path), []byte(b.Path))
	})
	sorted = slices.CompactFunc(sorted, func(a, b CodeFile) bool { return a.Digest == b.Digest })
	m := Manifest{Root: manifestRoot(sorted), Count: uint64(len(sorted)), Files: sorted}
	size := 0
	for _, f := range sorted {
		size += 32 + len(f.Path) + manifestFrame
	}
	if size > MaxManifest {
		m.Files = nil
	}
	return m
}

// manifestFrame is what a file takes beside digest and path, at most.
const manifestFrame = 8

// check refuses a manifest that NewManifest would not make.
func (m *Manifest) check() error {
	if len(m.Files) == 0 {
		return nil // folded: the root stands for it
	}
	if uint64(len(m.Files)) != m.Count {
		return fmt.Errorf("manifest of %d files lists %d", m.Count, len(m.Files))
	}
	for i := 1; i < len(m.Files); i++ {
		if bytes.Compare(m.Files[i-1].Digest[:], m.Files[i].Digest[:]) >= 0 {
			return fmt.Errorf("manifest lists digest %s after %s", m.Files[i].Digest, m.Files[i-1].Digest)
		}
	}
	if root := manifestRoot(m.Files); root != m.Root {
		return fmt.Errorf("manifest names root %s, its files make %s", m.Root, root)
	}
	return nil
}

// manifestRoot is the RFC 6962 tree hash over the digests of sorted files.
func manifestRoot(files []CodeFile) Hash {
	hashes := make([]tlog.Hash, len(files))
	for i := range files {
		hashes[i] = tlog.RecordHash(files[i].Digest[:])
	}
	return Hash(treeHash(hashes))
}

// treeHash is MTH of RFC 6962 section 2.1 over leaf hashes, which it overwrites.
func treeHash(level []tlog.Hash) tlog.Hash {
	if len(level) == 0 {
		return tlog.Hash(sha256.Sum256(nil))
	}
	// Pairing neighbours and carrying an odd last one up makes the same tree as
	// splitting at the largest power of two.
	for len(level) > 1 {
		next := level[:0]
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, tlog.NodeHash(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		level = next
	}
	return level[0]
}
