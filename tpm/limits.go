// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import "time"

// What the TPM 2.0 specification and the TCG profiles fix.
const (
	headerSize  = 10 // tag, size, code (part 1 section 18)
	pcrsPerRead = 8  // digests in a TPML_DIGEST (part 2 section 10.9.3)
	pcrCount    = 24 // PC Client platform TPM profile section 4.6

	// Handle ranges (part 2 section 7.4).
	indexFirst     = 0x01000000
	indexLast      = 0x01ffffff
	transientFirst = 0x80000000
	transientLast  = 0x80ffffff

	nvFirst      = 0x01c00000 // NV indexes of the TPM's and the platform's makers
	nvLast       = 0x01c07fff // (EK credential profile section 2.2.1)
	nvChainFirst = 0x01c00100 // certificates between the EK's and a root
	nvChainLast  = 0x01c001ff
)

// What this implementation allows.
const (
	// maxFrame is the largest answer that is read. TPM_PT_MAX_RESPONSE_SIZE of
	// the TPMs seen is 4096 at most.
	maxFrame = 4096

	// A command that has no answer by then means that the TPM hangs. The kernel
	// bounds its own waits, and other users of the chip go first.
	socketTimeout    = 20 * time.Second
	socketKeyTimeout = 90 * time.Second // TPM2_CreatePrimary: RSA primes take their time
	deviceTimeout    = 6 * time.Minute

	// Waits between repetitions of a command that the TPM put off, and how long
	// to go on: a self-test may take seconds, a wear-out limit of NV memory
	// should not be sat out.
	firstWait    = 2 * time.Millisecond
	longestWait  = 500 * time.Millisecond
	busyPatience = 15 * time.Second
	ratePatience = 4 * time.Second

	pcrAttempts = 6 // readings or quotes while PCRs keep moving

	maxCredential = 1 << 10 // bytes of a credential or of its encrypted seed

	maxNV      = 8 << 10 // bytes of one NV index
	maxChain   = 64      // NV indexes of the certificate chain
	nvChunk    = 512     // bytes per TPM2_NV_Read; every TPM takes that many
	maxHandles = 256     // handles asked for at once
	maxListed  = 4096    // handles in one list
)
