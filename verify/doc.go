// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package verify decides whether evidence is true and what it says (station 8
// of the flow): a well-formed bundle, a pinned host, a challenge and reference
// values go in, a [Result] or a [*Rejection] comes out.
//
// It has no door. Time, the challenge, the pinned key, the last known state and
// the reference values are parameters, so the same input always gets the same
// answer, on any operating system. It never panics on input, reads TPM
// structures with its own strict decoder, and remembers nothing: who stores
// [Result.Next] beside the decision is the broker's affair, and so is using a
// challenge up.
//
// Verification has two steps. [Bundle] holds the evidence against the TPM that
// was enrolled: quote, PCR values, epoch, checkpoint, log, requests
// (spec/evidence.md section 9; the checks V1 to V24 are listed by [Codes]). Its
// Result is the only way on: it has no exported field, its zero value refuses,
// and nothing after it reads the bundle again. [Result.Appraise] then holds one
// request against the [Reference] of a workload, as five attestors: hardware,
// boot, code, provenance, context. Each check that was made is listed with what
// was expected and what was observed.
//
// What it refuses to do: believe a value that did not come under the quote,
// treat unknown as yes, treat an empty set as "anything goes", fetch anything.
package verify

//go:generate go run ./internal/testvectors/generate ../spec/vectors
