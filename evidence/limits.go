// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

// What a peer may rely on (spec/evidence.md section 8). Anything larger is
// refused before it is decoded.
const (
	MaxBundle     = 4 << 20   // bytes of an encoded bundle
	MaxHeader     = 2 << 10   // bytes of an encoded quote header
	MaxCheckpoint = 1 << 10   // bytes of an encoded checkpoint
	MaxRequest    = 4 << 10   // bytes of an encoded request
	MaxEntry      = 256 << 10 // bytes of an encoded entry
	MaxAttest     = 1 << 10   // bytes of a TPMS_ATTEST
	MaxSignature  = 1 << 10   // bytes of a TPMT_SIGNATURE
	MaxBatch      = 4096      // requests under one quote
	MaxProof      = 64        // hashes in one inclusion or consistency proof
	MaxEntries    = 8192      // entries in one bundle
	MaxRegister   = 65536     // checkpoints in the tail of a register
	MaxBootLog    = 1 << 20   // bytes of the boot event log
	MaxOSLog      = 256 << 10 // bytes of the operating system's log
	MaxNonce      = 64        // bytes of a challenge (RFC 9711 section 4.1)
	MinNonce      = 8
	MaxPCRs       = 24
	MaxMaps       = 4096     // executable mappings in one measurement
	MaxText       = 4096     // bytes of any one text
	MaxActions    = 32       // actions in one task
	MaxSignals    = 64       // signals of one sensor
	MaxManifest   = 96 << 10 // bytes of the files listed in one manifest
)

// Limits of the decoder itself.
const (
	MaxDepth    = 16
	MaxElements = 16384
	MaxPairs    = 64
)
