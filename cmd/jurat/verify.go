// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// verifyFlags are the flags of verify.
type verifyFlags struct {
	host, nonce, issuer, at, policy, bootLog, reference string
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify BUNDLE --host FILE --nonce HEX --issuer URL",
		Short: "verify an evidence bundle yourself, offline",
		Long: `Verifies BUNDLE as a broker does: that the quote is by the host's TPM and over this
challenge, that log, boot log and IMA list are the quoted ones, and what follows
from it. No broker, no root and no TPM are needed; - is standard input.

--host is what 'jurat host export' wrote before the bundle was made. --nonce is the
challenge, which must have come from you or from whom you believe. --at is when the
answer came; default: now. A bundle that leaves out the boot log needs --boot-log.
With --reference, a file with one Workload and one Machine as they are registered,
each request is also held against what the workload must look like.

A file of spec/vectors has all of that in it, and is verified by itself.`,
		Example: "  jurat verify bundle.cbor --host h17.json --nonce 5f1c… --issuer https://broker.example --at 2026-11-23T12:00:00Z\n" +
			"  jurat verify spec/vectors/ok-first.txt",
		Args: arguments("BUNDLE"),
		RunE: func(c *cobra.Command, args []string) error { return a.verify(c, args[0], &f) },
	}
	c.Flags().StringVar(&f.host, "host", "", "what was pinned and known of the host, `FILE` of 'jurat host export'")
	c.Flags().StringVar(&f.nonce, "nonce", "", "the challenge, `HEX`")
	c.Flags().StringVar(&f.issuer, "issuer", "", "`URL` of the broker that the evidence was made for")
	c.Flags().StringVar(&f.at, "at", "", "`TIME` at which it came (default: now)")
	c.Flags().StringVar(&f.policy, "policy", "", "what is demanded of every host, `FILE` as for jurat-broker -policy")
	c.Flags().StringVar(&f.bootLog, "boot-log", "", "the boot log that the bundle leaves out, `FILE`")
	c.Flags().StringVar(&f.reference, "reference", "", "registrations of workload and machine class, `FILE`")
	return c
}

func (a *app) verify(c *cobra.Command, name string, f *verifyFlags) error {
	// A vector is text around a bundle, and has a boot log beside it.
	data, err := a.readInput(name, 8*evidence.MaxBundle)
	if err != nil {
		return err
	}
	var t *trial
	if isVector(data) {
		if *f != (verifyFlags{}) {
			return usage(c, "%s is a vector, which has everything in it: no flag goes with it", name)
		}
		if t, err = parseVector(data); err != nil {
			return malformedInput(name, err)
		}
	} else if t, err = a.trial(c, data, f); err != nil {
		return err
	}
	out := t.run()
	if err := a.emit(out, func(p *term.Printer) { showVerdict(p, out) }); err != nil {
		return err
	}
	if !out.OK {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

// trial gathers what the flags name.
func (a *app) trial(c *cobra.Command, bundle []byte, f *verifyFlags) (*trial, error) {
	for _, flag := range []struct{ name, value string }{{"host FILE", f.host}, {"nonce HEX", f.nonce}, {"issuer URL", f.issuer}} {
		if flag.value == "" {
			return nil, usage(c, "--%s is missing", flag.name)
		}
	}
	t := &trial{bundle: bundle, at: a.now()}
	nonce, err := hex.DecodeString(f.nonce)
	if err != nil {
		return nil, usage(c, "--nonce %q, want hexadecimal digits", f.nonce)
	}
	if f.at != "" {
		if t.at, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, usage(c, "--at %q, want a time such as 2026-11-23T15:00:00Z", f.at)
		}
	}
	// Whether the answer came in time is for the caller to say.
	t.challenge = verify.Challenge{Broker: f.issuer, Nonce: nonce, Expires: t.at.Add(time.Second)}
	if t.host, err = a.readHost(f.host); err != nil {
		return nil, err
	}
	if f.bootLog != "" {
		raw, err := a.readInput(f.bootLog, evidence.MaxBundle)
		if err != nil {
			return nil, err
		}
		if t.host.Boot, err = verify.ParseBoot(raw); err != nil {
			return nil, malformedInput(f.bootLog, err)
		}
	}
	if t.policy, err = a.readPolicy(f.policy); err != nil {
		return nil, err
	}
	if f.reference != "" {
		t.reference, err = a.readReference(f.reference, t.at)
	}
	return t, err
}

// run verifies, and says everything there is to say.
func (t *trial) run() *verifyJSON {
	out := &verifyJSON{Schema: "jurat.verify/v1", Bytes: len(t.bundle), Digest: digestText(t.bundle), At: t.at.UTC(), Expected: t.expected,
		Stations: []stepJSON{}, PCRs: []verify.Explained{}, Requests: []provedRequest{}}
	bundle, err := evidence.Parse(t.bundle)
	var result verify.Result
	if err != nil {
		out.Rejection = verify.Malformed(err)
	} else if result, err = verify.Bundle(bundle, t.host, t.challenge, t.policy, t.at); err != nil && !errors.As(err, &out.Rejection) {
		out.Rejection = verify.Malformed(err) // there is no other kind
	}
	out.steps()
	out.Genuine = out.Rejection == nil && result.OK()
	out.OK = out.Genuine
	if out.Genuine {
		out.fill(t, result)
	}
	return out
}

// fill says what a true bundle proves.
func (v *verifyJSON) fill(t *trial, r verify.Result) {
	next := r.Next()
	v.Host = &provedHost{UEID: fmt.Sprintf("%x", t.host.UEID), Level: r.Level(), Maker: t.host.Maker, Tier: r.Tier(), Anchor: r.Anchor(),
		Firmware: fmt.Sprintf("%016x", next.Firmware), SkewMS: r.Skew().Milliseconds(), Signals: orEmpty(r.Signals())}
	v.PCRs, v.Next = r.Explain(), &next
	v.Boot = provedBootOf(r.Boot())
	if update, listed := r.IMA(); listed {
		v.IMA = &provedIMA{Entries: update.Position.Count, New: len(update.Files)}
	}
	for i, q := range r.Requests() {
		one := requestOf(&q)
		if t.reference != nil {
			appraisal := r.Appraise(i, *t.reference)
			ok := appraisal.OK()
			one.Affirmed, one.Checks = &ok, appraisal.Checks()
			v.OK = v.OK && ok
		}
		v.Requests = append(v.Requests, one)
	}
}

func requestOf(q *verify.Request) provedRequest {
	one := provedRequest{Index: q.Index, D: "sha-256:" + q.D.String(), Audience: q.Audience, Actions: orEmpty(q.Actions), Datatypes: orEmpty(q.Datatypes),
		Confirm: q.Confirm.Method, Key: q.Confirm.Thumbprint.String(), Process: q.Instance.String(), WindowNS: q.Window.Nanoseconds(),
		IMAKnown: q.IMA.Known, IMAConfirmed: q.IMA.Confirmed, IMAMissing: []namedFile{}, Checks: []verify.Check{},
		Models: []namedFile{}, Inputs: []namedFile{}, Before: q.Before, After: q.After, Unclean: uncleanLooks(&q.Before, &q.After)}
	if q.Process != nil {
		one.ran(q.Process)
	}
	for _, f := range q.IMA.Missing {
		one.IMAMissing = append(one.IMAMissing, namedFile{f.Path, field(f.Digest, evidence.Digest.String)})
	}
	return one
}

// ran says what was measured of the process that asks.
func (one *provedRequest) ran(p *evidence.Process) {
	if exe, known := p.Exe.Observed(); known {
		one.Exe, one.ExeDigest = exe.Path, field(exe.Digest, evidence.Digest.String)
	}
	if s, known := p.Script.Observed(); !known || s != nil || len(p.Script.Taints()) > 0 {
		one.Script = field(p.Script, func(s *evidence.Script) string {
			return optional(s, func(s evidence.Script) string { return fileText(s.File) + ", bound by " + s.Bound }, "none")
		})
	}
	one.Code = field(p.Code, func(m evidence.Manifest) string { return "sha-256:" + m.Root.String() })
	m, _ := p.Code.Observed()
	one.CodeFiles = m.Count
	one.Models, one.ModelsState = namedFiles(p.Models)
	one.Inputs, one.InputsState = namedFiles(p.Inputs)
}

func namedFiles(v evidence.Value[[]evidence.File]) (files []namedFile, state string) {
	files = []namedFile{}
	list, known := v.Observed()
	for _, f := range list {
		files = append(files, namedFile{f.Path, field(f.Digest, evidence.Digest.String)})
	}
	if !known || len(v.Taints()) > 0 {
		state = strings.TrimSpace(field(v, func([]evidence.File) string { return "" }))
	}
	return files, state
}

// uncleanLooks lists what two looks show, each once.
func uncleanLooks(looks ...*evidence.State) []string {
	out := []string{}
	for _, s := range looks {
		for _, what := range uncleanLook(s) {
			if !slices.Contains(out, what) {
				out = append(out, what)
			}
		}
	}
	return out
}
