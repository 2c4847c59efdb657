// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package audit is the broker's transparency log: what an entry says, the tree
// over the entries, the signed checkpoint and the receipt (station 9 of the
// flow, between the decision and the credential).
//
// It has no door: where entries and hashes are kept is for package store to
// say, keys and clock are parameters. It decides nothing, and it takes no
// secret: an entry has no field for a token, a person's name or free text.
//
// Entries are arrays of fixed length in deterministic CBOR. In CDDL (RFC 8610):
//
//	entry = [
//	  v: 1, type: tstr, time_ms: uint, txn: tstr, prev_txn: tstr, decision: tstr,
//	  agent: tstr, host: tstr, instance: tstr, human: digest, target: tstr,
//	  audience: tstr, actions: [* tstr],
//	  failed: [* [attestor: tstr, check: tstr]], failed_more: uint,
//	  attestors: [hardware: uint, boot: uint, code: uint, provenance: uint, context: uint],
//	  policy_digest: digest, refs_digest: digest, delegation_id: tstr, d: digest,
//	  evidence_digest: digest, jti_digest: digest, material_digest: digest
//	]
//	digest = bstr .size 32 / bstr .size 0 ; empty: does not apply
//
// Their tree is that of RFC 6962, over SHA-256. A checkpoint is a signed note (c2sp.org/tlog-checkpoint):
//
//	jurat.dev/log/broker.example
//	48214
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— jurat.dev/log/broker.example Az3grlgtzPICa5OS8npVmf1Myq/5IZ…
//
// A receipt is the proof that one entry is under a checkpoint
// (c2sp.org/tlog-proof):
//
//	c2sp.org/tlog-proof@v1
//	index 48213
//	…one line for each hash of the inclusion proof…
//
//	…the checkpoint…
package audit
