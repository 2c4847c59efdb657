// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof is an RFC 6962 inclusion or consistency proof.
type Proof []Hash

// LeafHash returns the hash of one leaf.
//
//	leaf = SHA-256(0x00 || data)   (RFC 6962 section 2.1)
func LeafHash(data []byte) Hash { return Hash(tlog.RecordHash(data)) }

// CheckInclusion reports whether leaf is number index of the tree with size
// leaves and hash root.
func CheckInclusion(p Proof, size uint64, root Hash, index uint64, leaf Hash) error {
	if size > maxTree || index >= size {
		return fmt.Errorf("leaf %d of a tree of %d", index, size)
	}
	return tlog.CheckRecord(recordProof(p), int64(size), tlog.Hash(root), int64(index), tlog.Hash(leaf))
}

// CheckConsistency reports whether the tree of size leaves and hash root
// begins with the tree of oldSize leaves and hash oldRoot. Every tree begins
// with the empty one.
func CheckConsistency(p Proof, size uint64, root Hash, oldSize uint64, oldRoot Hash) error {
	if size > maxTree || oldSize > size {
		return fmt.Errorf("tree of %d leaves after one of %d", size, oldSize)
	}
	if oldSize == 0 {
		if len(p) != 0 {
			return fmt.Errorf("proof of %d hashes from the empty tree, want none", len(p))
		}
		return nil
	}
	return tlog.CheckTree(tlog.TreeProof(recordProof(p)), int64(size), tlog.Hash(root), int64(oldSize), tlog.Hash(oldRoot))
}

const maxTree = 1 << 62

func recordProof(p Proof) tlog.RecordProof {
	out := make(tlog.RecordProof, len(p))
	for i, h := range p {
		out[i] = tlog.Hash(h)
	}
	return out
}

func proofOf(hashes []tlog.Hash) Proof {
	out := make(Proof, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out
}

// Tree computes proofs over hashes that somebody else keeps: the log on disk,
// or a batch in memory. It keeps nothing itself.
type Tree struct {
	reader tlog.HashReader
}

// NewTree returns a tree over stored hashes. read returns the hashes at the
// given indexes of [StoredHashIndex] order.
func NewTree(read func(indexes []int64) ([]Hash, error)) Tree {
	return Tree{tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := read(indexes)
		if err != nil {
			return nil, err
		}
		out := make([]tlog.Hash, len(hashes))
		for i, h := range hashes {
			out[i] = tlog.Hash(h)
		}
		return out, nil
	})}
}

// StoredHashes returns the hashes to append to the store when leaf becomes
// number index: the leaf itself and every inner node it completes.
func (t Tree) StoredHashes(index uint64, leaf Hash) ([]Hash, error) {
	hashes, err := tlog.StoredHashesForRecordHash(int64(index), tlog.Hash(leaf), t.reader)
	if err != nil {
		return nil, err
	}
	return proofOf(hashes), nil
}

// StoredHashCount returns how many hashes a store of size leaves holds.
func StoredHashCount(size uint64) int64 { return tlog.StoredHashCount(int64(size)) }

// LeafIndex returns where in the store the hash of leaf number index is.
func LeafIndex(index uint64) int64 { return tlog.StoredHashIndex(0, int64(index)) }

// Root returns the tree hash over the first size leaves.
func (t Tree) Root(size uint64) (Hash, error) {
	h, err := tlog.TreeHash(int64(size), t.reader)
	return Hash(h), err
}

// Inclusion proves that leaf index is in the tree of size leaves.
func (t Tree) Inclusion(size, index uint64) (Proof, error) {
	p, err := tlog.ProveRecord(int64(size), int64(index), t.reader)
	return proofOf(p), err
}

// Consistency proves that the tree of size leaves begins with the one of
// oldSize. There is nothing to prove from the empty tree.
func (t Tree) Consistency(size, oldSize uint64) (Proof, error) {
	if oldSize == 0 {
		return Proof{}, nil
	}
	p, err := tlog.ProveTree(int64(size), int64(oldSize), t.reader)
	return proofOf(p), err
}

// Batch is the Merkle tree over the requests that one quote answers. A batch
// of one has the same format as a batch of [MaxBatch].
type Batch struct {
	size   uint64
	hashes []Hash
	tree   Tree
}

// NewBatch returns the tree over requests in canonical form.
func NewBatch(requests [][]byte) (*Batch, error) {
	if len(requests) == 0 || len(requests) > MaxBatch {
		return nil, fmt.Errorf("batch of %d requests, want 1 to %d", len(requests), MaxBatch)
	}
	b := &Batch{size: uint64(len(requests))}
	b.tree = NewTree(func(indexes []int64) ([]Hash, error) {
		out := make([]Hash, len(indexes))
		for i, at := range indexes {
			out[i] = b.hashes[at]
		}
		return out, nil
	})
	for i, r := range requests {
		h, err := b.tree.StoredHashes(uint64(i), LeafHash(r))
		if err != nil {
			return nil, err
		}
		b.hashes = append(b.hashes, h...)
	}
	return b, nil
}

// Root returns the batch root for the quote header.
func (b *Batch) Root() (Hash, error) { return b.tree.Root(b.size) }

// Proof returns the inclusion proof of request index.
func (b *Batch) Proof(index int) (Proof, error) { return b.tree.Inclusion(b.size, uint64(index)) }
