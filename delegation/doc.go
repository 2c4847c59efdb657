// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package delegation is what a human is asked, and the proof of what they
// answered (station 9 of the flow, before the broker's policy).
//
// It has no door: bytes in, bytes out. Time and randomness are parameters. It
// keeps nothing, knows no broker and no token, and refuses to believe a person
// without their signature.
//
// One delegation is one human, one workload, one purpose, one system, one
// expiry and a number of uses, written as one canonical object D: an array of
// fixed length in deterministic CBOR (RFC 8949 section 4.2.1, as package
// evidence reads and writes it). Its content hash names it everywhere:
//
//	d = SHA-256("jurat/delegation/v1\0" || enc(D))
//
// A person answers with an SSH signature (PROTOCOL.sshsig of OpenSSH). What is
// signed and in which namespace keeps the answers apart, so that a yes can
// never be shown as something else:
//
//	approval    enc(D)                                   jurat.dev/delegation/v1
//	refusal     enc(["jurat-refusal", 1, d, time])       jurat.dev/refusal/v1
//	revocation  enc(["jurat-revocation", 1, d, time])    jurat.dev/revocation/v1
//
// Anybody can make one with OpenSSH alone:
//
//	ssh-keygen -Y sign -f KEY -n jurat.dev/delegation/v1 D.cbor
//
// In CDDL (RFC 8610), all of it in deterministic form:
//
//	D = [
//	  v: 1, typ: "jurat-delegation", id: tstr, broker: tstr, requester: tstr,
//	  workload: [id: tstr, code_ref: [* digest], model_ref: [* digest],
//	             min_levels: [ek: tstr, anchor: tstr, tier: tstr]],
//	  approver: person, purpose: tstr, actions: [+ tstr], audience: tstr,
//	  limits: [datatypes: [* tstr], per: "credential" / "instance", credential: uint],
//	  not_before: uint, expires: uint, uses: uint, four_eyes: uint,
//	  requested_at: uint, nonce: bstr .size 16
//	]
//	statement = [typ: "jurat-refusal" / "jurat-revocation", v: 1, d: digest, time: uint]
//	bundle = [typ: "jurat-delegation-bundle", v: 1, object: bstr .cbor D,
//	          answers: [* answer], log: [* [entry: bstr, receipt: tstr]]]
//	answer = [act: "approval" / "refusal" / "revocation", method: "sshsig", person: person,
//	          at: uint, statement: bstr, signature: bstr]
//	person = [iss: tstr, sub: tstr]
//	digest = bstr .size 32
//
// Times are seconds since 1970. Lists are sorted and hold nothing twice.
//
// [Verify] judges a delegation with all its answers against keys the caller
// already trusts. The broker does that at every issuance; an auditor does it
// offline, with keys of their own.
package delegation
