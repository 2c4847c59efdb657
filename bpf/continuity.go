// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

// Continuity says whether the kernel was watched all the time since an
// earlier agent.
type Continuity struct {
	Adopted bool   // the programs of an earlier agent went on; no record was missed
	Reason  string // with Adopted false: why not
}

// ReasonNotPinned is why every sensor of this version begins anew: its
// programs end with the process that loaded them.
const ReasonNotPinned = "not-pinned"

// Continuity returns what Open found of an earlier agent: nothing, as yet.
func (s *Sensor) Continuity() Continuity { return Continuity{Reason: ReasonNotPinned} }
