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
	"github.com/jurat-dev/jurat/internal/bootlog"
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

// warm is a host at second contact with everything: a register that goes on, a
// boot log and banks that are known, an IMA list that has not grown. n requests
// wait for the quote.
func warm(n int) *testbundle.World {
	first := func() *testbundle.World {
		w := testbundle.Booted()
		w.Register = testbundle.Latched()
		w.IMA = testbundle.FilesListed(&w.PCRs, "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
		return w
	}
	before := first()
	next := before.Build().Next
	w := testbundle.Second()
	w.Last = &next
	w.Boots(bootlog.Boot{}, bootlog.SHA256)
	boot, err := verify.ParseBoot(w.BootLog)
	if err != nil {
		panic(err)
	}
	w.Boot = boot
	w.OnBundle = func(b *evidence.Bundle) { b.BootLog = nil }
	w.Register = testbundle.Latched()
	w.Register.Tail, w.Register.Known, w.Register.Base = nil, next.Register.Size, next.Register.Value
	w.IMA = before.IMA
	w.IMA.From = len(w.IMA.Entries)
	w.KeptIMA = verify.NewIMAList(verify.IMAPosition{Count: uint64(w.IMA.From), PCR: w.IMA.PCR(w.IMA.From), ResetCount: next.ResetCount}, nil)
	for len(w.Requests) < n {
		w.Ask(testbundle.Instance(), 4)
	}
	return w
}

// BenchmarkBundle measures verification, with and without parsing, against the
// bare ECDSA P-256 checks in it: one for the quote, and one for the banks at
// first contact or for the register of a host that has one. The two alternate, so that a busy machine slows both
// alike, and medians count; ratio is the rate of bundles over the rate of what
// is bare.
func BenchmarkBundle(b *testing.B) {
	for _, host := range []struct {
		name       string
		world      func(n int) *testbundle.World
		signatures int
	}{{"first_contact", testbundle.Batch, 2}, {"warm_host_with_register_boot_log_and_IMA_list", warm, 2}} {
		for _, n := range []int{1, 10, 100} {
			w := host.world(n)
			name := fmt.Sprintf("%s/%d_requests", host.name, n)
			b.Run(name+"_verified/vs_bare_signature_checks", against(w, host.signatures, false))
			b.Run(name+"_parsed_and_verified/vs_bare_signature_checks", against(w, host.signatures, true))
		}
	}
}

// against returns the benchmark of one world's bundle.
func against(w *testbundle.World, signatures int, parse bool) func(*testing.B) {
	return func(b *testing.B) {
		built := w.Build()
		bundle, err := evidence.Parse(built.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		host, err := verify.NewHost(w.UEID, w.AKPublic, w.AKName, w.Level)
		if err != nil {
			b.Fatal(err)
		}
		host.Last, host.Boot, host.IMA = w.Last, w.Boot, w.KeptIMA
		check := bare(b, w, bundle.Quote)
		b.ReportAllocs()
		var ours, theirs []time.Duration
		for b.Loop() {
			start := time.Now()
			if parse {
				if bundle, err = evidence.Parse(built.Bytes); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := verify.Bundle(bundle, host, w.Challenge(), w.Policy, w.Now); err != nil {
				b.Fatal(err)
			}
			middle := time.Now()
			for range signatures {
				if !check() {
					b.Fatal("bare check fails")
				}
			}
			ours, theirs = append(ours, middle.Sub(start)), append(theirs, time.Since(middle))
		}
		b.ReportMetric(0, "ns/op") // it times both
		slices.Sort(ours)
		slices.Sort(theirs)
		median, bare := ours[len(ours)/2], theirs[len(theirs)/2]
		b.ReportMetric(1/median.Seconds(), "bundles/s")
		b.ReportMetric(float64(len(w.Requests))/median.Seconds(), "requests/s")
		b.ReportMetric(bare.Seconds()/median.Seconds(), "ratio")
	}
}

// BenchmarkColdHost measures a first contact: a boot log to be read, and an IMA
// list of 20,000 entries to be replayed.
func BenchmarkColdHost(b *testing.B) {
	w := testbundle.Booted()
	paths := make([]string, 20_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%05d.so.1", i)
	}
	w.IMA = testbundle.FilesListed(&w.PCRs, paths...)
	bundle := w.Build().Bundle
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verify.Bundle(bundle, w.Host(), w.Challenge(), w.Policy, w.Now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(paths)*b.N)/b.Elapsed().Seconds(), "IMA_entries/s")
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
