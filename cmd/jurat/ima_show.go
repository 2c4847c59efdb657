// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/ima"
)

// maxIMAShown is how many entries one JSON object takes.
const maxIMAShown = 100_000

func (a *app) imaShowCommand() *cobra.Command {
	var from, count uint64
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "print an IMA list for people, or as JSON",
		Long: `Prints the entries of an IMA list, as the kernel has it in
/sys/kernel/security/ima/binary_runtime_measurements, or in the file beside it
for one bank or in ASCII. FILE - is standard input.

A path is the one under which the kernel met the file, with spaces as
underscores: a hint. A violation is an entry about a file that changed while it
was measured, or was being written: it proves nothing about the file. Nothing is
compared with a TPM here: see 'jurat ima replay'.`,
		Example: "  jurat ima show binary_runtime_measurements --from 300 --count 20",
		Args:    arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if from == 0 {
				return usage(c, "--from 0, want 1 or more")
			}
			return a.imaShow(args[0], from, count)
		},
	}
	c.Flags().Uint64Var(&from, "from", 1, "first entry to show, `N`")
	c.Flags().Uint64Var(&count, "count", 0, "show at most `N` entries (default: all; with --json 100000)")
	return c
}

// imaJSON is jurat.ima/v1.
type imaJSON struct {
	Schema  string         `json:"schema"`
	Form    string         `json:"form"` // binary or ascii
	Entries []imaEntryJSON `json:"entries"`
	Next    *uint64        `json:"next"` // number of the entry behind the last one shown; null: that was all
}

type imaEntryJSON struct {
	Number         uint64 `json:"number"`
	PCR            uint32 `json:"pcr"`
	Template       string `json:"template"`
	TemplateDigest string `json:"template_digest"`
	DigestAgrees   bool   `json:"digest_agrees"` // of a violation: true, it has none
	Violation      bool   `json:"violation"`
	Opaque         bool   `json:"opaque"` // of a template that nobody knows
	Buffer         bool   `json:"buffer"` // not a file was measured
	Algorithm      string `json:"algorithm,omitempty"`
	Digest         string `json:"digest,omitempty"`
	Path           string `json:"path"`
}

func imaEntry(number uint64, e *ima.Entry) imaEntryJSON {
	out := imaEntryJSON{
		Number: number, PCR: e.PCR, Template: string(e.Template), TemplateDigest: hex.EncodeToString(e.TemplateDigest),
		DigestAgrees: e.CheckTemplateDigest(), Violation: e.Violation(), Opaque: e.Opaque(), Path: string(e.Name()),
	}
	if buf, _ := e.Field("buf"); len(buf) > 0 {
		out.Buffer = true
	}
	if digest, ok := e.Digest(); ok && !out.Violation {
		out.Algorithm, out.Digest = digest.Algorithm, hex.EncodeToString(digest.Digest)
	}
	return out
}

func (a *app) imaShow(name string, from, count uint64) error {
	l, err := a.openIMA(name)
	if err != nil {
		return err
	}
	defer l.close()
	if !a.json {
		return a.imaShowText(l, from, count)
	}
	if count == 0 || count > maxIMAShown {
		count = maxIMAShown
	}
	out := &imaJSON{Schema: "jurat.ima/v1", Form: l.form(), Entries: []imaEntryJSON{}}
	out.Next, err = l.each(from, count, func(n uint64, e *ima.Entry) { out.Entries = append(out.Entries, imaEntry(n, e)) })
	if err != nil {
		return err
	}
	return a.emit(out, nil)
}

// each calls f on count entries (0 for all) from number from on, and returns the
// number of the entry behind them, if there is one.
func (l *imaList) each(from, count uint64, f func(number uint64, e *ima.Entry)) (next *uint64, _ error) {
	for {
		e, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		number := l.count
		if number < from {
			continue
		}
		if count > 0 && number-from >= count {
			return &number, nil
		}
		f(number, e)
	}
}

// imaShowText prints as it reads: a list may be longer than memory.
func (a *app) imaShowText(l *imaList, from, count uint64) error {
	out := bufio.NewWriterSize(a.out, 1<<16)
	p := term.New(out, a.color(a.out))
	p.Styled(term.Dim, imaColumns, "NUMBER", "PCR", "TEMPLATE", "DIGEST", "PATH")
	violations, differ := 0, 0
	next, err := l.each(from, count, func(n uint64, e *ima.Entry) {
		v := imaEntry(n, e)
		style, path := term.Plain, imaPath(&v, e)
		switch {
		case v.Violation:
			violations++
			style = term.Red
		case !v.DigestAgrees && !l.text:
			differ++
			style, path = term.Red, path+"  TEMPLATE DIGEST IS NOT THAT OF THE DATA"
		case !v.DigestAgrees:
			differ++
			style, path = term.Yellow, path+"  (not all of it survived in ASCII)"
		}
		p.Styled(style, imaColumns, fmt.Sprint(v.Number), fmt.Sprint(v.PCR), v.Template, imaDigest(&v), path)
	})
	if err == nil {
		p.Blank()
		switch {
		case next != nil:
			p.Line("More follows, from entry %d on.", *next)
		case l.count == 0:
			p.Styled(term.Yellow, "The list is empty.")
		default:
			p.Line("Entries in the list: %d.", l.count)
		}
		if violations > 0 {
			p.Styled(term.Red, "Violations shown: %d. They prove nothing about their files.", violations)
		}
		if differ > 0 {
			p.Styled(term.Yellow, "Shown with a template digest that is not that of the data: %d.", differ)
		}
		p.Styled(term.Yellow, "Compared with no TPM: 'jurat ima replay FILE --pcr10 …' does that.")
	}
	if flushed := out.Flush(); err == nil && flushed != nil {
		err = fmt.Errorf("standard output: %w", flushed)
	}
	return err
}

// imaColumns is the table of entries, in widths that need no look ahead.
const imaColumns = "%6s  %3s  %-10s  %-20s  %s"

// imaDigest is a digest in short.
func imaDigest(v *imaEntryJSON) string {
	switch {
	case v.Violation:
		return "VIOLATION"
	case v.Digest == "":
		return "none"
	}
	return v.Algorithm + ":" + v.Digest[:12]
}

func imaPath(v *imaEntryJSON, e *ima.Entry) string {
	switch {
	case v.Opaque:
		return fmt.Sprintf("(unknown template, %d bytes)", len(e.Data))
	case v.Buffer:
		return v.Path + " (a buffer, not a file)"
	}
	return v.Path
}
