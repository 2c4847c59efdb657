// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import "time"

// Bounds of the specifications.
const (
	maxSkew  = 5 * time.Second  // clock difference allowed for exp, nbf and iat
	proofAge = 60 * time.Second // RFC 9449 section 11.1: a proof is made for the moment
)

// Bounds of this implementation.
const (
	maxAuthorization = 8 << 10 // bytes of an Authorization header: the token and its scheme
	maxProof         = 4 << 10 // bytes of a DPoP proof
	maxProofID       = 256     // bytes of a proof's jti
	maxAnswer        = 1 << 20 // bytes of one answer of the broker
	maxKeys          = 64      // keys in the broker's set
	maxReplay        = 1 << 17 // proofs remembered
	maxReplayPerKey  = 1 << 14 // of them, by one key
	defaultAge       = 6 * time.Minute
	dialTimeout      = 5 * time.Second
	refreshGap       = time.Minute     // between two successful fetches of the keys
	retryGap         = 5 * time.Second // after a failed one
	keysFresh        = 5 * time.Minute // then they are fetched again
	keysLast         = time.Hour       // then they are no longer used
)
