// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"
)

// long is a list of n entries of ima-ng, in a length that paths have.
func long(n int) []byte {
	w := newWriter()
	for i := range n {
		w.add(10, "ima-ng", ng("sha256", sum(i)), name(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i)))
	}
	return w.list
}

// BenchmarkIMAList replays a list of 100,000 entries, against the bare hashing
// in it: of each entry's template data, and of the PCR it extends.
func BenchmarkIMAList(b *testing.B) {
	const entries = 100_000
	list := long(entries)
	for _, c := range []struct {
		name   string
		tracks Track
	}{{"SHA-256", TrackSHA256}, {"SHA-256_and_SHA-1", TrackSHA256 | TrackSHA1}, {"all_tracks", AllTracks}} {
		b.Run("100000_entries_"+c.name+"/vs_bare_SHA-256", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(list)))
			var ours, theirs time.Duration
			for b.Loop() {
				start := time.Now()
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
				middle := time.Now()
				hashed := bareHashing(list)
				ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
				if hashed != r.SHA256 && c.tracks&TrackSHA256 != 0 {
					b.Fatal("the bare hashing is another")
				}
			}
			b.ReportMetric(0, "ns/op") // it times both
			b.ReportMetric(ours.Seconds()*1e3/float64(b.N), "ms/list")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// bareHashing is a replay of ima-ng entries that checks nothing.
func bareHashing(list []byte) (pcr [sha256.Size]byte) {
	var both [2 * sha256.Size]byte
	for rest := list; len(rest) > 0; {
		size := int(binary.LittleEndian.Uint32(rest[34:]))
		template := sha256.Sum256(rest[38 : 38+size])
		copy(both[:], pcr[:])
		copy(both[sha256.Size:], template[:])
		pcr = sha256.Sum256(both[:])
		rest = rest[38+size:]
	}
	return pcr
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
