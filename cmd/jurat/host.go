// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

func (a *app) hostCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "host",
		Short:   "invite, list, export and remove hosts",
		Example: "  jurat host add h17 --machine web\n  jurat host list",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.hostAddCommand(), a.hostListCommand(), a.hostRemoveCommand(), a.hostExportCommand())
	return c
}

// hostAddJSON is jurat.host-add/v1.
type hostAddJSON struct {
	Schema     string `json:"schema"`
	Name       string `json:"name"`
	Host       string `json:"host"` // SPIFFE ID
	EnrolToken string `json:"enrol_token"`
	ExpiresIn  int64  `json:"expires_in"`
}

func (a *app) hostAddCommand() *cobra.Command {
	in := struct {
		Name    string `json:"name"`
		EKPin   string `json:"ek_pin,omitempty"`
		Machine string `json:"machine,omitempty"`
	}{}
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "let one host enrol, once",
		Long: `Makes the one-time token with which the host NAME may enrol. --ek-pin demands
one certain TPM: the SHA-256 of its endorsement key's SubjectPublicKeyInfo, in
hexadecimal. Without it the TPM must have a certificate the broker trusts.`,
		Example: "  jurat host add h17 --machine web\n  jurat host add h18 --ek-pin 9f86d0…",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			in.Name = args[0]
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			out := new(hostAddJSON)
			if err := a.operator().Post(ctx, "inviting the host", "/v1/hosts", in, out); err != nil {
				return err
			}
			out.Schema = "jurat.host-add/v1"
			return a.emit(out, func(p *term.Printer) {
				p.Line("%s may enrol as %s within %v, once. On the host, as root:", out.Name, out.Host, time.Duration(out.ExpiresIn)*time.Second)
				p.Line("  juratd enrol -broker %s -host %s -token-file FILE", orWord(a.broker, "URL"), out.Name)
				p.Line("with this in FILE:")
				p.Line("%s", out.EnrolToken)
			})
		},
	}
	c.Flags().StringVar(&in.EKPin, "ek-pin", "", "`SHA256` of the TPM's endorsement key")
	c.Flags().StringVar(&in.Machine, "machine", "", "`CLASS` of machines it belongs to")
	return c
}

// hostsJSON is jurat.hosts/v1.
type hostsJSON struct {
	Schema string     `json:"schema"`
	Hosts  []hostJSON `json:"hosts"`
}

type hostJSON struct {
	Name     string `json:"name"`
	ID       string `json:"id"`
	UEID     string `json:"ueid"`
	Level    string `json:"level"`
	Machine  string `json:"machine"`
	State    string `json:"state"`
	Enrolled string `json:"enrolled"`
	Seen     string `json:"seen"`
	Epoch    uint64 `json:"epoch"`
	LogSize  uint64 `json:"log_size"`
}

func (a *app) hostListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "list hosts, and when each was last believed",
		Example: "  jurat host list",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			var out hostsJSON
			if err := a.operator().Get(ctx, "listing hosts", "/v1/hosts", &out); err != nil {
				return err
			}
			out.Schema, out.Hosts = "jurat.hosts/v1", orEmpty(out.Hosts)
			return a.emit(&out, func(p *term.Printer) {
				rows := make([][]term.Cell, len(out.Hosts))
				for i, h := range out.Hosts {
					rows[i] = []term.Cell{
						{Text: h.Name}, {Text: h.State, Style: stateStyle(h.State)}, {Text: dash(h.Machine)}, {Text: dash(h.Level)},
						{Text: dash(h.Seen)}, {Text: fmt.Sprint(h.Epoch)}, {Text: fmt.Sprint(h.LogSize)}, {Text: h.ID},
					}
				}
				p.Table("", []string{"NAME", "STATE", "MACHINE", "LEVEL", "LAST BELIEVED", "EPOCH", "LOG", "ID"}, rows)
			})
		},
	}
}

func dash(s string) string { return orWord(s, "-") }

// hostRemoveJSON is jurat.host-remove/v1.
type hostRemoveJSON struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Result string `json:"result"`
}

func (a *app) hostRemoveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "forget a host and end its credentials",
		Long: `Forgets the host NAME. Its credentials end, and the same TPM may enrol again
with a new token.`,
		Example: "  jurat host remove h17",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.sure(c, yes, "Remove host "+args[0]+"?"); err != nil {
				return err
			}
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			out := new(hostRemoveJSON)
			if err := a.operator().Delete(ctx, "removing the host", "/v1/hosts/"+url.PathEscape(args[0]), out); err != nil {
				return err
			}
			out.Schema = "jurat.host-remove/v1"
			return a.emit(out, func(p *term.Printer) { p.Line("%s %s", out.Name, out.Result) })
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
