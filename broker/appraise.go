// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/broker/internal/challenge"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// record is what is kept of an appraised request until its reference is spent.
// Everything in it was verified; nothing of the bundle is asked again.
type record struct {
	Index     uint64                           `json:"index"`
	Txn       string                           `json:"txn"`
	Asked     time.Time                        `json:"asked"` // when the challenge was made: evidence is newer
	Host      string                           `json:"host"`
	Epoch     uint64                           `json:"epoch"` // of the host
	Instance  string                           `json:"instance"`
	D         evidence.Hash                    `json:"d"`
	Audience  string                           `json:"audience"`
	Actions   []string                         `json:"actions"`
	Datatypes []string                         `json:"datatypes"`
	Method    string                           `json:"method"`
	Key       evidence.Bytes                   `json:"key"`   // thumbprint
	Known     bool                             `json:"known"` // the delegation is there
	ID        string                           `json:"id"`    // of the delegation
	Workload  string                           `json:"workload"`
	Bearer    bool                             `json:"bearer"`
	Lifetime  int                              `json:"lifetime"`
	Documents documents                        `json:"documents"`
	Refs      evidence.Bytes                   `json:"refs"`
	Digest    evidence.Hash                    `json:"digest"`
	Level     oauth.Level                      `json:"level"`
	Vector    map[verify.Attestor]verify.Claim `json:"vector"`
	OK        bool                             `json:"ok"`
	Failed    []station                        `json:"failed"`
	Passed    []station                        `json:"passed"`
}

// documents are the registrations that were applied, by digest: if they
// change before the token is issued, the appraisal is not worth anything.
type documents struct {
	Workload evidence.Hash `json:"workload"`
	Machine  string        `json:"machine_class"`
	Boot     evidence.Hash `json:"machine"` // zero: the class has no registration
}

// appraisal is a record on its way into the store.
type appraisal struct {
	record record
	ear    verify.EAR
}

// target is what one delegation's workload must look like on one host.
type target struct {
	delegation store.Delegation
	object     *delegation.Delegation
	workload   *registration.Workload
	documents  documents
	reference  verify.Reference
	refs       evidence.Bytes
	missing    *station // what keeps it from being appraised at all
}

// appraise holds every request of a true bundle against what is registered for
// the workload its delegation names.
func (b *Broker) appraise(ctx context.Context, s *submission) ([]*appraisal, *oauth.Error) {
	requests := s.result.Requests()
	targets := make(map[evidence.Hash]*target)
	err := b.store.View(ctx, func(r *store.Reader) error {
		for i := range requests {
			d := requests[i].D
			if targets[d] != nil {
				continue
			}
			t, err := b.target(r, d, s.host.Machine)
			if err != nil {
				return err
			}
			targets[d] = t
		}
		return nil
	})
	if err != nil {
		return nil, b.unwritable("looking up registrations", err)
	}
	out := make([]*appraisal, len(requests))
	for i := range requests {
		out[i] = judge(s, i, &requests[i], targets[requests[i].D])
	}
	return out, nil
}

// target reads what is registered for a delegation. What is not there is no
// error: then nothing can match.
func (b *Broker) target(r *store.Reader, d evidence.Hash, class string) (*target, error) {
	t := &target{documents: documents{Machine: class}}
	var err error
	if t.delegation, err = r.DelegationByD(d); errors.Is(err, store.ErrNotFound) {
		t.missing = &station{Number: 9, Attestor: attestorDelegation, Check: "known", Expected: []string{"a delegation of this broker"},
			Observed: []string{delegation.Text(d)}, Hint: "jurat delegation request"}
		return t, nil
	} else if err != nil {
		return nil, err
	}
	if t.object, err = delegation.Parse(t.delegation.Object); err != nil {
		return nil, fmt.Errorf("delegation %s: %v", t.delegation.ID, err)
	}
	document, err := r.Document(store.KindWorkload, t.object.Workload.ID)
	if errors.Is(err, store.ErrNotFound) {
		t.missing = &station{Number: 9, Attestor: string(verify.AttestorCode), Check: "registered", Expected: []string{"reference values for " + t.object.Workload.ID},
			Observed: []string{"none"}, Hint: "jurat apply -f FILE"}
		return t, nil
	} else if err != nil {
		return nil, err
	}
	if t.workload, err = registration.ParseWorkload(document.Body); err != nil {
		return nil, err
	}
	t.documents.Workload = document.Digest
	machine, err := b.machine(r, class, &t.documents)
	if err != nil {
		return nil, err
	}
	t.reference = t.workload.Reference(machine)
	body, err := json.Marshal(&t.reference)
	sum := sha256.Sum256(body)
	t.refs = sum[:]
	return t, err
}

// machine reads the registration of a class; nil if there is none.
func (b *Broker) machine(r *store.Reader, class string, d *documents) (*registration.Machine, error) {
	document, err := r.Document(store.KindMachine, class)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d.Boot = document.Digest
	return registration.ParseMachine(document.Body)
}

// judge is one request against its target.
func judge(s *submission, i int, q *verify.Request, t *target) *appraisal {
	a := &appraisal{}
	r := &a.record
	*r = record{
		Index: q.Index, Asked: s.end.Add(-challenge.Life), Host: s.host.ID, Epoch: s.result.Next().Epoch, D: q.D,
		Instance: s.result.Next().BootID.String() + ":" + q.Instance.String(),
		Audience: q.Audience, Actions: slices.Sorted(slices.Values(q.Actions)), Datatypes: slices.Sorted(slices.Values(q.Datatypes)),
		Method: q.Confirm.Method, Key: q.Confirm.Thumbprint, ID: t.delegation.ID, Known: t.object != nil, Documents: t.documents, Refs: t.refs,
		Digest: s.result.Digest(), Level: oauth.Level{EK: s.result.Level(), Anchor: s.result.Anchor(), Tier: s.result.Tier()},
		Failed: []station{}, Passed: []station{},
	}
	if t.object != nil {
		r.Workload = t.object.Workload.ID
	}
	if t.missing != nil {
		r.take(*t.missing, false)
		a.ear = verify.Appraisal{}.EAR()
		a.ear.IssuedAt = s.now.Unix()
		return a
	}
	r.Bearer, r.Lifetime = t.workload.Bearer, t.workload.Lifetime
	found := s.result.Appraise(i, t.reference)
	for _, c := range found.Checks() {
		r.take(station{Number: 8, Attestor: string(c.Attestor), Check: c.Check, Expected: c.Expected, Observed: c.Observed, Hint: c.Hint}, c.OK)
	}
	r.Vector, a.ear = found.Vector(), found.EAR()
	r.class(s.host.Machine, t.workload)
	r.promised(q.Process, t.object)
	r.OK = found.OK() && len(r.Failed) == 0
	if found.OK() && !r.OK {
		a.ear.Status = verify.ClaimContraindicated.String()
	}
	return a
}

func (r *record) take(s station, ok bool) {
	if ok {
		s.Hint = ""
		r.Passed = append(r.Passed, s)
		return
	}
	r.Failed = append(r.Failed, s)
}

// class holds the host's machine class against those the workload may run on.
func (r *record) class(class string, w *registration.Workload) {
	r.take(station{Number: 9, Attestor: string(verify.AttestorBoot), Check: "machine-class", Expected: w.Machines, Observed: []string{class},
		Hint: "add the class to machines of " + w.ID + ", or enrol the host in another: jurat host add --machine"}, w.Allows(class))
}

// promised holds the request against what the human signed about the workload:
// levels, digests of the program, digests of models.
func (r *record) promised(p *evidence.Process, o *delegation.Delegation) {
	l := o.Workload.Levels
	seen := delegation.Levels{EK: r.Level.EK, Anchor: r.Level.Anchor, Tier: r.Level.Tier}
	r.take(station{Number: 9, Attestor: attestorDelegation, Check: "min-levels", Expected: []string{"ek " + l.EK, "anchor " + l.Anchor, "tier " + l.Tier},
		Observed: []string{"ek " + seen.EK, "anchor " + seen.Anchor, "tier " + seen.Tier}}, l.Reached(seen) == nil)
	if len(o.Workload.Code) > 0 {
		exe, known := p.Exe.Get()
		digest, measured := exe.Digest.Get()
		ok := known && measured && digest.Algorithm == "sha-256" && len(digest.Value) == 32 && slices.Contains(o.Workload.Code, evidence.Hash(digest.Value))
		r.take(station{Number: 9, Attestor: attestorDelegation, Check: "code-ref", Expected: hashes(o.Workload.Code), Observed: []string{digest.String()},
			Hint: "the human approved another program: jurat delegation request"}, ok)
	}
	if len(o.Workload.Models) > 0 {
		r.models(p.Models, o.Workload.Models)
	}
}

// models wants the process to have opened models, and none but those that the
// human named.
func (r *record) models(opened evidence.Value[[]evidence.File], named []evidence.Hash) {
	files, ok := opened.Get()
	observed := []string{}
	if !ok {
		observed = append(observed, "unknown ("+opened.Reason()+strings.Join(opened.Taints(), ", ")+")")
	} else if len(files) == 0 {
		observed, ok = append(observed, "no model opened"), false
	}
	for _, f := range files {
		digest, measured := f.Digest.Get()
		ok = ok && measured && digest.Algorithm == "sha-256" && len(digest.Value) == 32 && slices.Contains(named, evidence.Hash(digest.Value))
		observed = append(observed, digest.String()+" "+f.Path)
	}
	r.take(station{Number: 9, Attestor: attestorDelegation, Check: "model-ref", Expected: hashes(named), Observed: observed,
		Hint: "the human approved another model: jurat delegation request"}, ok)
}

func hashes(list []evidence.Hash) []string {
	out := make([]string, len(list))
	for i, h := range list {
		out[i] = "sha-256:" + h.String()
	}
	return out
}

// describe fills an entry and its explanation from the record.
func (r *record) describe(d *decision) {
	e := &d.entry
	e.Agent, e.Host, e.Instance, e.Audience, e.Actions = r.Workload, r.Host, r.Instance, r.Audience, r.Actions
	e.DelegationID, e.D, e.Evidence, e.Refs = r.ID, digestBytes(r.D), digestBytes(r.Digest), r.Refs
	e.Attestors = attestorClaims(r.Vector)
	if !r.Documents.Workload.IsZero() {
		e.Policy = digestBytes(r.Documents.Workload)
		d.why.Policy = "sha-256:" + r.Documents.Workload.String()
	}
	d.fail(r.Failed...)
	d.why.Checks = append(d.why.Checks, r.Passed...)
	for _, attestor := range []verify.Attestor{verify.AttestorHardware, verify.AttestorBoot, verify.AttestorCode, verify.AttestorProvenance, verify.AttestorContext} {
		if r.Vector[attestor] == verify.ClaimAffirming && !slices.ContainsFunc(r.Failed, func(s station) bool { return s.Attestor == string(attestor) }) {
			d.why.Passed = append(d.why.Passed, string(attestor))
		}
	}
}
