// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// whyJSON is jurat.why/v1: what the broker said, with a schema.
type whyJSON struct {
	Schema     string        `json:"schema"`
	Type       string        `json:"type,omitempty"`
	Title      string        `json:"title"`
	Status     int           `json:"status"`
	Txn        string        `json:"txn"`
	Decision   string        `json:"decision"`
	Time       string        `json:"time,omitempty"`
	Agent      string        `json:"agent,omitempty"`
	Host       string        `json:"host,omitempty"`
	Process    string        `json:"process,omitempty"`
	Audience   string        `json:"audience,omitempty"`
	Code       string        `json:"code,omitempty"`   // rejection code of package verify
	Reason     string        `json:"reason,omitempty"` // an operator's words
	Stations   []stationJSON `json:"stations"`         // what failed
	Passed     []string      `json:"passed"`           // attestors
	Checks     []stationJSON `json:"checks"`           // what passed
	Delegation string        `json:"delegation,omitempty"`
	Policy     string        `json:"policy,omitempty"`
	PrevTxn    string        `json:"prev_txn,omitempty"`
	LogIndex   *uint64       `json:"log_index"`
	Requests   []requestLine `json:"requests,omitempty"`
	Counters   counters      `json:"counters,omitempty"`
	Failed     []check       `json:"failed,omitempty"` // the short form, for those who are no operator
}

// requestLine is one request of a bundle, explained under its own txn.
type requestLine struct {
	Index   uint64 `json:"index"`
	Txn     string `json:"txn"`
	Verdict string `json:"verdict"`
}

// counters say how many messages of strangers were refused, and why.
type counters map[string]uint64

type stationJSON struct {
	N        int      `json:"n"`
	Attestor string   `json:"attestor"`
	Check    string   `json:"check"`
	Expected []string `json:"expected"`
	Observed []string `json:"observed"`
	Hint     string   `json:"hint,omitempty"`
}

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why TXN",
		Short: "explain one decision of the broker",
		Long: `Explains one decision: what each attestor said, what was expected and what was
seen, side by side, where the log has it, and what would make it pass. TXN is
in every refusal, in 'jurat audit list' and in a service's log.

Operators get all of it, over the operator socket. With --broker the public API
is asked, which names the checks that failed and no more.`,
		Example: "  jurat why 01JDA7…",
		Args:    arguments("TXN"),
		RunE:    func(c *cobra.Command, args []string) error { return a.why(c.Context(), args[0]) },
	}
}

func (a *app) why(ctx context.Context, txn string) error {
	client, err := a.anyBroker()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	out := new(whyJSON)
	if err := client.Get(ctx, "asking why", "/v1/explain/"+url.PathEscape(txn), out); err != nil {
		return err
	}
	out.Schema = "jurat.why/v1"
	for _, f := range out.Failed {
		out.Stations = append(out.Stations, stationJSON{Attestor: f.Attestor, Check: f.Check})
	}
	out.Stations, out.Checks, out.Passed = orEmpty(out.Stations), orEmpty(out.Checks), orEmpty(out.Passed)
	for _, list := range [][]stationJSON{out.Stations, out.Checks} {
		for i := range list {
			list[i].Expected, list[i].Observed = orEmpty(list[i].Expected), orEmpty(list[i].Observed)
		}
	}
	return a.emit(out, func(p *term.Printer) { showWhy(p, out) })
}

// attestors are asked in this order.
var attestors = []string{"hardware", "boot", "code", "provenance", "context"}

func showWhy(p *term.Printer, w *whyJSON) {
	p.Styled(term.Bold, "%s: %s", strings.ToUpper(orWord(w.Decision, "denied")), w.Title)
	index := ""
	if w.LogIndex != nil {
		index = fmt.Sprint(*w.LogIndex)
	}
	p.Fields("  ",
		term.Field{Label: "txn", Value: w.Txn},
		term.Field{Label: "time", Value: w.Time},
		term.Field{Label: "log index", Value: index},
		term.Field{Label: "workload", Value: w.Agent},
		term.Field{Label: "host", Value: w.Host},
		term.Field{Label: "process", Value: w.Process},
		term.Field{Label: "audience", Value: w.Audience},
		term.Field{Label: "code", Value: w.Code},
		term.Field{Label: "reason", Value: w.Reason},
		term.Field{Label: "delegation", Value: w.Delegation},
		term.Field{Label: "registration", Value: w.Policy},
		term.Field{Label: "evidence", Value: w.PrevTxn},
	)
	for _, r := range w.Requests {
		p.Fields("  ", term.Field{Label: fmt.Sprintf("request %d", r.Index), Value: r.Verdict + ", jurat why " + r.Txn})
	}
	for _, name := range slices.Sorted(maps.Keys(w.Counters)) {
		p.Fields("  ", term.Field{Label: name, Value: fmt.Sprint(w.Counters[name])})
	}
	if len(w.Stations)+len(w.Checks)+len(w.Passed) > 0 {
		p.Blank()
		showAttestors(p, w)
	}
}

func showAttestors(p *term.Printer, w *whyJSON) {
	first := true
	for _, name := range w.asked() {
		no, yes := of(w.Stations, name), of(w.Checks, name)
		switch {
		case len(no) > 0:
			mark := ""
			if first {
				mark, first = "   <- the first no", false
			}
			p.Styled(term.Red, "  no   %s%s", name, mark)
			for _, s := range no {
				showStation(p, s)
			}
		case len(yes) > 0 || slices.Contains(w.Passed, name):
			p.Styled(term.Green, "  yes  %s%s", name, made(yes))
		default:
			p.Styled(term.Dim, "  -    %s (not asked)", name)
		}
	}
}

// asked lists the five attestors, and whatever else the broker names.
func (w *whyJSON) asked() []string {
	names := slices.Clone(attestors)
	for _, s := range slices.Concat(w.Stations, w.Checks) {
		if !slices.Contains(names, s.Attestor) {
			names = append(names, s.Attestor)
		}
	}
	return names
}

func of(list []stationJSON, attestor string) []stationJSON {
	return slices.DeleteFunc(slices.Clone(list), func(s stationJSON) bool { return s.Attestor != attestor })
}

func made(checks []stationJSON) string {
	switch len(checks) {
	case 0:
		return ""
	case 1:
		return " (1 check)"
	}
	return fmt.Sprintf(" (%d checks)", len(checks))
}

// showStation puts expected and observed side by side, below each other where
// digests are long, so that they can be compared by eye.
func showStation(p *term.Printer, s stationJSON) {
	p.Line("         %s", s.Check)
	side := func(label string, values []string) {
		for i, v := range values {
			if i > 0 {
				label = ""
			}
			p.Line("           %-9s %s", label, v)
		}
		if len(values) == 0 && len(s.Expected)+len(s.Observed) > 0 {
			p.Line("           %-9s nothing", label)
		}
	}
	side("expected", s.Expected)
	side("observed", s.Observed)
	if s.Hint != "" {
		p.Styled(term.Yellow, "           remedy    %s", s.Hint)
	}
}
