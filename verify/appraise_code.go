// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// match says which reference values a part of the process was found under.
type match struct {
	part   string
	found  bool // every digest of the part is listed
	any    bool // or the reference says that any will do
	values []Value
}

// code holds everything executable in the process against the listed digests,
// and returns what it found for the provenance attestor.
func (a *Appraisal) code(v *verified, r *Request, ref *Reference) []match {
	p := r.Process
	exe := a.executable(p, ref)
	loader, linked := a.loader(p, ref)
	matched := []match{exe}
	if linked {
		matched = append(matched, loader)
	}
	matched = append(matched, a.libraries(p, ref))
	if script, present := a.script(p, exe, ref); present {
		matched = append(matched, script)
	}
	if manifest, present := a.manifest(v, p, exe, ref); present {
		matched = append(matched, manifest)
	}
	if models, present := a.models(v, p, ref); present {
		matched = append(matched, models)
	}
	if inputs, present := a.inputs(p, ref); present {
		matched = append(matched, inputs)
	}
	if list, ok := known(a, AttestorCode, "interference", []string{"no variable that changes what is loaded"}, p.Interference); ok {
		a.judge(AttestorCode, "interference", len(list) == 0, []string{"no variable that changes what is loaded"}, list,
			"start the process without these variables (LD_PRELOAD and the like)")
	}
	return matched
}

// executable wants the program to be listed, and to be what is mapped:
// /proc/PID/exe alone can be replaced by prctl(PR_SET_MM).
func (a *Appraisal) executable(p *evidence.Process, ref *Reference) match {
	m := match{part: "exe"}
	expected := expectation(Set[Value]{Of: ref.Code.Executables}, showValue)
	file, ok := known(a, AttestorCode, "exe-digest", expected, p.Exe)
	if !ok {
		return m
	}
	digest, ok := known(a, AttestorCode, "exe-digest", expected, file.Digest)
	if !ok {
		return m
	}
	value, found := find(ref.Code.Executables, digest)
	a.judge(AttestorCode, "exe-digest", found, expected, []string{showFile(file)}, addHint(ref, "", digest))
	if found {
		m.found, m.values = true, []Value{value}
	}
	if files, ok := known(a, AttestorCode, "exe-mapped", []string{identity(digest)}, despite(p.Maps, &ref.Code)); ok {
		mapped := slices.ContainsFunc(files, func(f evidence.File) bool { return digestOf(f) == identity(digest) })
		a.judge(AttestorCode, "exe-mapped", mapped, []string{identity(digest)}, texts(files, digestOf),
			"the program file is not what the process executes: restart it")
	}
	return m
}

// loader wants the ELF interpreter to be listed. A static program has none.
func (a *Appraisal) loader(p *evidence.Process, ref *Reference) (m match, linked bool) {
	m = match{part: "loader", any: ref.Code.Loaders.Any}
	expected := expectation(ref.Code.Loaders, showValue)
	file, ok := known(a, AttestorCode, "loader", expected, p.Loader)
	if !ok {
		return m, true
	}
	if file == nil {
		a.pass(AttestorCode, "loader", expected, []string{"statically linked"})
		return m, false
	}
	digest, ok := known(a, AttestorCode, "loader", expected, file.Digest)
	if !ok {
		return m, true
	}
	value, found := find(ref.Code.Loaders.Of, digest)
	a.judge(AttestorCode, "loader", found || m.any, expected, []string{showFile(*file)}, addHint(ref, "loaders", digest))
	if found {
		m.found, m.values = true, []Value{value}
	}
	return m, true
}

// libraries wants every other executable mapping to be of a listed file. Where
// any will do, each must still have been measured.
func (a *Appraisal) libraries(p *evidence.Process, ref *Reference) match {
	m := match{part: "libraries", any: ref.Code.Libraries.Any}
	expected := expectation(ref.Code.Libraries, showValue)
	files, ok := known(a, AttestorCode, "libraries", expected, despite(p.Maps, &ref.Code))
	if !ok {
		return m
	}
	own := a.ownDigests(p)
	listed := byDigest(ref.Code.Libraries.Of)
	var wrong, paths []string
	var hint string
	claim := ClaimAffirming
	for _, file := range files {
		digest, ok := file.Digest.Get()
		if !ok {
			wrong, claim = append(wrong, file.Path+" digest "+state(file.Digest)), worse(claim, doubt(file.Digest))
			continue
		}
		if slices.Contains(own, identity(digest)) {
			continue
		}
		value, found := listed[identity(digest)]
		switch {
		case found:
			m.values = append(m.values, value)
		case !m.any:
			wrong, paths, claim, hint = append(wrong, showFile(file)), append(paths, file.Path), ClaimContraindicated, addHint(ref, "libraries", digest)
		}
	}
	m.found = len(wrong) == 0
	if m.found {
		wrong = []string{fmt.Sprintf("%d files mapped executable, all accepted", len(files))}
	} else {
		expected = near(ref.Code.Libraries, paths)
	}
	a.add(AttestorCode, "libraries", expected, wrong, claim, hint)
	return m
}

// ownDigests are the program's and its loader's, which have their own checks.
func (a *Appraisal) ownDigests(p *evidence.Process) (own []string) {
	if exe, ok := p.Exe.Get(); ok {
		own = append(own, digestOf(exe))
	}
	if loader, _ := p.Loader.Get(); loader != nil {
		own = append(own, digestOf(*loader))
	}
	return own
}

// script wants a listed script under an interpreter, and under anything else
// none that is not listed.
func (a *Appraisal) script(p *evidence.Process, exe match, ref *Reference) (m match, present bool) {
	m = match{part: "script"}
	interpreter := interprets(exe)
	expected := append(texts(ref.Code.Scripts, showValue), "none")
	if interpreter {
		expected = expectation(Set[Value]{Of: ref.Code.Scripts}, showValue)
	}
	script, ok := known(a, AttestorCode, "script", expected, p.Script)
	if !ok {
		return m, true
	}
	if script == nil {
		a.judge(AttestorCode, "script", !interpreter, expected, []string{"none"}, "this interpreter may only run a listed script, started by its file")
		return m, interpreter
	}
	digest, ok := known(a, AttestorCode, "script", expected, script.File.Digest)
	if !ok {
		return m, true
	}
	value, found := find(ref.Code.Scripts, digest)
	a.judge(AttestorCode, "script", found, expected, []string{showFile(script.File)}, addHint(ref, "scripts", digest))
	if found {
		m.found, m.values = true, []Value{value}
	}
	a.bound(script, ref)
	return m, true
}

// bound wants the script to be known in a way that is as strong as asked for.
func (a *Appraisal) bound(script *evidence.Script, ref *Reference) {
	want := ref.Code.Bound
	if want == "" {
		want = evidence.BoundArgument
	}
	expected, observed := []string{"at least " + quoted(want)}, []string{quoted(script.Bound)}
	if boundRank(want) > 0 && boundRank(script.Bound) >= boundRank(want) {
		a.pass(AttestorCode, "script-bound", expected, observed)
		return
	}
	a.add(AttestorCode, "script-bound", expected, observed, ClaimWarning,
		"start the script by its own file (#!) on a host whose sensor has the tier lsm or trampoline, or the gate; or: "+a.settings(ref, "code.bound"))
}

// provenance wants somebody to vouch for every listed digest that was found.
func (a *Appraisal) provenance(matched []match, ref *Reference) {
	want := vouchRank(ref.Minimum.Provenance)
	expected := []string{"at least " + quoted(ref.Minimum.Provenance)}
	if want == 0 {
		a.add(AttestorProvenance, "minimum", []string{"a minimum in the reference values"}, []string{quoted(ref.Minimum.Provenance)}, ClaimNone, a.settings(ref, "minimum.provenance"))
		return
	}
	for _, m := range matched {
		claim, hint := ClaimAffirming, ""
		var observed []string
		if !m.found && !m.any {
			claim, observed = ClaimNone, []string{"no reference value, so nobody vouches for it"}
		}
		for _, v := range m.values {
			observed = append(observed, vouched(v))
			switch {
			case vouchRank(v.Provenance) == 0 || v.By == "" || v.At.IsZero():
				claim, hint = worse(claim, ClaimNone), "the reference value "+v.Digest+" has to say by whom and when it was accepted"
			case vouchRank(v.Provenance) < want:
				claim, hint = worse(claim, ClaimWarning), "the reference value "+v.Digest+" needs a verified statement of its builder"
			}
		}
		switch {
		case observed != nil:
		case m.any:
			observed = []string{"any, by the reference values"}
		default:
			observed = []string{"nothing but the program and its loader"}
		}
		a.add(AttestorProvenance, m.part, expected, observed, claim, hint)
	}
}

func vouched(v Value) string {
	if v.By == "" || v.At.IsZero() {
		return v.Digest + " " + quoted(v.Provenance) + " by nobody"
	}
	return v.Digest + " " + v.Provenance + " by " + v.By + " on " + v.At.UTC().Format(time.DateOnly)
}

func find(values []Value, digest evidence.Digest) (Value, bool) {
	text := identity(digest)
	if at := slices.IndexFunc(values, func(v Value) bool { return v.Digest == text }); at >= 0 {
		return values[at], true
	}
	return Value{}, false
}

// identity is what a digest is compared by. One that was obtained in a way this
// version does not know (spec/evidence.md section 3.3) equals no listed digest.
func identity(d evidence.Digest) string {
	if rank(d.Source, evidence.SourceRead, evidence.SourceCache, evidence.SourceIMA, evidence.SourceFSVerity) == 0 {
		return d.String() + " from " + quoted(d.Source)
	}
	return d.String()
}

// digestOf returns a file's digest, or a text that no digest is.
func digestOf(f evidence.File) string {
	if digest, ok := f.Digest.Get(); ok {
		return identity(digest)
	}
	return state(f.Digest)
}

func showFile(f evidence.File) string { return digestOf(f) + " " + f.Path }

func showValue(v Value) string {
	if v.Label == "" {
		return v.Digest
	}
	return v.Digest + " (" + v.Label + ")"
}

// addHint says how an operator accepts the digest in a group of the reference
// values; executables is the command's own default.
func addHint(ref *Reference, group string, digest evidence.Digest) string {
	if group != "" {
		group = " --group " + group
	}
	return fmt.Sprintf("if this file is right: jurat refs add %s %s%s --label … --reason …", workload(ref), clean(digest.String()), group)
}

// kernelList says which of the process's files the kernel itself measured in
// this boot. Whether that has to be all of them is for the reference values.
func (a *Appraisal) kernelList(r *Request, state evidence.Value[evidence.Hash], ref *Reference) {
	observed := []string{"no IMA list: " + state.String()}
	if r.IMA.Known {
		observed = []string{fmt.Sprintf("%d files confirmed, %d not covered", r.IMA.Confirmed, len(r.IMA.Missing))}
		for _, f := range r.IMA.Missing {
			observed = append(observed, "not covered: "+f.Path)
		}
	}
	expected := []string{"at least " + quoted(ref.Minimum.IMA)}
	switch rank := imaRank(ref.Minimum.IMA); {
	case rank == 0:
		a.add(AttestorCode, "ima", []string{"a minimum in the reference values"}, []string{quoted(ref.Minimum.IMA)}, ClaimNone, a.settings(ref, "minimum.ima"))
	case rank == imaRank(IMANone), r.IMA.Known && len(r.IMA.Missing) == 0 && r.IMA.Confirmed > 0:
		a.pass(AttestorCode, "ima", expected, observed)
	case !r.IMA.Known:
		a.add(AttestorCode, "ima", expected, observed, ClaimNone, "the host's kernel has to measure with ima_policy=tcb, or: "+a.settings(ref, "minimum.ima"))
	default:
		a.add(AttestorCode, "ima", expected, observed, ClaimWarning, "the IMA policy does not cover these files, or measured them by another digest than SHA-256")
	}
}
