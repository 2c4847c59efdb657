// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package registration reads what an operator tells the broker: workloads and
// what they must look like, machine classes and how they boot, approvers and
// their keys, protected systems (station 9).
//
//	kind: Workload
//	id: spiffe://example.test/agents/invoice
//	machines: [demo]
//	minimum: {ek: ek-cert, anchor: none, tier: tracepoint, provenance: pinned, ima: none, signals: [ptrace]}
//	code:
//	  executables: [{digest: "sha-256:…", label: invoice-agent 1.4.2}]
//	  loaders: any
//	  libraries: any
//	  scripts: [{digest: "sha-256:…", label: agent.py}]      # of executables with interpreter: true
//	  bound: argument                                        # or gate, kernel: how the script must be known
//	  manifests: [{digest: "sha-256:…", label: release 1.4}] # roots of whole sets of opened code files
//	  files: [{digest: "sha-256:…", label: ranking.py}]      # or one by one, or any
//	  models: [{digest: "sha-256:…", label: ranker, required: true}]
//	  inputs: [{digest: "sha-256:…", label: prompt.txt}]
//	  accepted_taints: [anonymous-exec, mprotect-exec]       # for JIT compilers
//	context:
//	  units: [invoice.service]
//	  uids: [990]
//	  gids: [990]
//	  cgroups: any
//	  containers: [none]
//	  ancestors: any
//	---
//	kind: Machine
//	name: demo
//	boot:
//	  pcrs: {7: ["…64 hexadecimal digits…"]}
//	  events: {4: [{digest: "…64 hexadecimal digits…", text: GRUB, required: true}]}
//	  secure_boot: [on]
//	  command_lines: any
//	  findings: []
//	---
//	kind: Approver
//	name: alice@example.test
//	keys: ["ssh-ed25519 AAAA…"]
//	---
//	kind: Resource
//	name: payments
//	audience: https://payments.example
//
// It has no door: bytes in, values out. It refuses a member it does not know,
// with the line, and a statement that nobody here can stand for: provenance
// "proved" comes from a verified signature, never from a file. What is missing
// or empty matches nothing.
package registration
