// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// manJSON is jurat.man/v1.
type manJSON struct {
	Schema string   `json:"schema"`
	Files  []string `json:"files"`
}

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "write the manual pages",
		Long:    "Writes one manual page for each command, made from the same text as --help.",
		Example: "  jurat man /usr/local/share/man/man1 && man jurat-exec",
		Args:    arguments("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			out := &manJSON{Schema: "jurat.man/v1"}
			for _, page := range pages(c.Root()) {
				file := filepath.Join(args[0], strings.ReplaceAll(page.CommandPath(), " ", "-")+".1")
				if err := os.WriteFile(file, []byte(manPage(page)), 0o644); err != nil {
					return err
				}
				out.Files = append(out.Files, file)
			}
			return a.emit(out, func(p *term.Printer) { p.Line("%d pages in %s", len(out.Files), args[0]) })
		},
	}
}

// pages lists the commands that have a manual page.
func pages(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range shown(c) {
		out = append(out, pages(sub)...)
	}
	return out
}

// manPage writes one page in man(7).
func manPage(c *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"jurat %s\" \"jurat\"\n", roff(strings.ToUpper(name)), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(useLine(c)))
	b.WriteString(".SH DESCRIPTION\n" + verbatim(description(c)))
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n" + verbatim(c.Example))
	}
	if subs := shown(c); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(strings.ReplaceAll(sub.CommandPath(), " ", "-")), roff(sub.Short))
		}
	}
	options(&b, "OPTIONS", c.LocalNonPersistentFlags())
	options(&b, "GLOBAL OPTIONS", c.Root().PersistentFlags())
	b.WriteString(".SH EXIT STATUS\n" + verbatim(exitCodesText()))
	b.WriteString(".SH ENVIRONMENT\n" + verbatim(environmentText))
	if !c.HasParent() {
		b.WriteString(".SH JSON\n" + verbatim(jsonText))
	}
	return b.String()
}

func options(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		name, text := pflag.UnquoteUsage(f)
		head := "--" + f.Name
		if f.Shorthand != "" {
			head = "-" + f.Shorthand + ", " + head
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR %s\n%s\n", roff(head), roff(name), roff(text))
	})
}

// verbatim keeps lines as they are.
func verbatim(text string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		b.WriteString(roff(line) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// roff escapes what means something to man(7).
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "'", `\(aq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
