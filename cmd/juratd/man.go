// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

const manUsage = `usage: juratd man

Writes the manual page juratd(8) to standard output, made from the same text as
-help.

  juratd man > /usr/local/share/man/man8/juratd.8

`

const manExit = `Exit codes: 0 ended in good order, 1 the broker refused, 2 usage, 3 environment
(no TPM, no permission, broker unreachable, not enrolled).`

// man writes juratd's manual page: what each of its commands says to -help.
func man(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		fmt.Fprint(stderr, manUsage)
		if args[0] == "-help" || args[0] == "--help" || args[0] == "-h" {
			return nil
		}
		return usagef("juratd man takes nothing")
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH JURATD 8 \"\" \"jurat %s\" \"jurat\"\n", roff(version))
	b.WriteString(".SH NAME\njuratd \\- host agent: watches every exec, measures who asks for a credential\n")
	b.WriteString(".SH SYNOPSIS\n.B juratd\n[enrol | uninstall | man] [flags]\n")
	for _, section := range []struct {
		title string
		args  []string
	}{{"DESCRIPTION", nil}, {"ENROL", []string{"enrol"}}, {"UNINSTALL", []string{"uninstall"}}, {"MAN", []string{"man"}}} {
		var text bytes.Buffer
		run(ctx, append(section.args, "-help"), io.Discard, &text)
		fmt.Fprintf(&b, ".SH %s\n%s", section.title, verbatim(text.String()))
	}
	b.WriteString(".SH EXIT STATUS\n" + verbatim(manExit))
	b.WriteString(".SH SEE ALSO\n.BR jurat (1)\n")
	_, err := io.WriteString(stdout, b.String())
	return err
}

// verbatim keeps lines as they are in man(7).
func verbatim(text string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		b.WriteString(roff(strings.ReplaceAll(line, "\t", "    ")) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// roff escapes what means something to man(7).
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
