// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/verify"
)

// bootShowJSON is jurat.boot/v1.
type bootShowJSON struct {
	Schema  string               `json:"schema"`
	Machine string               `json:"machine"`
	Digest  string               `json:"digest"` // of the registration
	Updated string               `json:"updated"`
	Boot    verify.BootReference `json:"boot"`
}

func (a *app) bootShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show CLASS",
		Short: "show how machines of a class may boot, in words",
		Long: `Shows what is accepted of how machines of CLASS boot. A PCR is accepted by its value,
or by its events: each must be among the accepted ones, in any order, and those
marked must be there.`,
		Example: "  jurat boot show web",
		Args:    arguments("CLASS"),
		RunE:    func(c *cobra.Command, args []string) error { return a.bootShow(c.Context(), args[0]) },
	}
}

func (a *app) bootShow(ctx context.Context, class string) error {
	list, err := a.fetch(ctx, machines)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].name() != class {
			continue
		}
		out := &bootShowJSON{Schema: "jurat.boot/v1", Machine: class, Digest: list[i].Digest, Updated: list[i].Updated}
		if err := json.Unmarshal(list[i].raw, out); err != nil {
			return &brokerclient.BadAnswer{Op: "reading a class of machines", Detail: err.Error()}
		}
		return a.emit(out, func(p *term.Printer) { showBoot(p, out) })
	}
	return &failure{exit: exitNo, code: "not-found", err: fmt.Errorf("no class of machines %q", class), hint: "'jurat machine list' has them"}
}

func showBoot(p *term.Printer, s *bootShowJSON) {
	b := &s.Boot
	p.Styled(term.Bold, "How machines of class %s may boot", s.Machine)
	p.Fields("  ",
		term.Field{Label: "Secure Boot", Value: orWord(setText(b.SecureBoot), "no state is accepted"), Style: warnIf(setText(b.SecureBoot) != "on")},
		term.Field{Label: "command line", Value: orWord(setText(b.CommandLines), "none is accepted")},
		term.Field{Label: "log may be odd", Value: orWord(strings.Join(b.Findings, ", "), "no"), Style: warnIf(len(b.Findings) > 0)},
		term.Field{Label: "registration", Value: s.Digest},
		term.Field{Label: "updated", Value: s.Updated},
	)
	pcrs := slices.Concat(slices.Collect(maps.Keys(b.PCRs)), slices.Collect(maps.Keys(b.Events)))
	slices.Sort(pcrs)
	pcrs = slices.Compact(pcrs)
	if len(pcrs) == 0 {
		p.Blank()
		p.Styled(term.Yellow, "Nothing is known of any PCR, so nothing is accepted: jurat boot learn HOST")
	}
	for _, pcr := range pcrs {
		p.Blank()
		p.Styled(term.Bold, "PCR %d", pcr)
		for _, value := range b.PCRs[pcr] {
			p.Line("  value %s", value)
		}
		rows := make([][]term.Cell, len(b.Events[pcr]))
		for i, e := range b.Events[pcr] {
			must := "may"
			if e.Required {
				must = "must"
			}
			rows[i] = []term.Cell{{Text: must}, {Text: short(e.Digest.String())}, {Text: e.Text}}
		}
		if len(rows) > 0 {
			p.Table("  ", []string{"BE", "DIGEST", "EVENT"}, rows)
		}
	}
}

func setText(s verify.Set[string]) string {
	if s.Any {
		return "any"
	}
	return strings.Join(s.Of, " | ")
}

// bootDiffJSON is jurat.boot-diff/v1.
type bootDiffJSON struct {
	Schema       string    `json:"schema"`
	Host         string    `json:"host"`
	Machine      string    `json:"machine"`
	Seen         string    `json:"seen"`
	OK           bool      `json:"ok"`
	PCRs         []pcrDiff `json:"pcrs"`
	SecureBoot   wordsDiff `json:"secure_boot"`
	CommandLines wordsDiff `json:"command_lines"`
	Findings     wordsDiff `json:"findings"`
}

type pcrDiff struct {
	PCR        int    `json:"pcr"`
	OK         bool   `json:"ok"`
	By         string `json:"by"` // "value" or "events"; "": it is not accepted
	Value      string `json:"value"`
	Difference string `json:"difference"`
	Event      int    `json:"event"` // number in the host's log, -1: none
	Missing    bool   `json:"missing"`
}

type wordsDiff struct {
	OK       bool     `json:"ok"`
	Accepted []string `json:"accepted"`
	Seen     []string `json:"seen"`
}

func (a *app) bootDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff HOST",
		Short: "say how a host's last boot differs from its class",
		Long: `Holds how HOST booted, by its last verified evidence, against what its class of
machines may boot, and says of each PCR the first event that differs. The exit
code is 0 when nothing does, 1 when something does.`,
		Example: "  jurat boot diff h17",
		Args:    arguments("HOST"),
		RunE:    func(c *cobra.Command, args []string) error { return a.bootDiff(c.Context(), args[0]) },
	}
}

func (a *app) bootDiff(ctx context.Context, host string) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	out := new(bootDiffJSON)
	if err := a.operator().Get(ctx, "comparing how the host booted", "/v1/hosts/"+url.PathEscape(host)+"/boot-diff", out); err != nil {
		return err
	}
	out.Schema, out.PCRs = "jurat.boot-diff/v1", orEmpty(out.PCRs)
	for _, w := range []*wordsDiff{&out.SecureBoot, &out.CommandLines, &out.Findings} {
		w.Accepted, w.Seen = orEmpty(w.Accepted), orEmpty(w.Seen)
	}
	if err := a.emit(out, func(p *term.Printer) { showDiff(p, out) }); err != nil {
		return err
	}
	if !out.OK {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

func showDiff(p *term.Printer, d *bootDiffJSON) {
	if d.OK {
		p.Styled(term.Green, "%s booted as machines of class %s may", d.Host, d.Machine)
	} else {
		p.Styled(term.Red, "%s did not boot as machines of class %s may", d.Host, d.Machine)
	}
	word := func(label string, w wordsDiff, none string) term.Field {
		f := term.Field{Label: label, Value: orWord(strings.Join(w.Seen, " | "), none)}
		if !w.OK {
			f.Style = term.Red
			f.Value += "; accepted: " + orWord(strings.Join(w.Accepted, " | "), "nothing")
		}
		return f
	}
	p.Fields("  ", term.Field{Label: "last believed", Value: d.Seen}, word("Secure Boot", d.SecureBoot, "unknown"), word("command line", d.CommandLines, "none"), word("oddities of the log", d.Findings, "none"))
	rows := make([][]term.Cell, len(d.PCRs))
	for i, one := range d.PCRs {
		rows[i] = []term.Cell{{Text: fmt.Sprint(one.PCR)}, {Text: "yes, by its " + one.By, Style: term.Green}, {Text: one.Value}}
		if !one.OK {
			rows[i][1] = term.Cell{Text: "no", Style: term.Red}
		}
	}
	p.Blank()
	if len(rows) == 0 {
		p.Styled(term.Yellow, "The class knows nothing of any PCR.")
	} else {
		p.Table("  ", []string{"PCR", "ACCEPTED", "VALUE AFTER THE BOOT"}, rows)
	}
	for _, one := range d.PCRs {
		if !one.OK {
			p.Line("  %s", orWord(one.Difference, "differs"))
		}
	}
	if !d.OK {
		p.Blank()
		p.Styled(term.Yellow, "If that was done on purpose: jurat boot learn %s", d.Host)
	}
}
