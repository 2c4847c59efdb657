// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"fmt"
	"testing"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
)

// BenchmarkEvidence posts evidence of a host with a boot log and an IMA list,
// either whole each time or what the broker does not have. The host's own part
// is in it: it makes the bundle, and signs it in software.
func BenchmarkEvidence(b *testing.B) {
	for _, size := range []int{0, 10_000} {
		for _, whole := range []bool{true, false} {
			b.Run(fmt.Sprintf("list=%d/whole=%v", size, whole), func(b *testing.B) {
				w := ready(b)
				d := w.approved(nil)
				if size > 0 {
					w.host.WithIMA()
				}
				for i := range size {
					w.host.Lists(fmt.Sprint("/usr/bin/", i))
				}
				for b.Loop() {
					nonce, have := w.has("h1")
					if whole {
						have = testbundle.Have{LogSize: have.LogSize}
					}
					w.ok(w.submit(w.host.Tail(b, nonce, have, w.wish(d))))
				}
			})
		}
	}
}
