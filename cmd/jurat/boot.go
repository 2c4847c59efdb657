// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

func (a *app) bootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "boot",
		Short: "say how machines of a class may boot",
		Long: `What a class of machines may boot is learned from a host that booted well, and
added to from the next one after an update. What is no longer good is forgotten.`,
		Example: "  jurat boot diff h17\n  jurat boot learn h17\n  jurat boot show web\n  jurat boot forget web --digest 9f86d0… --reason CVE-2026-1234",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.bootLearnCommand(), a.bootDiffCommand(), a.bootShowCommand(), a.bootForgetCommand())
	return c
}

// bootLearnJSON is jurat.boot-learn/v1: what is accepted now and was not.
type bootLearnJSON struct {
	Schema       string            `json:"schema"`
	Host         string            `json:"host"`
	Machine      string            `json:"machine"`
	Added        int               `json:"added"`
	PCRs         map[string]string `json:"pcrs"` // what was looked at
	Values       []pcrThing        `json:"values"`
	Events       []pcrThing        `json:"events"`
	Relaxed      []pcrThing        `json:"relaxed"`
	SecureBoot   []string          `json:"secure_boot"`
	CommandLines []string          `json:"command_lines"`
	Findings     []findingJSON     `json:"findings"`
}

// pcrThing is a value of a PCR, or an event in it.
type pcrThing struct {
	PCR    int    `json:"pcr"`
	Digest string `json:"digest"`
	Text   string `json:"text,omitempty"`
}

type findingJSON struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func (a *app) bootLearnCommand() *cobra.Command {
	var pcrs []int
	c := &cobra.Command{
		Use:   "learn HOST",
		Short: "accept how a host booted, for its class of machines",
		Long: `Takes how HOST booted, by its last verified evidence, as good for every machine of
its class: PCR values and the events that make them, the state of Secure Boot, the
kernel's command line, and what is odd about its boot log. What is new is listed.

Look with 'jurat boot diff HOST' first: whatever booted then is what you accept.`,
		Example: "  jurat boot learn h17\n  jurat boot learn h17 --pcr 0,2,4,7",
		Args:    arguments("HOST"),
		RunE: func(c *cobra.Command, args []string) error {
			in := map[string]any{}
			if len(pcrs) > 0 {
				in["pcrs"] = pcrs
			}
			return a.bootLearn(c.Context(), args[0], in)
		},
	}
	c.Flags().IntSliceVar(&pcrs, "pcr", nil, "`PCR` to take (repeatable; default: those that the broker's policy has measured)")
	return c
}

func (a *app) bootLearn(ctx context.Context, host string, in any) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	out := new(bootLearnJSON)
	if err := a.operator().Post(ctx, "learning how the host booted", "/v1/hosts/"+url.PathEscape(host)+"/learn-boot", in, out); err != nil {
		return err
	}
	out.Schema = "jurat.boot-learn/v1"
	out.Values, out.Events, out.Relaxed = orEmpty(out.Values), orEmpty(out.Events), orEmpty(out.Relaxed)
	out.SecureBoot, out.CommandLines, out.Findings = orEmpty(out.SecureBoot), orEmpty(out.CommandLines), orEmpty(out.Findings)
	return a.emit(out, func(p *term.Printer) { showLearned(p, out) })
}

func showLearned(p *term.Printer, l *bootLearnJSON) {
	if l.Added == 0 {
		p.Line("Machines of class %s may boot as %s did already: nothing is new.", l.Machine, l.Host)
		return
	}
	p.Styled(term.Bold, "Machines of class %s may boot as %s did. New, %d in all:", l.Machine, l.Host, l.Added)
	for _, s := range l.SecureBoot {
		style := term.Plain
		if s != "on" {
			style = term.Yellow
		}
		p.Styled(style, "  Secure Boot may be %s", s)
	}
	for _, s := range l.CommandLines {
		p.Line("  kernel command line: %s", s)
	}
	for _, f := range l.Findings {
		p.Styled(term.Yellow, "  the log may be odd: %s: %s", f.Code, f.Text)
	}
	things(p, "Events", "EVENT", l.Events)
	things(p, "Events that need not be there any more", "EVENT", l.Relaxed)
	things(p, "Values of PCRs", "VALUE", l.Values)
}

// things lists values or events under a heading.
func things(p *term.Printer, heading, kind string, list []pcrThing) {
	if len(list) == 0 {
		return
	}
	p.Blank()
	p.Styled(term.Bold, "%s", heading)
	rows := make([][]term.Cell, len(list))
	for i, t := range list {
		rows[i] = []term.Cell{{Text: fmt.Sprint(t.PCR)}, {Text: t.Digest}}
		if t.Text != "" {
			rows[i] = []term.Cell{{Text: fmt.Sprint(t.PCR)}, {Text: short(t.Digest)}, {Text: t.Text}}
		}
	}
	header := []string{"PCR", kind}
	if len(rows[0]) == 3 {
		header = []string{"PCR", "DIGEST", kind}
	}
	p.Table("  ", header, rows)
}

// short is the beginning of a digest, which is enough to find it by eye.
func short(digest string) string {
	if len(digest) <= 16 {
		return digest
	}
	return digest[:16] + "…"
}

// bootForgetJSON is jurat.boot-forget/v1.
type bootForgetJSON struct {
	Schema    string     `json:"schema"`
	Machine   string     `json:"machine"`
	Forgotten string     `json:"forgotten"`
	Gone      []pcrThing `json:"gone"`
}

// forgetting is what a command line names.
type forgetting struct {
	Digest      string `json:"digest,omitempty"`
	PCR         *int   `json:"pcr,omitempty"`
	SecureBoot  string `json:"secure_boot,omitempty"`
	CommandLine string `json:"command_line,omitempty"`
	Finding     string `json:"finding,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

func (a *app) bootForgetCommand() *cobra.Command {
	var in forgetting
	var pcr int
	c := &cobra.Command{
		Use:   "forget CLASS --digest HEX",
		Short: "stop accepting something that machines of a class boot",
		Long: `Takes one thing out of what machines of CLASS may boot: a PCR value or an event by
its digest ('jurat boot show CLASS --json' has them whole), a state of Secure Boot,
a command line of the kernel, or an oddity of the log.

With an event go the values of its PCR, because nobody knows which of them it is
in: hosts are then held against the events. The last thing that is accepted in a
PCR is not forgotten, for then the PCR would no longer count.`,
		Example: "  jurat boot forget web --digest 9f86d0… --reason CVE-2026-1234\n  jurat boot forget web --command-line 'root=/dev/sda1 init=/bin/sh'",
		Args:    arguments("CLASS"),
		RunE: func(c *cobra.Command, args []string) error {
			if in.Digest+in.SecureBoot+in.CommandLine+in.Finding == "" {
				return usage(c, "--digest HEX is missing (or --secure-boot, --command-line, --finding)")
			}
			if c.Flags().Changed("pcr") {
				in.PCR = &pcr
			}
			in.Digest = strings.TrimPrefix(in.Digest, "sha-256:")
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			out := new(bootForgetJSON)
			if err := a.operator().Post(ctx, "forgetting", "/v1/machines/"+url.PathEscape(args[0])+"/forget-boot", in, out); err != nil {
				return err
			}
			out.Schema, out.Gone = "jurat.boot-forget/v1", orEmpty(out.Gone)
			return a.emit(out, func(p *term.Printer) {
				p.Line("class %s does not accept %s any more", out.Machine, out.Forgotten)
				var events, values []pcrThing
				for _, t := range out.Gone {
					if t.Text == "" {
						values = append(values, t)
					} else {
						events = append(events, t)
					}
				}
				things(p, "Events that went", "EVENT", events)
				things(p, "Values that went", "VALUE", values)
			})
		},
	}
	c.Flags().StringVar(&in.Digest, "digest", "", "of a PCR value or an event, `HEX`")
	c.Flags().IntVar(&pcr, "pcr", 0, "in which `PCR`, where the digest is accepted in several")
	c.Flags().StringVar(&in.SecureBoot, "secure-boot", "", "a `STATE`: on, off or unknown")
	c.Flags().StringVar(&in.CommandLine, "command-line", "", "of the kernel, the whole `TEXT`")
	c.Flags().StringVar(&in.Finding, "finding", "", "`CODE` of an oddity of the log")
	c.Flags().StringVar(&in.Reason, "reason", "", "`TEXT` for the broker's log")
	return c
}
