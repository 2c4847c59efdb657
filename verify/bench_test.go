// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// bare returns the signature check alone that a bundle's quote needs.
func bare(b *testing.B, w *testbundle.World, q evidence.Quote) func() bool {
	public, err := tpm2.Pub(w.AK.Public)
	if err != nil {
		b.Fatal(err)
	}
	key := public.(*ecdsa.PublicKey)
	digest := sha256.Sum256(q.Attest)
	der := w.AK.SignDER(q.Attest)
	return func() bool { return ecdsa.VerifyASN1(key, digest[:], der) }
}

// BenchmarkBundle measures verification, with and without parsing, against the
// bare ECDSA P-256 check in it. The two alternate, so that a busy machine slows
// both alike, and medians count; ratio is the rate of bundles over the rate of
// bare checks.
func BenchmarkBundle(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		w := testbundle.Batch(n)
		built := w.Build()
		parsed, err := evidence.Parse(built.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		host, err := verify.NewHost(w.UEID, w.AKPublic, w.AKName, w.Level)
		if err != nil {
			b.Fatal(err)
		}
		check := bare(b, w, parsed.Quote)
		run := func(parse bool) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				var ours, theirs []time.Duration
				for b.Loop() {
					start := time.Now()
					bundle := parsed
					if parse {
						if bundle, err = evidence.Parse(built.Bytes); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := verify.Bundle(bundle, host, w.Challenge(), w.Policy, w.Now); err != nil {
						b.Fatal(err)
					}
					middle := time.Now()
					if !check() {
						b.Fatal("bare check fails")
					}
					ours, theirs = append(ours, middle.Sub(start)), append(theirs, time.Since(middle))
				}
				b.ReportMetric(0, "ns/op") // it times both
				slices.Sort(ours)
				slices.Sort(theirs)
				median, bare := ours[len(ours)/2], theirs[len(theirs)/2]
				b.ReportMetric(1/median.Seconds(), "bundles/s")
				b.ReportMetric(bare.Seconds()/median.Seconds(), "ratio")
			}
		}
		b.Run(fmt.Sprintf("%d_requests_verified/vs_bare_signature_check", n), run(false))
		b.Run(fmt.Sprintf("%d_requests_parsed_and_verified/vs_bare_signature_check", n), run(true))
	}
}

// BenchmarkAppraise measures the five attestors on one request.
func BenchmarkAppraise(b *testing.B) {
	r, _ := accept(b, testbundle.Booted())
	ref := testbundle.Reference()
	b.ReportAllocs()
	for b.Loop() {
		if !r.Appraise(0, ref).OK() {
			b.Fatal("refused")
		}
	}
}
