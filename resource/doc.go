// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package resource is what a protected service checks before it answers a
// workload: the access token, the proof that the caller holds the token's key,
// the human's task behind it and, where asked for, whether it was revoked.
//
// It comes after station 10 of the flow and stands alone: it imports nothing
// else of jurat. Its door: it dials the broker for metadata, keys and
// introspection, and nobody else, whatever address a token names.
//
// It refuses to accept a bearer token, to follow a key that came with a token,
// to guess its own address from the Host header, and to answer when it cannot
// decide: without keys, without an answer of the broker it was told to ask, or
// with a full replay cache a call gets 503, not access.
//
// The checks run in the order of [Checker.Check] and each has its own [Rule].
// The replay cache is in memory: a proof is single use within one process. Run
// services with several replicas with short windows, or pin clients to one.
//
// Neither the body nor the headers of a call are signed by a DPoP proof, and a
// token is logged by its txn only, never by its text.
package resource
