// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// Appraise holds one request of the result against reference values. request
// is its position in [Result.Requests]. Every attestor looks at everything it
// has, so that a person sees all that is wrong at once. A Result that is not OK
// and a request that does not exist are refused.
func (r Result) Appraise(request int, ref Reference) Appraisal {
	v := r.get()
	a := Appraisal{id: ref.ID, at: v.at}
	if request < 0 || request >= len(v.requests) {
		a.fail(AttestorHardware, "evidence", []string{"verified evidence"}, []string{"none"}, "")
		return a
	}
	subject := &v.requests[request]
	a.hardware(v, &ref)
	a.signals(v, &ref)
	a.boot(v, &ref)
	matched := a.code(v, subject, &ref)
	a.looksAtCode(subject)
	a.kernelList(subject, v.imaState, &ref)
	a.provenance(matched, &ref)
	a.context(subject.Process, &ref)
	a.looks(subject, &ref)
	return a
}

func (a *Appraisal) hardware(v *verified, ref *Reference) {
	a.pass(AttestorHardware, "evidence", []string{"verified evidence"}, []string{"quote " + v.digest.String()})
	for _, step := range []struct {
		check, field, want, got string
		rank                    func(string) int
	}{
		{"ek-level", "minimum.ek", ref.Minimum.EK, v.level, levelRank},
		{"anchor", "minimum.anchor", ref.Minimum.Anchor, v.anchor, anchorRank},
		{"tier", "minimum.tier", ref.Minimum.Tier, v.tier, tierRank},
	} {
		expected, observed := []string{"at least " + quoted(step.want)}, []string{step.got}
		switch {
		case step.rank(step.want) == 0:
			a.add(AttestorHardware, step.check, []string{"a minimum in the reference values"}, []string{quoted(step.want)}, ClaimNone, a.settings(ref, step.field))
		case step.rank(step.got) < step.rank(step.want):
			a.add(AttestorHardware, step.check, expected, observed, ClaimWarning, a.settings(ref, step.field))
		default:
			a.pass(AttestorHardware, step.check, expected, observed)
		}
	}
}

// settings is the hint for what only the reference values can change.
func (a *Appraisal) settings(ref *Reference, field string) string {
	return fmt.Sprintf("%s of %s is set by: jurat apply -f FILE", field, workload(ref))
}

func workload(ref *Reference) string {
	if ref.Workload == "" {
		return "WORKLOAD"
	}
	return clean(ref.Workload)
}

// known returns a measured value, or adds the check that fails for want of it.
func known[T any](a *Appraisal, attestor Attestor, check string, expected []string, v evidence.Value[T]) (T, bool) {
	value, ok := v.Get()
	if !ok {
		a.add(attestor, check, expected, []string{state(v)}, doubt(v), remedies(v.Taints()))
	}
	return value, ok
}

// state describes a value that is not known, without the value.
func state[T any](v evidence.Value[T]) string {
	if taints := v.Taints(); len(taints) > 0 {
		return "tainted (" + strings.Join(taints, ", ") + ")"
	}
	return "unknown (" + v.Reason() + ")"
}

// doubt is what a value that is not known amounts to.
func doubt[T any](v evidence.Value[T]) Claim {
	if _, seen := v.Observed(); seen {
		return ClaimContraindicated
	}
	return ClaimNone
}

// oneOf holds a measured value against a set.
func oneOf[T comparable](a *Appraisal, attestor Attestor, check string, set Set[T], v evidence.Value[T], show func(T) string, hint string) {
	expected := expectation(set, show)
	if value, ok := known(a, attestor, check, expected, v); ok {
		a.judge(attestor, check, set.Any || slices.Contains(set.Of, value), expected, []string{show(value)}, hint)
	}
}

// expectation lists a set for people.
func expectation[T any](set Set[T], show func(T) string) []string {
	switch {
	case set.Any:
		return []string{anyWord + " measured value"}
	case len(set.Of) == 0:
		return []string{"nothing: the reference values list none"}
	}
	return texts(set.Of, show)
}

func texts[T any](list []T, show func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = show(v)
	}
	return out
}
