// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// long is a list of n entries of ima-ng, in a length that paths have.
func long(n int) []byte {
	w := newWriter()
	for i := range n {
		w.add(10, "ima-ng", ng("sha256", sum(i)), name(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i)))
	}
	return w.list
}

func BenchmarkReplay(b *testing.B) {
	const entries = 100_000
	list := long(entries)
	for _, c := range []struct {
		name   string
		tracks Track
	}{{"sha256", TrackSHA256}, {"sha256+sha1", TrackSHA256 | TrackSHA1}, {"all", AllTracks}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(list)))
			for b.Loop() {
				r := NewReplay(10, c.tracks)
				for rest := list; len(rest) > 0; {
					e, after, err := Next(rest)
					if err != nil {
						b.Fatal(err)
					}
					r.Add(&e)
					rest = after
				}
				if r.Count != entries {
					b.Fatal(r.Count)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	list := long(100_000)
	b.ReportAllocs()
	b.SetBytes(int64(len(list)))
	for b.Loop() {
		r := NewReader(bytes.NewReader(list))
		for {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if _, _, ok := e.File(); !ok {
				b.Fatal("no file")
			}
		}
	}
}
