// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/ek"
)

func (a *app) ekCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "ek",
		Short:   "judge endorsement key certificates, list the makers of TPMs",
		Example: "  jurat ek check ek.der\n  jurat ek roots",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.ekCheckCommand(), a.ekRootsCommand())
	return c
}

// makers are the flags that say whom to believe, as jurat-broker has them.
type makers struct {
	bundle string
	roots  []string
}

func (m *makers) flags(f *pflag.FlagSet) {
	f.StringVar(&m.bundle, "bundle", string(ek.BundleShipped), "makers of TPMs to begin with: `shipped`, or none")
	f.StringArrayVar(&m.roots, "roots", nil, "more certificates of makers, and "+ek.RulesFile+": a `FILE or DIRECTORY`, again and again")
}

func (m *makers) open(c *cobra.Command) (*ek.Authorities, error) {
	if m.bundle != string(ek.BundleShipped) && m.bundle != string(ek.BundleNone) {
		return nil, usage(c, "--bundle %q, want %s or %s", m.bundle, ek.BundleShipped, ek.BundleNone)
	}
	authorities, err := ek.Open(ek.Bundle(m.bundle), m.roots...)
	if err != nil && classify(err).code == "environment" {
		err = &failure{exit: exitNo, code: "malformed", err: err}
	}
	return authorities, err
}

func (a *app) ekRootsCommand() *cobra.Command {
	var m makers
	c := &cobra.Command{
		Use:   "roots",
		Short: "list the makers of TPMs whose certificates are believed",
		Long: `Lists the roots and intermediates that ship with jurat-broker, and those of
--roots. One marked cloud certifies attestation keys of virtual machines too.`,
		Example: "  jurat ek roots\n  jurat ek roots --bundle none --roots /etc/jurat/ek-roots",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			authorities, err := m.open(c)
			if err != nil {
				return err
			}
			return a.ekRoots(authorities)
		},
	}
	m.flags(c.Flags())
	return c
}

// ekRootsJSON is jurat.ek-roots/v1.
type ekRootsJSON struct {
	Schema string            `json:"schema"`
	Rules  int               `json:"rules"` // of the operator
	Roots  []ekAuthorityJSON `json:"roots"`
}

// ekAuthorityJSON is an installed certificate.
type ekAuthorityJSON struct {
	Vendor    string    `json:"vendor"` // folder
	Origin    string    `json:"origin"` // "shipped" or "operator"
	Role      string    `json:"role"`   // "root" or "intermediate"
	Cloud     bool      `json:"cloud"`
	Subject   string    `json:"subject"`
	Key       string    `json:"key"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Expired   bool      `json:"expired"`
	Digest    string    `json:"digest"`

	name string
}

func makerJSON(one *ek.Authority, now time.Time) ekAuthorityJSON {
	c := one.Certificate
	out := ekAuthorityJSON{
		Vendor: one.Vendor, Origin: one.Origin, Role: "intermediate", Cloud: one.Cloud, Subject: term.Clean(c.Subject.String()),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Expired: now.After(c.NotAfter), Digest: "sha-256:" + one.Fingerprint.String(),
		name: shortName(c.Subject.CommonName, c.Subject.String()),
	}
	if one.Root {
		out.Role = "root"
	}
	if parsed, err := ek.ParseCertificate(c.Raw); err == nil {
		out.Key = parsed.KeyKind()
	}
	return out
}

// shortName is a name that fits into a line.
func shortName(name, instead string) string {
	const most = 56
	if name == "" {
		name = instead
	}
	if r := []rune(name); len(r) > most {
		name = string(r[:most-1]) + "…"
	}
	return name
}

func (a *app) ekRoots(authorities *ek.Authorities) error {
	out := &ekRootsJSON{Schema: "jurat.ek-roots/v1", Rules: authorities.Rules.Len(), Roots: []ekAuthorityJSON{}}
	for _, one := range authorities.All() {
		out.Roots = append(out.Roots, makerJSON(one, a.now()))
	}
	return a.emit(out, func(p *term.Printer) {
		var rows [][]term.Cell
		for _, r := range out.Roots {
			until := term.Cell{Text: r.NotAfter.Format(time.DateOnly)}
			if r.Expired {
				until = term.Cell{Text: until.Text + " expired", Style: term.Red}
			}
			role := r.Role
			if r.Cloud {
				role += ", cloud"
			}
			rows = append(rows, []term.Cell{{Text: r.Vendor}, {Text: r.Origin}, {Text: role}, until, {Text: r.Key}, {Text: r.name}})
		}
		p.Table("", []string{"VENDOR", "FROM", "ROLE", "UNTIL", "KEY", "NAME"}, rows)
		p.Blank()
		p.Line("%s, %d rules of the operator", plural(len(out.Roots), "certificate"), out.Rules)
	})
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
