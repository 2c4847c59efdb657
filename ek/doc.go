// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package ek decides whether a key that claims to be a TPM's endorsement key is
// one, and makes the challenge that only this TPM can answer (station 9, once
// per host).
//
// Its one door is [Open], which reads certificates of authorities when the
// broker starts. Nothing is fetched because of a request: no AIA, no CRL. It
// refuses an EK whose certificate does not lead to one of these authorities,
// and it computes every name and digest itself instead of reading it in the
// request.
package ek
