// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// MaxReceipt bounds a receipt, in bytes.
const MaxReceipt = MaxCheckpoint + evidence.MaxProof*45 + 128

const receiptHeader = "c2sp.org/tlog-proof@v1"

// Receipt is the proof that one entry is in the log (c2sp.org/tlog-proof).
// What it holds is believed only through [Verifier.VerifyReceipt].
type Receipt struct {
	Index      uint64
	Proof      evidence.Proof // from the leaf's sibling upwards
	Checkpoint []byte         // signed note, verbatim
}

// Marshal returns the text of the receipt.
func (r Receipt) Marshal() ([]byte, error) {
	if len(r.Proof) > evidence.MaxProof || len(r.Checkpoint) > MaxCheckpoint {
		return nil, fmt.Errorf("receipt with %d hashes and a checkpoint of %d bytes", len(r.Proof), len(r.Checkpoint))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nindex %d\n", receiptHeader, r.Index)
	for _, h := range r.Proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.Write(r.Checkpoint)
	return b.Bytes(), nil
}

// ParseReceipt reads the text of a receipt. An extra line, which nothing
// would protect, is refused.
func ParseReceipt(text []byte) (Receipt, error) {
	var r Receipt
	if len(text) > MaxReceipt {
		return r, fmt.Errorf("receipt of %d bytes, at most %d", len(text), MaxReceipt)
	}
	head, checkpoint, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != receiptHeader {
		return r, fmt.Errorf("malformed receipt: does not begin with %q, an index and an empty line", receiptHeader)
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseUint(number, 10, 62)
	if !ok || err != nil || strconv.FormatUint(index, 10) != number {
		return r, fmt.Errorf("malformed receipt: line 2 is %q, want an index", lines[1])
	}
	if len(lines)-2 > evidence.MaxProof {
		return r, fmt.Errorf("malformed receipt: %d hashes, at most %d", len(lines)-2, evidence.MaxProof)
	}
	proof := make(evidence.Proof, len(lines)-2)
	for i, line := range lines[2:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != len(evidence.Hash{}) || len(line) != 44 {
			return r, fmt.Errorf("malformed receipt: line %d is no hash", i+3)
		}
		proof[i] = evidence.Hash(h)
	}
	return Receipt{Index: index, Proof: proof, Checkpoint: []byte(checkpoint)}, nil
}

// VerifyReceipt returns where entry is in the log and under which checkpoint,
// if receipt proves it.
func (v *Verifier) VerifyReceipt(receipt, entry []byte) (uint64, Checkpoint, error) {
	return v.VerifyReceiptLeaf(receipt, evidence.LeafHash(entry))
}

// VerifyReceiptLeaf is VerifyReceipt for who has only the leaf hash.
func (v *Verifier) VerifyReceiptLeaf(receipt []byte, leaf evidence.Hash) (uint64, Checkpoint, error) {
	r, err := ParseReceipt(receipt)
	if err != nil {
		return 0, Checkpoint{}, err
	}
	c, err := v.Open(r.Checkpoint)
	if err != nil {
		return 0, Checkpoint{}, err
	}
	if err := evidence.CheckInclusion(r.Proof, c.Size, c.Root, r.Index, leaf); err != nil {
		return 0, Checkpoint{}, fmt.Errorf("receipt: entry %d is not in the log of %d entries: %v", r.Index, c.Size, err)
	}
	return r.Index, c, nil
}

// VerifyConsistency reports whether the log of later begins with that of
// earlier. Both checkpoints were opened before.
func VerifyConsistency(earlier, later Checkpoint, proof evidence.Proof) error {
	if earlier.Origin != later.Origin {
		return fmt.Errorf("checkpoints of two logs, %q and %q", earlier.Origin, later.Origin)
	}
	if later.Size < earlier.Size {
		return fmt.Errorf("log %q shrank from %d to %d entries", later.Origin, earlier.Size, later.Size)
	}
	if later.Size == earlier.Size {
		if later.Root != earlier.Root || len(proof) != 0 {
			return fmt.Errorf("log %q has two histories of %d entries", later.Origin, later.Size)
		}
		return nil
	}
	if err := evidence.CheckConsistency(proof, later.Size, later.Root, earlier.Size, earlier.Root); err != nil {
		return fmt.Errorf("log %q of %d entries does not go on from the one of %d: %v", later.Origin, later.Size, earlier.Size, err)
	}
	return nil
}
