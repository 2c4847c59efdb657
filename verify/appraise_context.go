// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jurat-dev/jurat/evidence"
)

// context holds the circumstances of the process against the accepted ones.
func (a *Appraisal) context(p *evidence.Process, ref *Reference) {
	c := &ref.Context
	origins := c.Origins
	if len(origins) == 0 {
		origins = []string{evidence.OriginExec}
	}
	a.judge(AttestorContext, "origin", slices.Contains(origins, p.Origin), origins, []string{quoted(p.Origin)},
		"start the workload while juratd runs, so that its exec is seen")
	oneOf(a, AttestorContext, "unit", c.Units, p.Unit, quoted, "start it by its unit, or: "+a.settings(ref, "context.units"))
	oneOf(a, AttestorContext, "cgroup", c.Cgroups, p.Cgroup, quoted, a.settings(ref, "context.cgroups"))
	if creds, ok := known(a, AttestorContext, "uid", expectation(c.UIDs, number), p.Credentials); ok {
		a.ids("uid", c.UIDs, ref, creds.UID, creds.EUID, creds.SUID, creds.FSUID)
	}
	if creds, ok := known(a, AttestorContext, "gid", expectation(c.GIDs, number), p.Credentials); ok {
		a.ids("gid", c.GIDs, ref, creds.GID, creds.EGID, creds.SGID, creds.FSGID)
	}
	a.userNamespace(p, ref)
	a.container(p, ref)
	a.ancestors(p, ref)
	a.environment(p, ref)
}

// ids wants real, effective, saved and file system id to be accepted.
func (a *Appraisal) ids(check string, set Set[uint32], ref *Reference, ids ...uint32) {
	ok := set.Any || !slices.ContainsFunc(ids, func(id uint32) bool { return !slices.Contains(set.Of, id) })
	a.judge(AttestorContext, check, ok, expectation(set, number), texts(ids, number), "run it as the right user, or: "+a.settings(ref, "context."+check+"s"))
}

func (a *Appraisal) userNamespace(p *evidence.Process, ref *Reference) {
	expected := []string{InitialNamespace}
	whichever := ref.Context.UserNamespace == anyWord
	if whichever {
		expected = []string{anyWord + " measured value"}
	}
	if spaces, ok := known(a, AttestorContext, "user-namespace", expected, p.Namespaces); ok {
		observed := InitialNamespace
		if spaces.User != initialUserNamespace {
			observed = number(spaces.User)
		}
		a.judge(AttestorContext, "user-namespace", whichever || observed == InitialNamespace && (ref.Context.UserNamespace == "" || ref.Context.UserNamespace == InitialNamespace),
			expected, []string{observed}, a.settings(ref, "context.user_namespace"))
	}
}

func (a *Appraisal) container(p *evidence.Process, ref *Reference) {
	set := ref.Context.Containers
	expected := expectation(set, quoted)
	container, ok := known(a, AttestorContext, "container", expected, p.Container)
	if !ok {
		return
	}
	image := NoContainer
	if container != nil {
		if image, ok = known(a, AttestorContext, "container", expected, container.Image); !ok {
			return
		}
	}
	// An image that calls itself "none" is a container all the same.
	listed := slices.Contains(set.Of, image) && (container == nil || image != NoContainer)
	a.judge(AttestorContext, "container", set.Any || listed, expected, []string{quoted(image)}, a.settings(ref, "context.containers"))
}

// ancestors wants every parent's program to be accepted.
func (a *Appraisal) ancestors(p *evidence.Process, ref *Reference) {
	set := ref.Context.Ancestors
	expected := expectation(set, func(s string) string { return s })
	list, ok := known(a, AttestorContext, "ancestors", expected, p.Ancestors)
	if !ok {
		return
	}
	claim := ClaimAffirming
	var wrong []string
	for _, ancestor := range list {
		if set.Any {
			continue
		}
		digest, ok := ancestor.Digest.Get()
		switch {
		case !ok:
			wrong, claim = append(wrong, ancestor.Path+" digest "+state(ancestor.Digest)), worse(claim, doubt(ancestor.Digest))
		case !slices.Contains(set.Of, identity(digest)):
			wrong, claim = append(wrong, identity(digest)+" "+ancestor.Path), ClaimContraindicated
		}
	}
	if !set.Any && len(set.Of) == 0 {
		claim = worse(claim, ClaimNone)
	}
	if wrong == nil {
		wrong = []string{fmt.Sprintf("%d ancestors", len(list))}
	}
	a.add(AttestorContext, "ancestors", expected, wrong, claim, a.settings(ref, "context.ancestors"))
}

// environment holds the variables that the reference names against its values.
func (a *Appraisal) environment(p *evidence.Process, ref *Reference) {
	want := ref.Context.Environment
	if len(want) == 0 {
		return
	}
	var expected []string
	for name, values := range want {
		for _, value := range values {
			expected = append(expected, name+"="+strconv.Quote(value))
		}
	}
	got, ok := known(a, AttestorContext, "environment", expected, p.Environment)
	if !ok {
		return
	}
	good := true
	var observed []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value, set := got[name]
		if !set {
			observed = append(observed, name+" not set")
		} else {
			observed = append(observed, name+"="+strconv.Quote(value))
		}
		good = good && set && slices.Contains(want[name], value)
	}
	a.judge(AttestorContext, "environment", good, expected, observed, a.settings(ref, "context.environment"))
}

// looks wants both looks at the process to be clean (spec/evidence.md section
// 7.1). Before is under the quote, After is the host's word.
func (a *Appraisal) looks(r *Request, ref *Reference) {
	before, after := &r.Before, &r.After
	both := func(b, c any) []string { return []string{fmt.Sprintf("before: %v, after: %v", b, c)} }
	a.judge(AttestorContext, "alive", before.Alive && after.Alive, []string{"alive at both looks"}, both(before.Alive, after.Alive), "")
	generation := r.Instance.Generation
	a.judge(AttestorContext, "generation", before.Generation == generation && after.Generation == generation,
		[]string{"generation " + number(generation) + " at both looks"}, both(before.Generation, after.Generation), "the process called exec meanwhile: ask again")
	a.taints(slices.Concat(before.Taints, after.Taints), ref)
	if known2(a, AttestorContext, "changed", before.Changed, after.Changed) {
		b, _ := before.Changed.Get()
		c, _ := after.Changed.Get()
		a.judge(AttestorContext, "changed", len(b) == 0 && len(c) == 0, []string{"credentials, namespaces, cgroup and root as they were measured"},
			texts(slices.Concat(b, c), func(s string) string { return s + " changed" }), "ask again, so that it is measured as it is now; a start script that drops privileges has to do so first")
	}
	if known2(a, AttestorContext, "tracer", before.Tracer, after.Tracer) {
		b, _ := before.Tracer.Get()
		c, _ := after.Tracer.Get()
		a.judge(AttestorContext, "tracer", b == 0 && c == 0, []string{"no tracer"}, both(b, c), "detach the debugger")
	}
	a.judge(AttestorContext, "loss", before.Lost == after.Lost, []string{"no record lost between the looks"},
		both(fmt.Sprintf("%d in this epoch", before.Lost), after.Lost), "the host was too busy to watch: ask again")
	a.judge(AttestorContext, "window", r.Process.Measured <= before.At && before.At <= after.At,
		[]string{"measured, looked at, quoted, looked at again, in this order"}, []string{"window of " + r.Window.String()}, "")
}

// taints wants the looks to name no taint but those that the reference accepts.
func (a *Appraisal) taints(names []string, ref *Reference) {
	left := ref.Code.forgiven(names)
	expected := []string{"no taint"}
	for _, name := range ref.Code.AcceptedTaints {
		expected = append(expected, name+" is accepted")
	}
	if len(left) == 0 {
		a.pass(AttestorContext, "taint", expected, append(texts(names, describeTaint), "no other"))
		return
	}
	a.fail(AttestorContext, "taint", expected, texts(left, describeTaint), remedies(left))
}

// looksAtCode is the part of the looks that is about what is executable.
func (a *Appraisal) looksAtCode(r *Request) {
	for _, look := range []struct {
		check         string
		before, after evidence.Value[uint64]
		hint          string
	}{
		{"unmeasured", r.Before.Unmeasured, r.After.Unmeasured, "a file was mapped or opened since the measurement, or could not be measured: ask again"},
		{"private-pages", r.Before.Private, r.After.Private, "program text was written to: restart the process"},
	} {
		if known2(a, AttestorCode, look.check, look.before, look.after) {
			b, _ := look.before.Get()
			c, _ := look.after.Get()
			a.judge(AttestorCode, look.check, b == 0 && c == 0, []string{"0 at both looks"}, []string{fmt.Sprintf("before: %d, after: %d", b, c)}, look.hint)
		}
	}
	if known2(a, AttestorCode, "changed-files", r.Before.Missing, r.After.Missing) {
		b, _ := r.Before.Missing.Get()
		c, _ := r.After.Missing.Get()
		a.judge(AttestorCode, "changed-files", len(b) == 0 && len(c) == 0, []string{"no measured file changed"}, slices.Concat(b, c), "restart the process after an update of its files")
	}
}

// known2 wants a field at both looks.
func known2[T any](a *Appraisal, attestor Attestor, check string, before, after evidence.Value[T]) bool {
	for _, v := range []evidence.Value[T]{before, after} {
		if _, ok := known(a, attestor, check, []string{"known at both looks"}, v); !ok {
			return false
		}
	}
	return true
}
