// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// auditJSON is jurat.audit/v1.
type auditJSON struct {
	Schema     string      `json:"schema"`
	Size       uint64      `json:"size"`
	Checkpoint string      `json:"checkpoint"`
	Entries    []entryJSON `json:"entries"`
	Next       *uint64     `json:"next"` // where to go on; null: this was the end
}

type entryJSON struct {
	Index uint64     `json:"index"`
	Leaf  string     `json:"leaf"`
	Entry auditEntry `json:"entry"`
}

// auditEntry is one entry of the broker's log.
type auditEntry struct {
	Version    uint64   `json:"v"`
	Type       string   `json:"type"`
	Time       uint64   `json:"time_ms"`
	Txn        string   `json:"txn"`
	PrevTxn    string   `json:"prev_txn"`
	Decision   string   `json:"decision"`
	Agent      string   `json:"agent"`
	Host       string   `json:"host"`
	Instance   string   `json:"instance"`
	Human      string   `json:"human"`
	Target     string   `json:"target"`
	Audience   string   `json:"audience"`
	Actions    []string `json:"actions"`
	Failed     []check  `json:"failed"`
	FailedMore uint64   `json:"failed_more"`
	Attestors  vector   `json:"attestors"`
	Policy     string   `json:"policy_digest"`
	Refs       string   `json:"refs_digest"`
	Delegation string   `json:"delegation_id"`
	D          string   `json:"d"`
	Evidence   string   `json:"evidence_digest"`
	JTI        string   `json:"jti_digest"`
	Material   string   `json:"material_digest"`
}

// vector is what each attestor said, as AR4SI status.
type vector struct {
	Hardware   uint8 `json:"hardware"`
	Boot       uint8 `json:"boot"`
	Code       uint8 `json:"code"`
	Provenance uint8 `json:"provenance"`
	Context    uint8 `json:"context"`
}

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "audit",
		Short:   "read the broker's log",
		Example: "  jurat audit list\n  jurat audit list --from 100 --limit 50",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	var from, limit uint64
	list := &cobra.Command{
		Use:   "list [--from N] [--limit M]",
		Short: "list decisions, and everything an operator did",
		Long: `Lists the broker's log: every decision about an enrolled host, every answer of a
person, everything an operator changed. 'jurat why TXN' explains a line.`,
		Example: "  jurat audit list\n  jurat audit list --from 100 --json | jq '.entries[].entry | select(.decision==\"deny\")'",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.auditList(c.Context(), from, limit)
		},
	}
	list.Flags().Uint64Var(&from, "from", 0, "index `N` of the first entry")
	list.Flags().Uint64Var(&limit, "limit", 0, "`M` entries at most (default: all)")
	c.AddCommand(list)
	return c
}

// auditList reads the log page by page.
func (a *app) auditList(ctx context.Context, from, limit uint64) error {
	out := auditJSON{Schema: "jurat.audit/v1", Entries: []entryJSON{}}
	for next := &from; next != nil && (limit == 0 || uint64(len(out.Entries)) < limit); {
		page, err := a.auditPage(ctx, *next, limit-uint64(len(out.Entries)))
		if err != nil {
			return err
		}
		out.Size, out.Checkpoint = page.Size, page.Checkpoint
		for _, e := range page.Entries {
			e.Entry.Actions, e.Entry.Failed = orEmpty(e.Entry.Actions), orEmpty(e.Entry.Failed)
			out.Entries = append(out.Entries, e)
		}
		out.Next = nil
		if at := *next + uint64(len(page.Entries)); at < page.Size && len(page.Entries) > 0 {
			out.Next = &at
		}
		next = out.Next
	}
	return a.emit(&out, func(p *term.Printer) { showAudit(p, &out) })
}

// auditPage reads one page; most is 0 or less for no bound of the caller's.
func (a *app) auditPage(ctx context.Context, from, most uint64) (*auditJSON, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	query := url.Values{"from": {fmt.Sprint(from)}}
	if most > 0 && most < 1<<62 {
		query.Set("limit", fmt.Sprint(min(most, 500)))
	}
	page := new(auditJSON)
	return page, a.operator().Get(ctx, "reading the log", "/v1/audit?"+query.Encode(), page)
}

func showAudit(p *term.Printer, out *auditJSON) {
	rows := make([][]term.Cell, len(out.Entries))
	for i := range out.Entries {
		e := &out.Entries[i].Entry
		rows[i] = []term.Cell{
			{Text: fmt.Sprint(out.Entries[i].Index)}, {Text: milliseconds(e.Time)}, {Text: e.Type},
			{Text: dash(e.Decision), Style: decisionStyle(e.Decision)}, {Text: dash(e.who())}, {Text: dash(e.what())}, {Text: dash(e.Txn)},
		}
	}
	p.Table("", []string{"INDEX", "TIME", "TYPE", "DECISION", "WHO", "ABOUT", "TXN"}, rows)
	end := "its end"
	if out.Next != nil {
		end = fmt.Sprintf("more with --from %d", *out.Next)
	}
	p.Styled(term.Dim, "%d of %d entries; %s", len(out.Entries), out.Size, end)
}

func decisionStyle(d string) term.Style {
	switch d {
	case "allow", "approved", "approve", "enrolled":
		return term.Green
	case "deny", "refused", "refuse", "revoked", "revoke", "removed":
		return term.Red
	}
	return term.Plain
}

// who says who did it: the workload on its host, a person under their
// pseudonym, or an operator.
func (e *auditEntry) who() string {
	person := e.Human != "" && (e.Type == "approval" || e.Type == "refusal" || e.Type == "revocation")
	switch {
	case person:
		return "person " + e.Human[:min(8, len(e.Human))]
	case e.Type == "decision", e.Type == "revocation", e.Type == "host" && e.Decision == "enrolled":
		var parts []string
		for _, id := range []string{e.Agent, e.Host} {
			if id != "" {
				parts = append(parts, shortID(id))
			}
		}
		return strings.Join(parts, " on ")
	}
	return "operator"
}

// shortID is a SPIFFE ID without the trust domain.
func shortID(id string) string {
	if rest, ok := strings.CutPrefix(id, "spiffe://"); ok {
		if _, path, ok := strings.Cut(rest, "/"); ok {
			return path
		}
	}
	return id
}

// what says which checks failed, or what else the entry is about.
func (e *auditEntry) what() string {
	var parts []string
	for _, f := range e.Failed {
		parts = append(parts, f.Attestor+"/"+f.Check)
	}
	if e.FailedMore > 0 {
		parts = append(parts, fmt.Sprintf("%d more", e.FailedMore))
	}
	if len(parts) > 0 {
		return "no from " + strings.Join(parts, ", ")
	}
	about := []string{strings.Join(e.Actions, ","), e.Audience, shortID(e.Target), e.Delegation}
	if e.Type != "decision" {
		about = append([]string{shortID(e.Agent), shortID(e.Host)}, about...)
		if e.Type == "key" && e.Human != "" {
			about = append(about, "person "+e.Human[:min(8, len(e.Human))])
		}
	}
	for _, s := range about {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, " ")
}

// milliseconds writes milliseconds since 1970.
func milliseconds(ms uint64) string {
	if ms > 253402300799999 { // the year 9999
		return fmt.Sprintf("ms %d", ms)
	}
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02T15:04:05.000Z")
}
