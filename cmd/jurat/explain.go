// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain PID",
		Short: "one process in full, as evidence would have it now",
		Long: `Measures the process now, as if it asked for a credential, and shows all of it:
program, libraries, script, code, models, context, parents, what spoilt it, and
what this host cannot see. Nothing is logged or sent.`,
		Example: "  jurat explain 4711",
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
				return err
			}
			out := &explainJSON{"jurat.explain/v1", x}
			return a.emit(out, func(p *term.Printer) { a.showExplanation(p, x) })
		},
	}
}

// explainJSON is jurat.explain/v1.
type explainJSON struct {
	Schema string `json:"schema"`
	*local.Explanation
}

func (a *app) showExplanation(p *term.Printer, x *local.Explanation) {
	s := &x.Summary
	p.Styled(term.Bold, "%s", program(s))
	p.Fields("  ",
		term.Field{Label: "process", Value: fmt.Sprintf("%d, for %s, program number %d of it", s.Instance.PID, a.age(s.At), s.Instance.Generation)},
		term.Field{Label: "calls itself", Value: s.Command + " (a hint)"},
		term.Field{Label: "standing", Value: s.Standing, Style: standingStyles[s.Standing]},
		term.Field{Label: "credentials", Value: fmt.Sprintf("%d held", s.Holds)},
	)
	p.Blank()
	p.Styled(term.Bold, "Measured now")
	showProcess(p, "  ", x.Process)
	if m, ok := x.Process.Code.Observed(); ok && len(m.Files) > 0 {
		p.Blank()
		p.Styled(term.Bold, "Code files")
		rows := make([][]term.Cell, 0, len(m.Files))
		for _, f := range slices.SortedFunc(slices.Values(m.Files), func(x, y evidence.CodeFile) int { return strings.Compare(x.Path, y.Path) }) {
			rows = append(rows, []term.Cell{{Text: clip(f.Digest.String(), 17)}, {Text: f.Path}})
		}
		p.Table("  ", []string{"DIGEST", "PATH"}, rows)
	}
	if len(x.Models) > 0 {
		p.Blank()
		p.Styled(term.Bold, "Being hashed")
		for _, m := range x.Models {
			p.Line("  %s", m)
		}
	}
	a.showSpoilt(p, s)
	p.Blank()
	p.Styled(term.Bold, "The look now")
	unclean := uncleanLook(&x.State)
	if len(unclean) == 0 {
		p.Row(term.Green, "  clean", "")
	}
	for _, u := range unclean {
		p.Row(term.Red, "  "+u, "")
	}
	showBlind(p, x)
	p.Blank()
	p.Line("%s", conclusion(s, unclean))
}

func (a *app) showSpoilt(p *term.Printer, s *local.Process) {
	if len(s.Taints) == 0 {
		return
	}
	p.Blank()
	p.Styled(term.Bold, "What spoilt it")
	rows := make([][]term.Cell, 0, len(s.Taints))
	for _, t := range s.Taints {
		by := "-"
		if t.By != nil {
			by = fmt.Sprint(t.By.PID)
		}
		rows = append(rows, []term.Cell{{Text: t.Name, Style: term.Red}, {Text: sinceBoot(t.At)}, {Text: t.How}, {Text: by}})
	}
	p.Table("  ", []string{"TAINT", "WHEN", "SEEN BY", "DONE BY PROCESS"}, rows)
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
	p.Blank()
	p.Styled(term.Bold, "Not seen on this host (tier %s)", x.Tier)
	for _, reason := range order {
		p.Line("  %s: %s", reason, strings.Join(why[reason], ", "))
	}
}

// conclusion is what to expect of a broker, and what to do next.
func conclusion(s *local.Process, unclean []string) string {
	switch {
	case s.Standing == local.StandingTainted:
		return "A broker will say no: it is tainted. Find out what did that, then restart the process."
	case len(unclean) > 0:
		return "A broker will say no while the look is not clean. Restarting the process makes it clean where its files are what they should be."
	case s.Standing == local.StandingUnknown:
		return "A broker will say no: its program has no digest. Restart it while juratd runs."
	case s.Standing == local.StandingSeen:
		return "It ran before juratd did. Unless its reference values allow that, a broker will say no: restart it."
	}
	return "Nothing here stands in its way; whether digests and context are the accepted ones, the broker knows ('jurat why TXN')."
}
