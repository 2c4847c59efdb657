// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"reflect"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
	"github.com/jurat-dev/jurat/verify/internal/testvectors"
)

// quotedValues are what a result says, less what no quote covers: the closing
// looks, which are the host's word until its next checkpoint.
type quotedValues struct {
	Digest   evidence.Hash
	Next     verify.State
	PCRs     verify.PCRs
	Requests []verify.Request
	Level    string
	Tier     string
	Anchor   string
	Skew     int64
	BootLog  string
}

func quotedOf(r verify.Result) quotedValues {
	q := quotedValues{r.Digest(), r.Next(), r.PCRs(), r.Requests(), r.Level(), r.Tier(), r.Anchor(), int64(r.Skew()), r.BootLog().String()}
	for i := range q.Requests {
		q.Requests[i].After, q.Requests[i].Window, q.Requests[i].IMA = evidence.State{}, 0, verify.IMACover{}
	}
	return q
}

// worlds are good bundles with everything in them that a bundle can have.
func worlds() []*testbundle.World {
	second := testbundle.Second()
	second.Boots(bootlog.Boot{}, bootlog.SHA256)
	second.OSLog = []byte("\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"" + testbundle.Text("phase").String() + "\"}]}\n")
	second.Register = testbundle.Latched()
	second.IMA = testbundle.FilesListed(&second.PCRs, "/usr/bin/invoice-agent")
	return []*testbundle.World{testbundle.First(), second, testbundle.Batch(3)}
}

// TestEveryBit flips bits of good bundles, one at a time: refused, or the same
// values.
func TestEveryBit(t *testing.T) {
	for n, w := range worlds() {
		good, built := accept(t, w)
		want := quotedOf(good)
		step := 3 + 8*min(n, 1) // prime to 8: every position in a byte, in the first bundle every third bit
		var refused, same int
		for bit := 0; bit < len(built.Bytes)*8; bit += step {
			data := append([]byte(nil), built.Bytes...)
			data[bit/8] ^= 1 << (bit % 8)
			b, err := evidence.Parse(data)
			if err != nil {
				refused++
				continue
			}
			r, err := verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
			if err != nil {
				refused++
				continue
			}
			same++
			if got := quotedOf(r); !reflect.DeepEqual(got, want) {
				t.Fatalf("world %d, bit %d: accepted, and says\n%+v\nwant\n%+v", n, bit, got, want)
			}
		}
		if refused == 0 || same > refused/5 {
			t.Errorf("world %d: %d changes refused, %d accepted", n, refused, same)
		}
	}
}

// FuzzBundle feeds bytes to the whole way of a bundle. It must not panic, and
// what it accepts must say what the vector with the same quote says: nobody
// else has the key.
func FuzzBundle(f *testing.F) {
	vectors, err := testvectors.Read(vectorDir)
	if err != nil {
		f.Fatal(err)
	}
	w := testbundle.First()
	want := make(map[evidence.Hash]quotedValues)
	requests := make(map[evidence.Hash]verify.Request) // by leaf; a bundle may hold a part of its batch
	for _, v := range vectors {
		f.Add(v.Bundle)
		if b, err := evidence.Parse(v.Bundle); err == nil {
			if r, err := verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now); err == nil {
				q := quotedOf(r)
				for _, request := range q.Requests {
					requests[request.Leaf] = request
				}
				q.Requests = nil
				want[r.Digest()] = q
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := evidence.Parse(data)
		if err != nil {
			return
		}
		r, err := verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
		if (err == nil) != r.OK() {
			t.Fatal("an error with a result, or neither")
		}
		if err != nil {
			code(t, err)
			return
		}
		r.Appraise(0, testbundle.Reference()).EAR()
		got := quotedOf(r)
		for _, request := range got.Requests {
			if !reflect.DeepEqual(request, requests[request.Leaf]) {
				t.Fatalf("accepted a request that was never made:\n%+v", request)
			}
		}
		if got.Requests = nil; !reflect.DeepEqual(got, want[r.Digest()]) {
			t.Fatalf("accepted, and says\n%+v", got)
		}
	})
}
