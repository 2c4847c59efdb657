// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"crypto/sha256"
	"fmt"
)

// CheckpointVersion is the only version of checkpoints there is.
const CheckpointVersion = 1

// Checkpoint commits to the whole log at one moment (spec/evidence.md section
// 5). It is written to disk before anything else may refer to it.
type Checkpoint struct {
	_         struct{}    `cbor:",toarray"`
	Version   uint64      `json:"version"`
	AKName    Bytes       `json:"ak_name"` // TPM2B_NAME of the attestation key, 34 bytes for SHA-256
	BootID    Bytes       `json:"boot_id"` // 16 bytes, the kernel's random boot id
	Epoch     uint64      `json:"epoch"`
	Number    uint64      `json:"number"` // counts up by one over the life of the log
	Size      uint64      `json:"size"`   // entries in the log
	Root      Hash        `json:"root"`   // RFC 6962 tree hash over them
	IMACount  uint64      `json:"ima_count"`
	IMADigest Value[Hash] `json:"ima_digest"` // SHA-256 of the first IMACount entries of the IMA list
	Lost      uint64      `json:"lost"`       // kernel records lost in this epoch
	Taints    uint64      `json:"taints"`     // taint entries in this epoch
	Previous  Hash        `json:"previous"`   // digest of checkpoint Number-1; zero for the first
	At        uint64      `json:"at_ns"`      // nanoseconds since boot, suspend included
}

// Marshal returns the canonical bytes of c.
func (c *Checkpoint) Marshal() []byte { return mustEncode(c, (*Checkpoint).wire) }

// ParseCheckpoint decodes one checkpoint in canonical form.
func ParseCheckpoint(data []byte) (*Checkpoint, error) {
	if len(data) > MaxCheckpoint {
		return nil, fmt.Errorf("checkpoint of %d bytes, at most %d", len(data), MaxCheckpoint)
	}
	c := new(Checkpoint)
	if err := decode(data, c, (*Checkpoint).wire); err != nil {
		return nil, fmt.Errorf("malformed checkpoint: %v", err)
	}
	if c.Version != CheckpointVersion {
		return nil, fmt.Errorf("checkpoint version %d, want %d", c.Version, CheckpointVersion)
	}
	if len(c.BootID) != 16 {
		return nil, fmt.Errorf("checkpoint has a boot id of %d bytes, want 16", len(c.BootID))
	}
	return c, nil
}

// CheckpointDigest returns the digest by which a quote header and the next
// checkpoint name this one.
//
//	c = SHA-256("jurat/checkpoint/v1\0" || enc(Checkpoint))
func CheckpointDigest(enc []byte) Hash { return labelled("jurat/checkpoint/v1\x00", enc) }

func labelled(label string, data []byte) Hash {
	h := sha256.New()
	h.Write([]byte(label))
	h.Write(data)
	var out Hash
	h.Sum(out[:0])
	return out
}
