// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import "time"

// Specification: what a peer may rely on.
const (
	minChallenge = 16             // bytes of a challenge: 128 bits
	maxGrace     = 24 * time.Hour // longest UnsafeClockGrace a policy may have
)

// Implementation: what may change.
const (
	maxShown     = 16  // values shown on each side of a check
	maxShownText = 200 // bytes of one value shown
)
