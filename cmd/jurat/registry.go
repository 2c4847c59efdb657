// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// registered is one registration as the broker keeps it.
type registered struct {
	raw json.RawMessage
	seen
}

// seen are the members that lists show.
type seen struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Machines []string `json:"machines"`
	Keys     []keyed  `json:"keys"`
	Audience string   `json:"audience"`
	Digest   string   `json:"digest"`
	Updated  string   `json:"updated"`
}

// keyed is one key of a person.
type keyed struct {
	Fingerprint string `json:"fingerprint"`
	Removed     string `json:"removed"`
}

// UnmarshalJSON keeps the whole registration beside what lists show.
func (r *registered) UnmarshalJSON(data []byte) error {
	r.raw = slices.Clone(data)
	return json.Unmarshal(data, &r.seen)
}

// MarshalJSON writes the whole registration.
func (r registered) MarshalJSON() ([]byte, error) { return r.raw, nil }

func (r *registered) name() string { return orWord(r.ID, r.Name) }

// kind is one kind of registration.
type kind struct {
	plural string // in paths and lists
	header []string
	row    func(r *registered) []string
}

var (
	workloads = kind{"workloads", []string{"ID", "MACHINES", "UPDATED", "DIGEST"}, func(r *registered) []string {
		return []string{r.ID, strings.Join(r.Machines, ","), dash(r.Updated), dash(r.Digest)}
	}}
	machines = kind{"machines", []string{"NAME", "UPDATED", "DIGEST"}, func(r *registered) []string {
		return []string{r.Name, dash(r.Updated), dash(r.Digest)}
	}}
	approvers = kind{"approvers", []string{"NAME", "KEYS"}, func(r *registered) []string {
		var prints []string
		for _, k := range r.Keys {
			if k.Removed == "" {
				prints = append(prints, k.Fingerprint)
			}
		}
		return []string{r.Name, orWord(strings.Join(prints, " "), "none")}
	}}
	resources = kind{"resources", []string{"NAME", "AUDIENCE"}, func(r *registered) []string {
		return []string{r.Name, r.Audience}
	}}
)

// fetch reads all registrations of a kind.
func (a *app) fetch(ctx context.Context, k kind) ([]registered, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	var all map[string][]registered
	if err := a.operator().Get(ctx, "listing "+k.plural, "/v1/"+k.plural, &all); err != nil {
		return nil, err
	}
	return orEmpty(all[k.plural]), nil
}

func (a *app) listCommand(k kind, single string) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "list registered " + k.plural,
		Example: "  jurat " + single + " list",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := a.fetch(c.Context(), k)
			if err != nil {
				return err
			}
			out := map[string]any{"schema": "jurat." + k.plural + "/v1", k.plural: list}
			return a.emit(out, func(p *term.Printer) {
				rows := make([][]term.Cell, len(list))
				for i := range list {
					for _, text := range k.row(&list[i]) {
						rows[i] = append(rows[i], term.Cell{Text: text})
					}
				}
				p.Table("", k.header, rows)
			})
		},
	}
}

func (a *app) showCommand(k kind, single string) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "show one " + single + " as registered, in YAML",
		Example: "  jurat " + single + " show NAME",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := a.fetch(c.Context(), k)
			if err != nil {
				return err
			}
			for i := range list {
				if list[i].name() == args[0] {
					out := map[string]any{"schema": "jurat." + single + "/v1", single: list[i]}
					return a.emit(out, func(p *term.Printer) { showYAML(p, &list[i]) })
				}
			}
			return &failure{exit: exitNo, code: "not-found", err: fmt.Errorf("no %s %q", single, args[0]), hint: "'jurat " + single + " list' has them"}
		},
	}
}

// members are those of registrations, in the order in which people write them.
var members = []string{"kind", "id", "name", "audience", "machines", "bearer", "lifetime", "minimum", "code", "context", "boot", "keys"}

// showYAML prints JSON as YAML, which is what people write registrations in.
// What the broker adds is a comment.
func showYAML(p *term.Printer, r *registered) {
	var node yaml.Node
	if err := yaml.Unmarshal(r.raw, &node); err != nil || len(node.Content) != 1 { // JSON is YAML
		p.Line("%s", r.raw)
		return
	}
	object := node.Content[0]
	order(object)
	block(object)
	text, err := yaml.Marshal(object)
	if err != nil {
		p.Line("%s", r.raw)
		return
	}
	if r.Digest != "" {
		p.Styled(term.Dim, "# %s, updated %s", r.Digest, r.Updated)
	}
	paragraphs(p, "", string(text))
}

// order sorts the members of a registration and drops what the broker added.
func order(object *yaml.Node) {
	type member struct{ name, value *yaml.Node }
	var all []member
	for i := 0; i+1 < len(object.Content); i += 2 {
		if name := object.Content[i].Value; name != "digest" && name != "updated" {
			all = append(all, member{object.Content[i], object.Content[i+1]})
		}
	}
	rank := func(m member) int {
		if i := slices.Index(members, m.name.Value); i >= 0 {
			return i
		}
		return len(members)
	}
	slices.SortStableFunc(all, func(a, b member) int { return rank(a) - rank(b) })
	object.Content = nil
	for _, m := range all {
		object.Content = append(object.Content, m.name, m.value)
	}
}

// block takes the braces and needless quotes off.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		block(c)
	}
}

func (a *app) registryCommands() []*cobra.Command {
	command := func(k kind, single, short string, more ...*cobra.Command) *cobra.Command {
		c := &cobra.Command{
			Use: single, Short: short, Example: "  jurat " + single + " list", Args: cobra.ArbitraryArgs, RunE: group,
		}
		c.AddCommand(a.listCommand(k, single), a.showCommand(k, single))
		c.AddCommand(more...)
		return c
	}
	return []*cobra.Command{
		command(workloads, "workload", "list and show registered workloads"),
		command(machines, "machine", "list and show classes of machines"),
		command(approvers, "approver", "list and show people who may be asked"),
		command(resources, "resource", "add, list and show protected services", a.resourceAddCommand()),
	}
}

// resourceAddJSON is jurat.resource-add/v1.
type resourceAddJSON struct {
	Schema   string `json:"schema"`
	Name     string `json:"name"`
	Audience string `json:"audience"`
	Secret   string `json:"secret"`
}

func (a *app) resourceAddCommand() *cobra.Command {
	var audience string
	c := &cobra.Command{
		Use:   "add NAME --audience URL",
		Short: "give a protected service a secret to introspect with",
		Long: `Registers the protected service NAME and makes the secret with which it may ask
the broker whether a token is still good. The secret is shown this once; a second
'add' makes a new one and ends the first.`,
		Example: "  jurat resource add invoices --audience https://invoices.example",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if audience == "" {
				return usage(c, "--audience URL is missing")
			}
			ctx, cancel := a.bounded(c.Context())
			defer cancel()
			out := new(resourceAddJSON)
			in := map[string]string{"name": args[0], "audience": audience}
			if err := a.operator().Post(ctx, "adding the service", "/v1/resources", in, out); err != nil {
				return err
			}
			out.Schema = "jurat.resource-add/v1"
			return a.emit(out, func(p *term.Printer) {
				p.Line("%s is %s; its secret, shown this once:", out.Name, out.Audience)
				p.Line("%s", out.Secret)
			})
		},
	}
	c.Flags().StringVar(&audience, "audience", "", "`URL` of the service, as delegations name it")
	return c
}
