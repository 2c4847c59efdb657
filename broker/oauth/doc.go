// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package oauth is the OAuth 2.0 side of the broker (stations 9 and 10): what
// a token exchange (RFC 8693) may say, whether a DPoP proof (RFC 9449) holds,
// what an access token (RFC 9068) and an error look like, and the documents by
// which others find the broker (RFC 8414, RFC 7517).
//
// It has no door: it gets requests and gives back values. It decides about
// form and signatures, never about who may have what; that is package broker.
// It refuses to guess: a parameter given twice, a token type it does not know,
// a field it cannot read, an algorithm other than the one expected at that
// door. The strings here are frozen; spec/broker-api.md lists them.
package oauth

import "github.com/go-jose/go-jose/v4"

// What a token exchange of this broker is made of.
const (
	GrantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	TypeDelegation     = "https://jurat.dev/token-type/delegation"   // subject_token: base64url of d
	TypeEvidenceRef    = "https://jurat.dev/token-type/evidence-ref" // actor_token: from POST /v1/evidence
	TypeAccessToken    = "urn:ietf:params:oauth:token-type:access_token"
)

// Values of token_type.
const (
	DPoP   = "DPoP"
	Bearer = "Bearer"
)

// JOSE header types. Each door takes exactly one.
const (
	typAccessToken = "at+jwt"
	typDPoP        = "dpop+jwt"
)

// Acr values: how the human approved.
const (
	ACRKey      = "https://jurat.dev/acr/ssh-key"      // a software ssh key signed
	ACRHardware = "https://jurat.dev/acr/ssh-hardware" // a FIDO ssh key signed, touched by a person
)

// KeyEpoch is the claim ke: raising it ends every credential issued before.
const KeyEpoch = 1

// Limits of what is read before anything is believed.
const (
	MaxForm    = 16 << 10 // bytes of a form
	MaxProof   = 4 << 10  // bytes of a DPoP proof
	MaxToken   = 8 << 10  // bytes of an access token
	MaxJTI     = 128      // bytes of a proof's jti
	MaxDetails = 4 << 10  // bytes of authorization_details
	MaxGranted = 1 << 10  // bytes of the authorization_details a token carries
)

// The algorithms a DPoP proof may use. The access token is ES256, always.
var proofAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}
