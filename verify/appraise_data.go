// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"path"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// manifest holds the code files that the process opened against the accepted
// manifests, then each against the accepted files. What a program opens that is
// no interpreter is code only in name: there a reference may say "any" and take
// even a manifest that is not known. present: there is something to vouch for.
func (a *Appraisal) manifest(v *verified, p *evidence.Process, exe match, ref *Reference) (m match, present bool) {
	c := &ref.Code
	m = match{part: "manifest", any: c.Files.Any}
	interpreter := interprets(exe)
	expected := expectation(Set[Value]{Of: slices.Concat(c.Manifests, c.Files.Of), Any: m.any}, showValue)
	code := p.Code
	if why, ok := v.seen(signalCodeOpen); !ok {
		code = evidence.Unknown[evidence.Manifest]("signal " + signalCodeOpen + " is " + why)
	}
	if _, ok := code.Get(); !ok && m.any && !interpreter {
		a.pass(AttestorCode, "manifest", []string{"anything: this program is no interpreter"}, []string{state(code)})
		return m, true
	}
	got, ok := known(a, AttestorCode, "manifest", expected, code)
	if !ok {
		return m, true
	}
	root := evidence.Digest{Algorithm: "sha-256", Value: got.Root[:], Source: evidence.SourceRead}
	shown := fmt.Sprintf("manifest %s of %d files", root, got.Count)
	if value, found := find(c.Manifests, root); found {
		a.pass(AttestorCode, "manifest", expected, []string{shown})
		m.found, m.values = true, []Value{value}
		return m, true
	}
	switch {
	case m.any || got.Count == 0 && !interpreter:
		a.pass(AttestorCode, "manifest", expected, []string{shown})
		return m, m.any
	case got.Count == 0:
		a.fail(AttestorCode, "manifest", expected, []string{"this interpreter opened no code file"}, "start it with its script as a file, or: "+addHint(ref, "manifests", root))
		return m, true
	case len(got.Files) == 0:
		a.fail(AttestorCode, "manifest", expected, []string{shown + ", too many to be listed"}, addHint(ref, "manifests", root))
		return m, true
	}
	return a.files(shown, root, got.Files, m, ref), true
}

// files wants each file of a manifest to be accepted, as a code file or as a
// part of the program.
func (a *Appraisal) files(shown string, root evidence.Digest, files []evidence.CodeFile, m match, ref *Reference) match {
	c := &ref.Code
	accepted := slices.Concat(c.Files.Of, c.Scripts, c.Executables, c.Libraries.Of, c.Loaders.Of)
	listed := byDigest(accepted)
	var observed, paths []string
	var hint string
	for _, f := range files {
		digest := evidence.Digest{Algorithm: "sha-256", Value: f.Digest[:], Source: evidence.SourceRead}
		if value, found := listed[digest.String()]; found {
			m.values = append(m.values, value)
			continue
		}
		if observed == nil {
			hint = addHint(ref, "files", digest) + "; all of them at once: --group manifests " + root.String()
		}
		observed, paths = append(observed, digest.String()+" "+f.Path), append(paths, f.Path)
	}
	expected := near(Set[Value]{Of: slices.Concat(c.Manifests, accepted)}, paths)
	if m.found = observed == nil; m.found {
		observed = []string{shown + ", all accepted"}
	}
	a.judge(AttestorCode, "manifest", m.found, expected, observed, hint)
	return m
}

// models holds the model weights that the process opened against the accepted
// ones.
func (a *Appraisal) models(v *verified, p *evidence.Process, ref *Reference) (match, bool) {
	models := p.Models
	if why, ok := v.seen(signalModelOpen); !ok {
		models = evidence.Unknown[[]evidence.File]("signal " + signalModelOpen + " is " + why)
	}
	return a.fed("models", "opened", ref.Code.Models, models, ref)
}

// inputs holds the files that the host's operator declares as inputs against
// the accepted ones.
func (a *Appraisal) inputs(p *evidence.Process, ref *Reference) (match, bool) {
	return a.fed("inputs", "declared on the host", ref.Code.Inputs, p.Inputs, ref)
}

// fed wants each file of a list to be accepted, and each required value to be
// among them.
func (a *Appraisal) fed(part, how string, set Set[Value], v evidence.Value[[]evidence.File], ref *Reference) (m match, present bool) {
	m = match{part: part, any: set.Any}
	expected := expectation(set, showValue)
	files, ok := known(a, AttestorCode, part, expected, v)
	if !ok {
		return m, true
	}
	listed := byDigest(set.Of)
	there := make(map[string]bool, len(files))
	var wrong, paths []string
	var hint string
	claim := ClaimAffirming
	for _, file := range files {
		digest, ok := file.Digest.Get()
		if !ok {
			wrong, claim = append(wrong, "digest "+state(file.Digest)+" "+file.Path), worse(claim, doubt(file.Digest))
			hint = remedies(file.Digest.Taints())
			continue
		}
		there[identity(digest)] = true
		if value, found := listed[identity(digest)]; found {
			m.values = append(m.values, value)
		} else if !m.any {
			wrong, paths, claim, hint = append(wrong, showFile(file)), append(paths, file.Path), ClaimContraindicated, addHint(ref, part, digest)
		}
	}
	for _, value := range set.Of {
		if value.Required && !there[value.Digest] {
			wrong, claim = append(wrong, "not "+how+": "+showValue(value)), ClaimContraindicated
		}
	}
	if m.found = len(wrong) == 0; m.found {
		wrong = []string{fmt.Sprintf("%d %s, all accepted", len(files), how)}
	} else {
		expected = near(set, paths)
	}
	a.add(AttestorCode, part, expected, wrong, claim, hint)
	return m, len(files) > 0 || !m.found
}

// interprets says whether the program is listed as an interpreter.
func interprets(exe match) bool {
	return slices.ContainsFunc(exe.values, func(v Value) bool { return v.Interpreter })
}

func byDigest(values []Value) map[string]Value {
	out := make(map[string]Value, len(values))
	for _, v := range values {
		out[v.Digest] = v
	}
	return out
}

// near narrows what was expected to the values that are labelled like the files
// that are wrong, so that a person sees the two digests of one file side by
// side. Labels are words for people, and decide nothing.
func near(set Set[Value], paths []string) []string {
	var like []Value
	for _, p := range paths {
		for _, v := range set.Of {
			if v.Label != "" && (v.Label == p || path.Base(v.Label) == path.Base(p)) {
				like = append(like, v)
			}
		}
	}
	if like == nil {
		return expectation(set, showValue)
	}
	return texts(like, showValue)
}
