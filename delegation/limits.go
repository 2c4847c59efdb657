// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

// What a peer may rely on. Anything larger is refused. A delegation within the
// other caps is never above MaxObject.
const (
	MaxObject     = 8 << 10  // bytes of enc(D)
	MaxBundle     = 64 << 10 // bytes of an encoded bundle
	MaxSignature  = 4 << 10  // bytes of one signature blob
	MaxArmored    = 8 << 10  // bytes of one armored signature
	MaxPurpose    = 200      // runes
	MaxActions    = 32       // actions, and datatypes
	MaxAction     = 64       // bytes of one action or datatype
	MaxURL        = 256      // bytes of an audience or an issuer
	MaxName       = 256      // bytes of a SPIFFE ID or a person's name
	MaxRefs       = 16       // code digests, and model digests
	MaxUses       = 1 << 20
	MaxFourEyes   = 8    // persons who must approve
	MaxAnswers    = 32   // signed answers in one bundle
	MaxDetails    = 1024 // bytes of the task as authorization_details
	NonceSize     = 16
	MinCredential = 10   // seconds one credential may live, if limited
	MaxCredential = 3600 // seconds one credential may live, if limited
)

// maxTime is the last second of the year 9999.
const maxTime = 253402300799

// maxAllowedSigners bounds a file of allowed signers.
const maxAllowedSigners = 1 << 20
