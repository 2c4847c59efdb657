// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

// What Parse and ParseUserspace take. A log beyond one of these limits is
// refused; none of the logs seen so far comes near.
const (
	MaxLog        = 4 << 20 // bytes of a log
	MaxEvents     = 1 << 16 // events of a log, its header included
	MaxAlgorithms = 16      // banks a log header may name (TPM2_NUM_PCR_BANKS)
	MaxDigest     = 512     // bytes of one digest of a bank that nobody here knows
	MaxEventData  = 1 << 20 // bytes of data of one event
)

// What the readers of event data take. Beyond it a text is cut, never refused.
const (
	maxText    = 400 // runes of one description
	maxNodes   = 32  // nodes of one device path
	maxEntries = 8   // members of a list that are named one by one
)

const numPCRs = 24 // TCG PC Client Platform TPM Profile section 4.6
