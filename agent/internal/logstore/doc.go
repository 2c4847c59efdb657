// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package logstore keeps the measurement log on disk (station 3 of the flow).
//
// Its door is one directory, which it locks. In come the canonical bytes of
// entries, out go indexes, tree hashes, proofs and checkpoints. Memory does not
// grow with the log.
//
//	entries      [length u32 | crc32c u32 | enc(Entry)] ..., the log itself
//	offsets      u64 for each entry: where it begins in entries
//	hashes       32 bytes for each tree hash, in the order of evidence.Tree
//	checkpoints  one slot of 512 bytes for each checkpoint
//	quotes       two slots, written in turn: what the last quote was
//	anchor       one slot and records of 76 bytes: what the TPM's register was extended by
//
// A checkpoint is on disk, with all it commits to, before [Log.Commit] returns
// it; a quote's mark is on disk before [Log.Mark] returns, and what is about to
// be extended before [Log.AppendAnchor] does. What lies behind the last
// checkpoint after a crash is kept as far as it is whole. A log that does not
// bear out its own last checkpoint, or what was anchored, is [ErrBroken]: it is
// never shortened below that, and never begun anew in silence.
package logstore
