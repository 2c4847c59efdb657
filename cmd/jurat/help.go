// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// help writes what a command is for: an example first, then the flags.
func (a *app) help(c *cobra.Command, _ []string) {
	if a.json {
		_ = a.emit(describe(c), nil) // nobody reads: nobody misses it
		return
	}
	p := term.New(a.out, a.color(a.out))
	if c.IsAdditionalHelpTopicCommand() {
		paragraphs(p, "", c.Long)
		return
	}
	p.Styled(term.Bold, "%s", useLine(c))
	p.Blank()
	paragraphs(p, "", description(c))
	if c.Example != "" {
		p.Blank()
		p.Styled(term.Dim, "Example:")
		paragraphs(p, "", c.Example)
	}
	if subs := shown(c); len(subs) > 0 {
		p.Blank()
		p.Styled(term.Dim, "Commands:")
		listing(p, subs)
	}
	if !c.HasParent() {
		p.Blank()
		p.Styled(term.Dim, "More help:")
		listing(p, topics())
	}
	if usages := c.LocalNonPersistentFlags().FlagUsages(); usages != "" {
		p.Blank()
		p.Styled(term.Dim, "Flags:")
		paragraphs(p, "", usages)
	}
	p.Blank()
	p.Styled(term.Dim, "Global flags:")
	paragraphs(p, "", c.Root().PersistentFlags().FlagUsages())
}

func useLine(c *cobra.Command) string {
	if len(shown(c)) > 0 {
		return c.CommandPath() + " COMMAND"
	}
	path := c.CommandPath()
	if c.HasParent() {
		path = c.Parent().CommandPath() + " " + c.Use
	}
	return path
}

func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short
}

// shown returns the commands below c that people are told of.
func shown(c *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			out = append(out, sub)
		}
	}
	return out
}

func listing(p *term.Printer, commands []*cobra.Command) {
	fields := make([]term.Field, len(commands))
	for i, c := range commands {
		fields[i] = term.Field{Label: c.Name(), Value: c.Short}
	}
	p.Fields("  ", fields...)
}

// paragraphs writes a text of several lines.
func paragraphs(p *term.Printer, indent, text string) {
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		p.Line("%s%s", indent, line)
	}
}

// helpCommand is "jurat help [COMMAND]".
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "help about a command or a topic",
		Example: "  jurat help delegation approve\n  jurat help exit-codes",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || found == nil || len(rest) > 0 {
				return usage(c, "no help on %q", strings.Join(args, " "))
			}
			a.help(found, nil)
			return nil
		},
	}
}

// helpJSON is jurat.help/v1.
type helpJSON struct {
	Schema      string   `json:"schema"`
	Command     string   `json:"command"`
	Description string   `json:"description"`
	Example     string   `json:"example,omitempty"`
	Commands    []string `json:"commands"`
}

func describe(c *cobra.Command) *helpJSON {
	h := &helpJSON{Schema: "jurat.help/v1", Command: useLine(c), Description: description(c), Example: c.Example, Commands: []string{}}
	for _, sub := range shown(c) {
		h.Commands = append(h.Commands, sub.Name())
	}
	return h
}

// topics are texts that are no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "what the exit code says", Long: exitCodesText()},
		{Use: "json", Short: "what --json prints", Long: jsonText},
		{Use: "environment", Short: "variables that are read", Long: environmentText},
	}
}

func exitCodesText() string {
	var b strings.Builder
	b.WriteString(`Exit codes:
    0  yes
    1  no: refused, denied, not found, malformed
    2  the command line is wrong
    3  it could not be asked: no juratd, no broker, no permission

'jurat exec' ends with the code of the program it runs, 128 and the number of
the signal that killed it, or, as env(1) does,
  125  jurat exec itself went wrong
  126  the program cannot be run
  127  the program was not found

With --json, the member "code" of jurat.error/v1 is one of:
`)
	for _, e := range errorCodes {
		fmt.Fprintf(&b, "    %-20s exit %d  %s\n", e.code, e.exit, e.meaning)
	}
	return b.String()
}

const jsonText = `With --json a command prints exactly one JSON object on standard output. Its
member "schema" names the shape, such as "jurat.status/v1". Within a version
members are added, never removed, renamed or given another meaning.

What goes wrong is an object too, of schema "jurat.error/v1":
  {"schema":"jurat.error/v1","exit":1,"code":"refused","error":"…","hint":"…",
   "failed":[{"attestor":"code","check":"exe-digest"}],"txn":"…","retry":"…"}
and, for people, the same on standard error. Times are RFC 3339 in UTC, digests
"sha-256:" and hexadecimal digits, lists never null.

All shapes are in cmd/jurat/README.md.`

const environmentText = `Variables that are read:
  JURAT_BROKER      the broker's URL, where --broker is not given
  NO_COLOR          no colour when it is not empty
  TERM=dumb         no colour
  SSL_CERT_FILE     certificates to believe for an https broker

Variables that 'jurat exec' sets for the program it runs:
  JURAT_SOCKET      juratd's socket
  JURAT_DELEGATION  the delegation it acts under
  JURAT_TOKEN_FILE  where its token is, only with --token-file

No secret is ever read from the environment or put there.`
