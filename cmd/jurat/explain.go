// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

func (a *app) explainCommand() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use:   "explain PID",
		Short: "one process in full, as evidence would have it now",
		Long: `Measures the process now, as if it asked for a credential, and shows all of it:
program, script, code, models, context, parents, what spoilt it, and what this
host cannot see; at last what to expect of a broker. Nothing is logged or sent.

With -v: each library and each file of code, with digests in full.`,
		Example: "  jurat explain 4711\n  jurat explain 4711 -v | less",
		Args:    arguments("PID"),
		RunE: func(c *cobra.Command, args []string) error {
			pid, err := parsePID(c, args[0])
			if err != nil {
				return err
			}
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			x, err := a.agent().Explain(ctx, pid)
			if err != nil {
				return explainFailed(err, pid)
			}
			out := &explainJSON{"jurat.explain/v1", x}
			return a.emit(out, func(p *term.Printer) { a.showExplanation(p, x, verbose) })
		},
		ValidArgsFunction: a.completePID,
	}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "list every library and every file of code")
	return c
}

// explainFailed makes of a process that is gone or was never seen what it is:
// nobody refused anything.
func explainFailed(err error, pid uint32) error {
	said, ok := errors.AsType[*local.Error](err)
	if !ok || said.Code != local.CodeExited && said.Code != local.CodePeer && said.Code != local.CodeExec {
		return err
	}
	f := notKnown(pid)
	f.err = err
	return f
}

// explainJSON is jurat.explain/v1.
type explainJSON struct {
	Schema string `json:"schema"`
	*local.Explanation
}

func (a *app) showExplanation(p *term.Printer, x *local.Explanation, verbose bool) {
	s, m := &x.Summary, x.Process
	standing := s.Standing
	if names := taintNames(s); len(names) > 0 {
		standing += ": " + strings.Join(names, ", ")
	}
	p.Styled(term.Bold, "%s", program(s))
	p.Fields("  ",
		term.Field{Label: "process", Value: fmt.Sprintf("%d of %s, runs this for %s (exec %d), %s", s.Instance.PID, a.userName(s.UID), a.age(s.At), s.Instance.Generation, originText(s.Origin))},
		term.Field{Label: "calls itself", Value: s.Command + " (a hint)"},
		term.Field{Label: "standing", Value: standing, Style: standingStyles[s.Standing]},
		term.Field{Label: "credentials", Value: fmt.Sprintf("%d held", s.Holds)},
	)
	section(p, "Program")
	p.Fields("  ", slices.Concat(
		file("executable", m.Exe, verbose),
		file("loader", deref(m.Loader), verbose),
		file("script", scriptFile(m.Script), verbose),
		[]term.Field{
			{Label: "bound by", Value: boundText(m.Script)},
			{Label: "arguments", Value: field(m.Arguments, evidence.Hash.String)},
		},
		libraries(m.Maps, verbose),
		code(m.Code, verbose),
	)...)
	section(p, "Data")
	p.Fields("  ", slices.Concat(
		listed("model", m.Models, verbose),
		hashing(x.Models),
		listed("input", m.Inputs, verbose),
	)...)
	section(p, "Context")
	p.Fields("  ", contextFields(m)...)
	section(p, "Made by")
	showAncestors(p, m.Ancestors)
	a.showSpoilt(p, s)
	section(p, "The look now")
	unclean := uncleanLook(&x.State)
	if len(unclean) == 0 {
		p.Row(term.Green, "  clean", "")
	}
	for _, u := range unclean {
		p.Row(term.Red, "  "+u, "")
	}
	showBlind(p, x)
	p.Blank()
	expect, next := conclusion(x, unclean)
	p.Styled(term.Bold, "%s", expect)
	for _, n := range next {
		p.Line("  next: %s", n)
	}
}

func (a *app) showSpoilt(p *term.Printer, s *local.Process) {
	if len(s.Taints) == 0 {
		return
	}
	section(p, "What spoilt it")
	rows := make([][]term.Cell, 0, len(s.Taints))
	for _, t := range s.Taints {
		by := "not known"
		if t.By != nil {
			by = fmt.Sprintf("process %d", t.By.PID)
		}
		rows = append(rows, []term.Cell{{Text: t.Name, Style: term.Red}, {Text: sinceBoot(t.At)}, {Text: by}, {Text: t.How}})
	}
	p.Table("  ", []string{"TAINT", "WHEN", "DONE BY", "SEEN BY"}, rows)
}

// uncleanLook lists what a look shows that no broker accepts as it is.
func uncleanLook(s *evidence.State) (out []string) {
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(!s.Alive, "it has ended")
	for _, t := range s.Taints {
		out = append(out, "tainted: "+t)
	}
	number := func(v evidence.Value[uint64], what string) {
		n, ok := v.Get()
		add(ok && n > 0, "%d %s", n, what)
		add(!ok, "%s: %s", what, field(v, func(n uint64) string { return fmt.Sprint(n) }))
	}
	number(s.Unmeasured, "executable mappings, code files or models without a measured file")
	number(s.Private, "executable pages that were written to")
	tracer, ok := s.Tracer.Get()
	add(ok && tracer != 0, "process %d traces it", tracer)
	add(!ok, "tracer: %s", field(s.Tracer, func(n uint32) string { return fmt.Sprint(n) }))
	for _, v := range []struct {
		what string
		list evidence.Value[[]string]
	}{{"changed since it was measured", s.Missing}, {"not what was measured", s.Changed}} {
		list, ok := v.list.Get()
		add(ok && len(list) > 0, "%s: %s", v.what, strings.Join(list, ", "))
		add(!ok, "%s: %s", v.what, field(v.list, listText))
	}
	return out
}

// showBlind lists what this host cannot see, by why.
func showBlind(p *term.Printer, x *local.Explanation) {
	why := make(map[string][]string)
	var order []string
	for _, g := range x.Signals {
		if _, ok := g.By.Get(); ok {
			continue
		}
		reason := orWord(g.By.Reason(), "tainted")
		if why[reason] == nil {
			order = append(order, reason)
		}
		why[reason] = append(why[reason], g.Name)
	}
	if len(order) == 0 {
		return
	}
	section(p, "Not seen on this host (tier %s)", x.Tier)
	var fields []term.Field
	for _, reason := range order {
		fields = append(fields, term.Field{Label: reason, Value: strings.Join(why[reason], ", ")})
		if remedy := remedies[reason]; remedy != "" {
			fields = append(fields, term.Field{Value: "it would take " + remedy, Style: term.Dim})
		}
	}
	p.Fields("  ", fields...)
}

// remedies are what it takes that a signal is seen, by the reason for which it
// is not.
var remedies = map[string]string{
	"tier-tracepoint": "a kernel that takes BPF programs of type LSM: start it with bpf in lsm=",
	"no-tracepoint":   "a kernel with that tracepoint (CONFIG_FTRACE_SYSCALLS, CONFIG_MODULES)",
	"kernel-too-old":  "a newer kernel",
	"no-lsm":          "bpf in the kernel's lsm= at start",
	"tier-trampoline": "bpf in the kernel's lsm= at start",
	"no-digest":       "an IMA policy that measures what runs, or files with fs-verity",
	"no-tracefs":      "tracefs on /sys/kernel/tracing",
}

// conclusion is what to expect of a broker as far as the host can tell, and
// what to do next.
func conclusion(x *local.Explanation, unclean []string) (expect string, next []string) {
	s := &x.Summary
	events := fmt.Sprintf("'jurat events --pid %d' shows what happens to it", s.Instance.PID)
	switch {
	case s.Standing == local.StandingTainted && len(s.Taints) == 0:
		return "A broker will say no: its program is not a file that can be measured again (" + strings.Join(taintNames(s), ", ") + ").",
			[]string{"start it anew, from a file that stays"}
	case s.Standing == local.StandingTainted:
		return "A broker will say no: it is tainted (" + strings.Join(taintNames(s), ", ") + "), and stays so.",
			[]string{"find out who did that, then start the process anew", events}
	case len(unclean) > 0:
		next = []string{"start the process anew, from files that are what they should be", events}
		if host := hostTaints(x); len(host) > 0 {
			next = append([]string{"find out who did that to the host (" + strings.Join(host, ", ") + "): 'journalctl -u juratd --grep tainted'"}, next...)
		}
		return "A broker will say no as long as the look is not clean: " + strings.Join(unclean, "; ") + ".", next
	case s.Standing == local.StandingUnknown:
		return "A broker will say no: its program has no digest (" + s.Digest.Reason() + ").", []string{"start it anew while juratd runs"}
	case s.Standing == local.StandingSeen:
		return "It ran before juratd did: unless its reference values allow that, a broker will say no.", []string{"start it anew while juratd runs"}
	}
	if f, ok := x.Process.Exe.Get(); ok {
		if d, ok := f.Digest.Get(); ok {
			next = append(next, "to accept its program: jurat refs add WORKLOAD "+d.String()+" --label TEXT --reason TEXT")
		}
	}
	if m, ok := x.Process.Code.Get(); ok && m.Count > 0 {
		next = append(next, "to accept its code: jurat refs add WORKLOAD sha-256:"+m.Root.String()+" --group manifests --label TEXT --reason TEXT")
	}
	return "Nothing that this host sees stands in its way; which digests and which context are accepted, the broker knows.",
		append(next, "when it was refused, 'jurat why TXN' says what was expected; TXN is in the refusal")
}

// hostTaints are the taints a look shows that are not the process's own.
func hostTaints(x *local.Explanation) []string {
	var out []string
	own := taintNames(&x.Summary)
	for _, t := range x.State.Taints {
		if !slices.Contains(own, t) {
			out = append(out, t)
		}
	}
	return out
}
