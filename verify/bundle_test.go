// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// accept builds, parses and verifies a world that has to be accepted.
func accept(t testing.TB, w *testbundle.World) (verify.Result, testbundle.Built) {
	t.Helper()
	built := w.Build()
	b, err := evidence.Parse(built.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r, built
}

// code returns the code of a rejection, and wants there to be one.
func code(t testing.TB, err error) verify.Code {
	t.Helper()
	var rejection *verify.Rejection
	if !errors.As(err, &rejection) {
		t.Fatalf("got %v, want a rejection", err)
	}
	return rejection.Code
}

// TestResult reads everything a result says of a batch.
func TestResult(t *testing.T) {
	w := testbundle.Batch(3)
	w.Boots(bootlog.Boot{}, bootlog.SHA256)
	w.OnHeader = func(h *evidence.Header) { h.Wall += 90 }
	r, built := accept(t, w)
	if !r.OK() || r.Level() != verify.LevelCert || r.Tier() != verify.TierTracepoint || r.Anchor() != evidence.AnchorNone || r.Skew() != 90*time.Second {
		t.Errorf("level %q, tier %q, anchor %q, skew %v", r.Level(), r.Tier(), r.Anchor(), r.Skew())
	}
	if r.Digest() != built.Next.Quote {
		t.Errorf("digest %v, want SHA-256 of the attest %v", r.Digest(), built.Next.Quote)
	}
	if digest, ok := r.BootLog().Get(); !ok || digest != built.Next.BootLog {
		t.Errorf("boot log %v", r.BootLog())
	}
	if got := r.PCRs().Indexes(); len(got) != 16 || got[15] != 15 {
		t.Errorf("PCRs %v", got)
	}
	for pcr := -1; pcr < 25; pcr++ {
		value, covered := r.PCRs().At(pcr)
		if covered != (pcr >= 0 && pcr < 16) || covered && value != w.PCRs[pcr] || !covered && !value.IsZero() {
			t.Errorf("PCR %d: %v, %v", pcr, value, covered)
		}
	}
	requests := r.Requests()
	if len(requests) != 3 {
		t.Fatalf("%d requests", len(requests))
	}
	for i, q := range requests {
		want := built.Bundle.Requests[i]
		if q.Index != uint64(i) || q.Leaf != evidence.LeafHash(want.Raw) || q.D != want.Value.D || q.Audience != want.Value.Audience || !reflect.DeepEqual(q.Actions, want.Value.Actions) ||
			!bytes.Equal(q.Confirm.Thumbprint, want.Value.Confirm.Thumbprint) || q.Instance != testbundle.Instance() || q.Entry != testbundle.ProcessEntry ||
			q.Window != 250*time.Millisecond || q.Process.Origin != evidence.OriginExec || q.Before.At == 0 || q.After.At == 0 {
			t.Errorf("request %d: %+v", i, q)
		}
	}
	requests[0].D = evidence.Hash{}
	requests[0].Actions[0] = "payroll.write"
	if r.Requests()[0].D.IsZero() {
		t.Error("the result can be changed through what it hands out")
	}
}

// TestZeroRefuses: half a question is never answered with yes (V20).
func TestZeroRefuses(t *testing.T) {
	w := testbundle.First()
	b, err := evidence.Parse(w.Build().Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		want verify.Code
		run  func() (verify.Result, error)
	}{
		{"everything", "E_POLICY", func() (verify.Result, error) {
			return verify.Bundle(nil, verify.Host{}, verify.Challenge{}, verify.Policy{}, time.Time{})
		}},
		{"policy", "E_POLICY", func() (verify.Result, error) {
			return verify.Bundle(b, w.Host(), w.Challenge(), verify.Policy{}, w.Now)
		}},
		{"challenge", "E_CHALLENGE", func() (verify.Result, error) {
			return verify.Bundle(b, w.Host(), verify.Challenge{}, w.Policy, w.Now)
		}},
		{"expiry", "E_NONCE_EXPIRED", func() (verify.Result, error) {
			return verify.Bundle(b, w.Host(), verify.Challenge{Broker: w.Broker, Nonce: w.Nonce}, w.Policy, w.Now)
		}},
		{"short challenge", "E_CHALLENGE", func() (verify.Result, error) {
			c := w.Challenge()
			c.Nonce = make([]byte, evidence.MaxNonce+1)
			return verify.Bundle(b, w.Host(), c, w.Policy, w.Now)
		}},
		{"host", "E_HOST", func() (verify.Result, error) {
			return verify.Bundle(b, verify.Host{}, w.Challenge(), w.Policy, w.Now)
		}},
		{"key", "E_AK_FORM", func() (verify.Result, error) {
			h := w.Host()
			h.AKPublic, h.AKName = nil, nil
			return verify.Bundle(b, h, w.Challenge(), w.Policy, w.Now)
		}},
		{"bundle", "E_INCOMPLETE", func() (verify.Result, error) {
			return verify.Bundle(nil, w.Host(), w.Challenge(), w.Policy, w.Now)
		}},
	}
	for _, c := range cases {
		r, err := c.run()
		if got := code(t, err); got != c.want || r.OK() {
			t.Errorf("no %s: %s, want %s", c.name, got, c.want)
		}
	}
	var zero verify.Result
	appraisal := zero.Appraise(0, testbundle.Reference())
	if zero.OK() || zero.Requests() != nil || appraisal.OK() || len(appraisal.Failed()) != 1 || appraisal.EAR().Status == "affirming" || len(zero.PCRs().Indexes()) != 0 {
		t.Error("the zero result says something")
	}
	if (verify.Appraisal{}).OK() || (verify.Appraisal{}).EAR().Status != "none" {
		t.Error("the zero appraisal says yes")
	}
}

// TestHoles takes parts out of a bundle that parsed: refused, and no panic.
func TestHoles(t *testing.T) {
	cases := map[string]func(*evidence.Bundle){
		"header":             func(b *evidence.Bundle) { b.Header = nil },
		"checkpoint":         func(b *evidence.Bundle) { b.Checkpoint = nil },
		"requests":           func(b *evidence.Bundle) { b.Requests, b.Closing = nil, nil },
		"closing looks":      func(b *evidence.Bundle) { b.Closing = b.Closing[:1] },
		"request":            func(b *evidence.Bundle) { b.Requests[1].Value = nil },
		"closing index":      func(b *evidence.Bundle) { b.Closing[1].Index = 7 },
		"entry":              func(b *evidence.Bundle) { b.Entries[1].Value = nil },
		"start body":         func(b *evidence.Bundle) { b.Entries[0].Value.Start = nil },
		"process body":       func(b *evidence.Bundle) { b.Entries[1].Value.Process = nil },
		"process's instance": func(b *evidence.Bundle) { b.Entries[1].Value.Instance = nil },
	}
	for name, change := range cases {
		w := testbundle.Batch(2)
		b, err := evidence.Parse(w.Build().Bytes)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		_, err = verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
		if got := code(t, err); got != "E_INCOMPLETE" {
			t.Errorf("without %s: %v", name, err)
		}
	}
	w := testbundle.First()
	b, err := evidence.Parse(w.Build().Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b.Quote.Attest = make([]byte, evidence.MaxAttest+1)
	if _, err = verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now); code(t, err) != "E_ATTEST_SIZE" {
		t.Errorf("large attest: %v", err)
	}
	if b, err = evidence.Parse(w.Build().Bytes); err != nil {
		t.Fatal(err)
	}
	b.Nonce[0] ^= 1
	if _, err = verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now); code(t, err) != "E_NONCE" {
		t.Errorf("bundle of another challenge: %v", err)
	}
	if b, err = evidence.Parse(w.Build().Bytes); err != nil {
		t.Fatal(err)
	}
	b.Requests[0].Value.Nonce = bytes.Clone(b.Nonce)
	b.Requests[0].Value.Nonce[0] ^= 1
	if _, err = verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now); code(t, err) != "E_NONCE" {
		t.Errorf("request of another challenge: %v", err)
	}
}

// TestNewHost: a host parsed once answers like a literal, and a key that is
// changed behind its back does not count.
func TestNewHost(t *testing.T) {
	w := testbundle.First()
	b, err := evidence.Parse(w.Build().Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h, err := verify.NewHost(w.UEID, w.AKPublic, w.AKName, w.Level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify.Bundle(b, h, w.Challenge(), w.Policy, w.Now); err != nil {
		t.Fatal(err)
	}
	other := testbundle.NewAK("2")
	h.AKPublic, h.AKName = other.Bytes(), other.Name()
	if _, err := verify.Bundle(b, h, w.Challenge(), w.Policy, w.Now); code(t, err) != "E_SIGNATURE" {
		t.Errorf("another key pinned after NewHost: %v", err)
	}
	h.AKPublic = w.AKPublic
	if _, err := verify.Bundle(b, h, w.Challenge(), w.Policy, w.Now); code(t, err) != "E_AK_NAME" {
		t.Errorf("another name pinned after NewHost: %v", err)
	}
	for _, c := range []struct {
		want         verify.Code
		ueid, public []byte
		name         []byte
		level        string
	}{
		{"E_HOST", w.UEID[:32], w.AKPublic, w.AKName, w.Level},
		{"E_HOST", w.UEID, w.AKPublic, w.AKName, "tofu"},
		{"E_AK_NAME", w.UEID, w.AKPublic, w.AKName[:33], w.Level},
		{"E_AK_FORM", w.UEID, nil, w.AKName, w.Level},
	} {
		if h, err := verify.NewHost(c.ueid, c.public, c.name, c.level); code(t, err) != c.want || h.AKPublic != nil {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if err := verify.CheckAK(w.AKPublic); err != nil {
		t.Error(err)
	}
	w.AK.Public.ObjectAttributes.Restricted = false
	if err := verify.CheckAK(w.AK.Bytes()); code(t, err) != "E_AK_ATTRS" {
		t.Errorf("unrestricted key: %v", err)
	}
}

// TestPolicyCheck says at load what Bundle would say.
func TestPolicyCheck(t *testing.T) {
	if err := verify.DefaultPolicy().Check(); err != nil {
		t.Error(err)
	}
	for _, pcr := range []int{16, 23} {
		p := verify.DefaultPolicy()
		p.PCRs = append(p.PCRs, pcr)
		if got := code(t, p.Check()); got != "E_POLICY" {
			t.Errorf("PCR %d: %s", pcr, got)
		}
	}
}

// TestReplayKey: both signatures over one quote are one quote (V23).
func TestReplayKey(t *testing.T) {
	one, _ := accept(t, testbundle.First())
	w := testbundle.First()
	w.OnSignature = testbundle.Malleate
	two, built := accept(t, w)
	if bytes.Equal(built.Bundle.Quote.Signature, testbundle.First().Build().Bundle.Quote.Signature) {
		t.Fatal("the signatures are the same; this would prove nothing")
	}
	if one.Digest() != two.Digest() {
		t.Error("a changed signature makes another replay key")
	}
}

// TestInputStaysAsItIs: verification does not write to its input.
func TestInputStaysAsItIs(t *testing.T) {
	w := testbundle.Second()
	built := w.Build()
	b, err := evidence.Parse(built.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	host, before := w.Host(), *w.Last
	if _, err := verify.Bundle(b, host, w.Challenge(), w.Policy, w.Now); err != nil {
		t.Fatal(err)
	}
	fresh, err := evidence.Parse(built.Bytes)
	if err != nil || !reflect.DeepEqual(b, fresh) || !reflect.DeepEqual(*host.Last, before) {
		t.Errorf("input was changed (%v)", err)
	}
}

// TestHostileNumbers: nothing overflows.
func TestHostileNumbers(t *testing.T) {
	w := testbundle.First()
	w.OnHeader = func(h *evidence.Header) { h.Wall = 1<<64 - 1 }
	w.After[0].At = 1<<64 - 1
	w.Requests[0].Before.At = 0
	r, _ := accept(t, w)
	if r.Skew() <= 0 || r.Requests()[0].Window <= 0 {
		t.Errorf("skew %v, window %v", r.Skew(), r.Requests()[0].Window)
	}
	w = testbundle.First()
	w.After[0].At = 1
	r, _ = accept(t, w)
	if r.Requests()[0].Window != 0 {
		t.Errorf("window %v", r.Requests()[0].Window)
	}
}

// TestExplain asks of every PCR what made it, in a bundle with everything.
func TestExplain(t *testing.T) {
	w := testbundle.Booted()
	w.Register = testbundle.Latched()
	w.IMA = testbundle.FilesListed(&w.PCRs, "/usr/bin/invoice-agent")
	w.PCRs[12] = testbundle.Text("somebody")
	phase := testbundle.Text("phase")
	w.OSLog = fmt.Appendf(nil, "\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%s\"}]}\n", phase)
	w.PCRs[11] = sha256.Sum256(append(make([]byte, 32), phase[:]...))
	r, _ := accept(t, w)
	want := []verify.Source{
		0: verify.SourceBootLog, 1: verify.SourceBootLog, 2: verify.SourceBootLog, 3: verify.SourceBootLog, 4: verify.SourceBootLog,
		5: verify.SourceBootLog, 6: verify.SourceBootLog, 7: verify.SourceBootLog, 8: verify.SourceBootLog, 9: verify.SourceBootLog,
		10: verify.SourceIMA, 11: verify.SourceOSLog, 12: verify.SourceNoneSaid, 13: verify.SourceLatch, 14: verify.SourceBootLog, 15: verify.SourceNothing,
	}
	got := r.Explain()
	if len(got) != len(want) {
		t.Fatalf("%d PCRs explained, want %d", len(got), len(want))
	}
	for i, e := range got {
		if e.PCR != i || e.Source != want[i] || e.Value != w.PCRs[i] || (e.Boot == e.Value) != (i != 11) {
			t.Errorf("PCR %d: %+v, want %s", i, e, want[i])
		}
	}
	if (verify.Result{}).Explain() != nil {
		t.Error("the zero result explains something")
	}
	if _, news := r.IMA(); !news || r.Boot() == nil || r.Boot().Facts().SecureBoot != "on" {
		t.Error("the result keeps list or boot log to itself")
	}
}

// TestIMAListIsKept goes through a host's list as a broker does: first contact,
// what is new, and another boot, whose list begins anew.
func TestIMAListIsKept(t *testing.T) {
	w := testbundle.First()
	w.IMA = testbundle.FilesListed(&w.PCRs, "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6").Upto(3)
	r, _ := accept(t, w)
	update, _ := r.IMA()
	kept := (*verify.IMAList)(nil).Advanced(update)
	if got := r.Requests()[0].IMA; !got.Known || got.Confirmed != 2 || len(got.Missing) != 1 || kept.Position().Count != 3 {
		t.Fatalf("first contact: %+v at %+v", got, kept.Position())
	}
	w.IMA.Upto(4)
	w.IMA.From, w.KeptIMA = 3, kept
	r, _ = accept(t, w)
	update, _ = r.IMA()
	if got := r.Requests()[0].IMA; got.Confirmed != 3 || len(update.Files) != 1 {
		t.Errorf("what is new: %+v with %d new files", got, len(update.Files))
	}
	if kept = kept.Advanced(update); kept.Position().Count != 4 {
		t.Errorf("kept up to %+v", kept.Position())
	}
	// Nothing of an earlier list confirms anything once it began anew.
	w.IMA = testbundle.FilesListed(&w.PCRs, "/usr/bin/invoice-agent")
	w.KeptIMA = kept
	r, _ = accept(t, w)
	update, _ = r.IMA()
	if got := r.Requests()[0].IMA; got.Confirmed != 1 || update.From != 0 {
		t.Errorf("another boot: %+v", got)
	}
	w.IMA.From, w.KeptIMA = 2, kept.Advanced(update)
	r, _ = accept(t, w)
	if got := r.Requests()[0].IMA; got.Confirmed != 1 {
		t.Errorf("after another boot: %+v", got)
	}
}
