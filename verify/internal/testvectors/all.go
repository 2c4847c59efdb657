// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"cmp"
	"slices"

	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// fault is one vector to be: a good world, and the one thing that is wrong.
type fault struct {
	name    string
	expect  string
	comment string
	world   func() *testbundle.World
	change  func(*testbundle.World)
}

// All builds every vector, ordered by name.
func All() []Vector {
	checks := map[string]string{OK: "-"}
	for _, info := range verify.Codes() {
		checks[string(info.Code)] = info.Check
	}
	var out []Vector
	for _, f := range slices.Concat(good, formats, parameters, keys, quotes, histories, parts, beside, boots, lists, proofs) {
		w := f.world()
		if f.change != nil {
			f.change(w)
		}
		built := w.Build()
		v := Vector{
			Name: f.name, Expect: f.expect, Check: checks[f.expect], Comment: f.comment, Now: w.Now, Challenge: w.Challenge(), Host: w.Host(),
			Policy: w.Policy, Bundle: built.Bytes,
		}
		if w.Boot != nil {
			v.BootLog = w.KeptBootLog
		}
		if w.KeptIMA != nil {
			v.IMA = &List{Position: w.KeptIMA.Position(), Files: w.KeptFiles}
		}
		if f.expect == OK {
			v.Next = &built.Next
		}
		if v.Check == "" {
			panic("testvectors: " + f.name + " expects " + f.expect + ", and there is no such code")
		}
		out = append(out, v)
	}
	for _, a := range slices.Concat(hosts, programs, circumstances) {
		out = append(out, a.vector())
	}
	slices.SortFunc(out, func(a, b Vector) int { return cmp.Compare(a.Name+".txt", b.Name+".txt") }) // as a directory lists them
	return out
}
