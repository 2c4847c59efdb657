// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package evidence is everything that crosses the wire between a host and a
// broker: log entries, the log's tree, checkpoints, the quote header, requests
// and the bundle that carries them (stations 3 to 7 of the flow).
//
// It has no door: bytes in, bytes out, no clock, no randomness, no file. It
// knows shapes and hashes and believes nothing. A *Bundle that came out of
// [Parse] is well formed; whether it is true is for package verify to say.
//
// Everything is deterministic CBOR (RFC 8949 section 4.2.1): the bundle is a map
// of EAT claims with integer keys, everything inside it an array of fixed length.
// The decoder accepts exactly the bytes that the encoder would have written:
// every field present, none unknown, no duplicate key, no indefinite length,
// no tag, nothing behind the end. The format is written down for readers
// without Go in spec/evidence.md.
//
// What a quote signs, from the outside in:
//
//	quote.extraData = SHA-256("jurat/quote/v1\0" || enc(Header))
//	Header.checkpoint  = SHA-256("jurat/checkpoint/v1\0" || enc(Checkpoint))
//	Checkpoint.root    = RFC 6962 tree hash over the log's enc(Entry)
//	Header.batch_root  = RFC 6962 tree hash over the batch's enc(Request)
//	Header.boot_log    = SHA-256(boot event log as the firmware wrote it)
//	Header.os_log      = SHA-256(operating system's log of what it measured)
package evidence
