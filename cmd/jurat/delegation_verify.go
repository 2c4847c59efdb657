// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/delegation"
)

func (a *app) delegationExportCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "export ID -o FILE",
		Short: "save a delegation with every signature over it",
		Long: `Writes a delegation and every signed answer to it, byte for byte, to FILE: what
'jurat delegation verify' needs, with no broker to believe.`,
		Example: "  jurat delegation export dlg_… -o october.delegation",
		Args:    arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return usage(c, "-o FILE is missing")
			}
			d, err := a.readDelegation(c.Context(), args[0])
			if err != nil {
				return err
			}
			data, err := d.bundle()
			if err != nil {
				return err
			}
			if err := replaceFile(file, data); err != nil {
				return err
			}
			out := &exportJSON{"jurat.delegation-export/v1", d.ID, file, len(data), len(d.Approvals)}
			return a.emit(out, func(p *term.Printer) { p.Line("%s: %s with %d signed answers", out.File, out.ID, out.Answers) })
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "`FILE` to write")
	return c
}

// exportJSON is jurat.delegation-export/v1.
type exportJSON struct {
	Schema  string `json:"schema"`
	ID      string `json:"id"`
	File    string `json:"file"`
	Bytes   int    `json:"bytes"`
	Answers int    `json:"answers"`
}

func (a *app) delegationVerifyCommand() *cobra.Command {
	var signers, issuer, at string
	c := &cobra.Command{
		Use:   "verify FILE --approvers ALLOWED_SIGNERS",
		Short: "check the signatures over a delegation, offline",
		Long: `Checks what 'jurat delegation export' saved against keys that you trust, in the
file format of ssh-keygen's allowed signers. The broker is not asked and not
believed. The exit code is 0 when the delegation is approved, 1 when it is not.

People are known to the broker that is named in the delegation, unless --issuer
says to whom.`,
		Example: "  jurat delegation verify october.delegation --approvers ~/.ssh/allowed_signers",
		Args:    arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if signers == "" {
				return usage(c, "--approvers FILE is missing")
			}
			when := a.now()
			if at != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return usage(c, "--at %q, want a time such as 2026-11-23T15:00:00Z", at)
				}
			}
			return a.delegationVerify(args[0], signers, issuer, when)
		},
	}
	c.Flags().StringVar(&signers, "approvers", "", "`FILE` of allowed signers")
	c.Flags().StringVar(&issuer, "issuer", "", "`URL` of who knows the people in that file (default: the delegation's broker)")
	c.Flags().StringVar(&at, "at", "", "`TIME` to judge for (default: now)")
	return c
}

// standingJSON is jurat.delegation-verify/v1.
type standingJSON struct {
	Schema     string                 `json:"schema"`
	Approved   bool                   `json:"approved"`
	State      delegation.State       `json:"state"`
	At         time.Time              `json:"at"`
	ID         string                 `json:"id"`
	Digest     string                 `json:"digest"`
	Delegation *delegation.Delegation `json:"delegation"`
	Answers    []givenJSON            `json:"answers"`
}

type givenJSON struct {
	Act          delegation.Act    `json:"act"`
	Person       delegation.Person `json:"person"`
	Key          string            `json:"key"`
	UserVerified bool              `json:"user_verified"`
	At           time.Time         `json:"at"`
}

func (a *app) delegationVerify(file, signers, issuer string, at time.Time) error {
	data, err := a.readInput(file, delegation.MaxBundle)
	if err != nil {
		return err
	}
	bundle, err := delegation.ParseBundle(data)
	if err != nil {
		return malformedInput(file, err)
	}
	object, err := delegation.Parse(bundle.Object)
	if err != nil {
		return malformedInput(file, err)
	}
	if issuer == "" {
		issuer = object.Broker
	}
	text, err := a.readInput(signers, 1<<20)
	if err != nil {
		return err
	}
	approvers, err := delegation.ParseAllowedSigners(text, issuer)
	if err != nil {
		return &failure{exit: exitUsage, code: "usage", err: fmt.Errorf("%s: %w", signers, err)}
	}
	standing, err := delegation.Verify(bundle, approvers)
	if err != nil {
		return &failure{exit: exitNo, code: "refused", err: fmt.Errorf("%s: %w", file, err), hint: "a signature does not hold: believe none of it"}
	}
	out := &standingJSON{
		Schema: "jurat.delegation-verify/v1", State: standing.At(at), At: at.UTC(), ID: object.ID,
		Digest: "sha-256:" + standing.D().String(), Delegation: object, Answers: []givenJSON{},
	}
	out.Approved = out.State == delegation.Approved
	for _, g := range standing.Answers() {
		out.Answers = append(out.Answers, givenJSON{g.Act, g.Person, g.Key.Fingerprint(), g.UserVerified, g.At})
	}
	if err := a.emit(out, func(p *term.Printer) { showStanding(p, out, bundle.Object) }); err != nil {
		return err
	}
	if !out.Approved {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

func showStanding(p *term.Printer, s *standingJSON, enc []byte) {
	words, err := delegation.Describe(enc)
	if err != nil { // it was parsed before
		words = err.Error()
	}
	paragraphs(p, "", words)
	p.Blank()
	for _, g := range s.Answers {
		how := ""
		if g.UserVerified {
			how = ", PIN or finger asked for"
		}
		p.Line("  %s of %s with key %s, taken %s%s: signature holds", g.Act, g.Person.Subject, g.Key, g.At.UTC().Format(time.RFC3339), how)
	}
	style, word := term.Red, strings.ToUpper(string(s.State))
	if s.Approved {
		style = term.Green
	}
	p.Styled(style, "%s at %s, by its signatures alone (uses are not counted here)", word, s.At.Format(time.RFC3339))
}

// malformedInput is the failure of a file that is not what it should be.
func malformedInput(file string, err error) error {
	return &failure{exit: exitNo, code: "malformed", err: fmt.Errorf("%s: %w", file, err)}
}
