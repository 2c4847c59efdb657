// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/brokerapi"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

func (a *app) delegationCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "delegation",
		Short: "ask for, approve, refuse, list and revoke delegations",
		Long: `A delegation is one person's word that one workload may do one task at one
system, so and so often, until then. It is one object with one digest d; the
person signs exactly that object.`,
		Example: `  jurat delegation request --workload spiffe://example.test/agents/invoice \
      --approver alice@example.test --purpose "Close October invoices" \
      --action invoice.read --audience https://invoices.example
  jurat delegation approve dlg_… --key ~/.ssh/id_ed25519
  jurat delegation list`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	c.AddCommand(a.requestCommand())
	for _, said := range answers {
		c.AddCommand(a.answerCommand(said))
	}
	c.AddCommand(a.delegationListCommand(), a.delegationShowCommand(), a.delegationExportCommand(), a.delegationVerifyCommand())
	return c
}

// delegationJSON is one delegation as the broker tells it, with everything
// that its object says computed here.
type delegationJSON struct {
	ID         string                 `json:"id"`
	D          string                 `json:"d"`
	Digest     string                 `json:"digest"`
	Object     []byte                 `json:"object"` // enc(D)
	Delegation *delegation.Delegation `json:"delegation"`
	State      string                 `json:"state"`
	UsesLeft   uint64                 `json:"uses_left"`
	Approvals  []approvalJSON         `json:"approvals"`
}

// approvalJSON is one signed answer.
type approvalJSON struct {
	Act       delegation.Act `json:"act"`
	Person    string         `json:"person"` // as the delegation's broker knows them
	Key       string         `json:"key"`    // fingerprint
	At        time.Time      `json:"at"`
	Signature []byte         `json:"signature"`
	Statement []byte         `json:"statement"` // empty for an approval
}

// settle recomputes what the broker said about the object, and refuses what
// differs.
func (d *delegationJSON) settle(op string) error {
	o, err := delegation.Parse(d.Object)
	if err != nil {
		return &brokerclient.BadAnswer{Op: op, Detail: err.Error()}
	}
	sum := delegation.Digest(d.Object)
	if d.D != delegation.Text(sum) || d.ID != o.ID {
		return &brokerclient.BadAnswer{Op: op, Detail: fmt.Sprintf("%q (%s) is said to be %q (%s)", o.ID, delegation.Text(sum), d.ID, d.D)}
	}
	d.Delegation, d.Digest = o, "sha-256:"+sum.String()
	d.Approvals = orEmpty(d.Approvals)
	return nil
}

// delegationOut is jurat.delegation/v1.
type delegationOut struct {
	Schema string `json:"schema"`
	delegationJSON
}

func (a *app) emitDelegation(d *delegationJSON) error {
	return a.emit(&delegationOut{"jurat.delegation/v1", *d}, func(p *term.Printer) { showDelegation(p, d) })
}

func showDelegation(p *term.Printer, d *delegationJSON) {
	words, err := delegation.Describe(d.Object)
	if err != nil { // settle has parsed it
		words = err.Error()
	}
	paragraphs(p, "", words)
	p.Line("  %-12s %s, %d uses left", "state", d.State, d.UsesLeft)
	for _, ap := range d.Approvals {
		p.Line("  %-12s %s by %s, key %s", "signed", ap.Act, ap.Person, ap.Key)
		p.Line("  %-12s %s", "", ap.At.UTC().Format(time.RFC3339))
	}
}

// readDelegation reads one delegation, and believes of it what its own bytes
// say.
func (a *app) readDelegation(ctx context.Context, id string) (*delegationJSON, error) {
	client, err := a.anyBroker()
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	const op = "reading the delegation"
	d := new(delegationJSON)
	if err := client.Get(ctx, op, "/v1/delegations/"+url.PathEscape(id), d); err != nil {
		return nil, err
	}
	if err := d.settle(op); err != nil {
		return nil, err
	}
	if id != d.ID && id != d.D {
		return nil, &brokerclient.BadAnswer{Op: op, Detail: fmt.Sprintf("asked for %q, got %q", id, d.ID)}
	}
	return d, nil
}

func (a *app) delegationShowCommand() *cobra.Command {
	var save string
	c := &cobra.Command{
		Use:   "show ID",
		Short: "show one delegation in plain words",
		Long: `Shows one delegation, from its own bytes. --save writes those bytes, enc(D), to
be signed elsewhere: ssh-keygen -Y sign -n jurat.dev/delegation/v1 -f KEY FILE`,
		Example: "  jurat delegation show dlg_…\n  jurat delegation show dlg_… --save D.cbor",
		Args:    arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := a.readDelegation(c.Context(), args[0])
			if err != nil {
				return err
			}
			if save != "" {
				if err := replaceFile(save, d.Object); err != nil {
					return err
				}
			}
			return a.emitDelegation(d)
		},
	}
	c.Flags().StringVar(&save, "save", "", "also write the object that is signed to `FILE`")
	return c
}

// delegationsJSON is jurat.delegations/v1.
type delegationsJSON struct {
	Schema      string            `json:"schema"`
	Delegations []*delegationJSON `json:"delegations"`
}

func (a *app) delegationListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "list delegations, newest first",
		Example: "  jurat delegation list\n  jurat delegation list --json | jq '.delegations[] | select(.state==\"approved\")'",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			const op = "listing delegations"
			var out delegationsJSON
			if err := a.operator().Get(ctx, op, "/v1/delegations", &out); err != nil {
				return err
			}
			for _, d := range out.Delegations {
				if err := d.settle(op); err != nil {
					return err
				}
			}
			out.Schema, out.Delegations = "jurat.delegations/v1", orEmpty(out.Delegations)
			return a.emit(&out, func(p *term.Printer) { showDelegations(p, out.Delegations) })
		},
	}
}

func showDelegations(p *term.Printer, list []*delegationJSON) {
	rows := make([][]term.Cell, len(list))
	for i, d := range list {
		o := d.Delegation
		rows[i] = []term.Cell{
			{Text: d.ID}, {Text: d.State, Style: stateStyle(d.State)}, {Text: fmt.Sprintf("%d of %d", d.UsesLeft, o.Uses)},
			{Text: o.ExpiresTime().Format(time.RFC3339)}, {Text: o.Approver.Subject}, {Text: o.Workload.ID}, {Text: o.Purpose},
		}
	}
	p.Table("", []string{"ID", "STATE", "USES LEFT", "UNTIL", "APPROVER", "WORKLOAD", "PURPOSE"}, rows)
}

func stateStyle(state string) term.Style {
	switch state {
	case "approved":
		return term.Green
	case "requested":
		return term.Yellow
	case "refused", "revoked":
		return term.Red
	}
	return term.Plain
}

// request is what POST /v1/delegations takes.
type request struct {
	Workload  string   `json:"workload"`
	Approver  string   `json:"approver"`
	Purpose   string   `json:"purpose"`
	Actions   []string `json:"actions"`
	Audience  string   `json:"audience"`
	Uses      uint64   `json:"uses"`
	ExpiresIn int64    `json:"expires_in"`
	Datatypes []string `json:"datatypes,omitempty"`
	StartsIn  int64    `json:"starts_in,omitempty"`
	Per       string   `json:"per,omitempty"`
	FourEyes  uint64   `json:"four_eyes,omitempty"`
	Lifetime  int64    `json:"lifetime,omitempty"`
	PinCode   bool     `json:"pin_code,omitempty"`
}

func (a *app) requestCommand() *cobra.Command {
	r := new(request)
	var expires, starts, lifetime time.Duration
	c := &cobra.Command{
		Use:   "request --workload ID --approver NAME --purpose TEXT --action ACTION --audience URL",
		Short: "ask a person for a delegation",
		Long: `Makes a delegation and puts it to a person. Nothing is allowed until they have
approved it: 'jurat delegation approve'.`,
		Example: `  jurat delegation request --workload spiffe://example.test/agents/invoice \
      --approver alice@example.test --purpose "Close October invoices" \
      --action invoice.read --audience https://invoices.example --uses 20 --expires 8h`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			for flag, value := range map[string]string{"workload": r.Workload, "approver": r.Approver, "purpose": r.Purpose, "audience": r.Audience} {
				if value == "" {
					return usage(c, "--%s is missing", flag)
				}
			}
			if len(r.Actions) == 0 {
				return usage(c, "--action is missing")
			}
			if expires < time.Second || starts < 0 || lifetime < 0 {
				return usage(c, "--expires, --starts and --lifetime want a time from now on, such as 1h")
			}
			r.ExpiresIn, r.StartsIn, r.Lifetime = int64(expires/time.Second), int64(starts/time.Second), int64(lifetime/time.Second)
			return a.request(c.Context(), r, a.operator())
		},
	}
	f := c.Flags()
	f.StringVar(&r.Workload, "workload", "", "SPIFFE `ID` of the workload that may act")
	f.StringVar(&r.Approver, "approver", "", "`NAME` of the person who is asked")
	f.StringVar(&r.Purpose, "purpose", "", "`TEXT` that says what for, at most 200 characters")
	f.StringSliceVar(&r.Actions, "action", nil, "`ACTION` that is allowed (repeatable)")
	f.StringVar(&r.Audience, "audience", "", "`URL` of the one system")
	f.Uint64Var(&r.Uses, "uses", 1, "how many credentials (or runs, with --per instance)")
	f.DurationVar(&expires, "expires", time.Hour, "`TIME` until it is over")
	f.DurationVar(&starts, "starts", 0, "`TIME` until it begins")
	f.StringSliceVar(&r.Datatypes, "datatype", nil, "`TYPE` of data that may be asked for (repeatable)")
	f.StringVar(&r.Per, "per", "", "what one use is: credential (default) or instance")
	f.Uint64Var(&r.FourEyes, "four-eyes", 0, "how many `PERSONS` must approve (default 1)")
	f.DurationVar(&lifetime, "lifetime", 0, "`TIME` one credential may live at most")
	f.BoolVar(&r.PinCode, "pin-code", false, "only for the executables registered now")
	return c
}

func (a *app) request(ctx context.Context, r *request, client *brokerapi.Client) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	const op = "requesting the delegation"
	d := new(delegationJSON)
	if err := client.Post(ctx, op, "/v1/delegations", r, d); err != nil {
		return err
	}
	if err := d.settle(op); err != nil {
		return err
	}
	return a.emit(&delegationOut{"jurat.delegation/v1", *d}, func(p *term.Printer) {
		showDelegation(p, d)
		p.Blank()
		p.Line("%s approves with:", d.Delegation.Approver.Subject)
		p.Line("  jurat delegation approve %s --broker %s --key ~/.ssh/id_ed25519", d.ID, d.Delegation.Broker)
	})
}

// bundle makes the file an auditor needs of what the broker told.
func (d *delegationJSON) bundle() ([]byte, error) {
	b := &delegation.Bundle{Type: delegation.BundleType, Version: delegation.Version, Object: d.Object, Log: []delegation.Logged{}}
	for _, ap := range d.Approvals {
		b.Answers = append(b.Answers, delegation.Answer{
			Act: ap.Act, Method: delegation.MethodSSH, At: uint64(ap.At.Unix()),
			Person:    delegation.Person{Issuer: d.Delegation.Approver.Issuer, Subject: ap.Person},
			Statement: evidence.Bytes(ap.Statement), Signature: evidence.Bytes(ap.Signature),
		})
	}
	return b.Marshal()
}
