// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package agent is the host's side of the flow, stations 1 to 6: it reads what
// the kernel reports, has it measured, keeps the log, and answers the broker's
// challenge with one quote for everybody who waits ([Agent.answer] in
// pipeline.go is the whole of it in one function).
//
// Its doors are a state directory and a unix socket; kernel, files, chip and
// network are those of the rooms it wires: bpf, measure, tpm, brokerclient.
// In come events and requests, out go bundles, and credentials to the process
// that the kernel says asked.
//
// It decides nothing about evidence: what is good enough the broker says. It
// refuses only what it would have to lie about: to answer for a caller it is
// not sure of, to release a credential when the two looks at a process differ,
// to go on with a log that does not bear out its own checkpoint, to drop a
// kernel record without counting it, to call a register its own that somebody
// else wrote to.
package agent
