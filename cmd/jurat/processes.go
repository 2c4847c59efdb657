// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// filter says which processes are of interest.
type filter struct {
	unit, container, user string
	tainted               bool

	uid uint32 // of user
}

func (f *filter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.unit, "unit", "", "only of this systemd `UNIT`; .service may be left out")
	c.Flags().StringVar(&f.container, "container", "", "only of the container whose `ID` begins so")
	c.Flags().StringVar(&f.user, "user", "", "only of this `USER`, by name or number")
}

// settle finds out who the user is: a misspelt name must not look like a host
// on which nothing of theirs runs.
func (f *filter) settle(c *cobra.Command) error {
	if f.user == "" {
		return nil
	}
	number := f.user
	if u, err := user.Lookup(f.user); err == nil {
		number = u.Uid
	}
	uid, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return usage(c, "--user %q: this host knows no such user; a number does as well", f.user)
	}
	f.uid = uint32(uid)
	return nil
}

// match reports whether something of that unit, container and user is of
// interest; uid is nil where nobody knows.
func (f *filter) match(unit, container string, uid *uint32) bool {
	return (f.unit == "" || unit == f.unit || unit == f.unit+".service" || strings.HasSuffix(unit, "/"+f.unit)) &&
		(f.container == "" || container != "" && strings.HasPrefix(container, f.container)) &&
		(f.user == "" || uid != nil && *uid == f.uid)
}

func (f *filter) matchProcess(p *local.Process) bool {
	return f.match(p.Unit, p.Container, &p.UID) && (!f.tainted || p.Standing == local.StandingTainted)
}

// standings are how processes stand, what an operator looks at first in front.
var standings = []string{local.StandingTainted, local.StandingUnknown, local.StandingMeasured, local.StandingSeen, local.StandingKnown}

var standingStyles = map[string]term.Style{
	local.StandingTainted: term.Red, local.StandingUnknown: term.Yellow, local.StandingMeasured: term.Green, local.StandingSeen: term.Dim,
}

func (a *app) psCommand() *cobra.Command {
	q := &psQuery{}
	var every time.Duration
	c := &cobra.Command{
		Use:   "ps [PATTERN]",
		Short: "what runs on this host, and how far it is known",
		Long: `Lists the processes that juratd knows, those to look at first on top. PATTERN is
a part of the program's or script's path, of an argument, or of what the process
calls itself.
Kernel threads run no program and are not listed.

How a process stands is the host's own view; the verdict is the broker's:
  tainted    something spoilt it: no broker will believe it ('jurat explain PID')
  unknown    its program has no digest, for the reason shown
  measured   it was measured in full for a credential
  seen       it ran before juratd did
  known      the digest of its program is known

On a terminal, lines are cut to fit; --json has everything in full.`,
		Example: "  jurat ps --unit invoice\n  jurat ps python --sort age\n  jurat ps --tainted --watch=5s",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			q.pattern = strings.Join(args, "")
			if err := q.settle(c); err != nil {
				return err
			}
			if every != 0 {
				return a.psWatch(c, q, every)
			}
			out, err := a.ps(c.Context(), q)
			if err != nil {
				return err
			}
			return a.emit(out, func(p *term.Printer) { a.showProcesses(p, out, 0) })
		},
	}
	q.flags(c)
	c.Flags().BoolVar(&q.tainted, "tainted", false, "only what is tainted")
	c.Flags().StringVar(&q.order, "sort", "standing", "sort by `COLUMN`: "+strings.Join(orderNames, ", "))
	c.Flags().DurationVarP(&every, "watch", "w", 0, "show it anew each `TIME`, until interrupted")
	c.Flags().Lookup("watch").NoOptDefVal = "2s"
	completeWith(c, "sort", orderNames)
	return c
}

// psQuery is what somebody wants to see of the processes.
type psQuery struct {
	filter
	pattern, order string
}

func (q *psQuery) settle(c *cobra.Command) error {
	if !slices.Contains(orderNames, q.order) {
		return usage(c, "--sort %q is none of %s", q.order, strings.Join(orderNames, ", "))
	}
	return q.filter.settle(c)
}

// orderNames are what processes can be sorted by; the first is the default.
// Within each the order is that of pids.
var orderNames = []string{"standing", "pid", "user", "unit", "age", "program"}

func (a *app) compare(order string) func(x, y *local.Process) int {
	switch order {
	case "standing":
		return func(x, y *local.Process) int {
			return cmp.Compare(slices.Index(standings, x.Standing), slices.Index(standings, y.Standing))
		}
	case "user":
		return func(x, y *local.Process) int { return cmp.Compare(a.userName(x.UID), a.userName(y.UID)) }
	case "unit":
		return func(x, y *local.Process) int { return cmp.Compare(place(x), place(y)) }
	case "age": // the youngest last, beside the prompt
		return func(x, y *local.Process) int { return cmp.Compare(x.At, y.At) }
	case "program":
		return func(x, y *local.Process) int { return cmp.Compare(program(x), program(y)) }
	}
	return func(_, _ *local.Process) int { return 0 } // juratd's order is that of pids
}

// psJSON is jurat.ps/v1.
type psJSON struct {
	Schema    string           `json:"schema"`
	Known     int              `json:"known"`
	Processes []*local.Process `json:"processes"`
}

func (a *app) ps(ctx context.Context, q *psQuery) (*psJSON, error) {
	all, err := a.processes(ctx)
	if err != nil {
		return nil, err
	}
	out := &psJSON{Schema: "jurat.ps/v1", Known: len(all), Processes: make([]*local.Process, 0, len(all))}
	for i := range all {
		p := &all[i]
		named := strings.Contains(p.Path, q.pattern) || strings.Contains(p.Script, q.pattern) || strings.Contains(p.Command, q.pattern) ||
			slices.ContainsFunc(p.Arguments, func(s string) bool { return strings.Contains(s, q.pattern) })
		if named && q.matchProcess(p) {
			out.Processes = append(out.Processes, p)
		}
	}
	slices.SortStableFunc(out.Processes, a.compare(q.order))
	return out, nil
}

// processes asks juratd what runs.
func (a *app) processes(ctx context.Context) ([]local.Process, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return a.agent().Processes(ctx)
}

// psWatch shows the processes again and again, as many as the screen takes.
func (a *app) psWatch(c *cobra.Command, q *psQuery, every time.Duration) error {
	if a.json || !term.IsTerminal(a.out) {
		return usage(c, "--watch needs a terminal to show it on")
	}
	if every < 0 {
		return usage(c, "--watch %v, want a time", every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		out, err := a.ps(c.Context(), q)
		if err != nil {
			return err
		}
		var b strings.Builder
		screen, most := a.screen(), 0
		if screen.Rows > 0 { // less titles, totals, how many more, and the cursor's line
			most = max(1, screen.Rows-4)
		}
		a.showProcesses(term.New(&b, a.color(a.out)).On(screen), out, most)
		if _, err := io.WriteString(a.out, term.Frame(b.String())); err != nil {
			return err
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// showProcesses prints a table, at most so many lines of it (0: all).
func (a *app) showProcesses(p *term.Printer, out *psJSON, most int) {
	count := make(map[string]int)
	rows := make([][]term.Cell, 0, len(out.Processes))
	for i, q := range out.Processes {
		if count[q.Standing]++; most > 0 && i >= most {
			continue
		}
		style := standingStyles[q.Standing]
		why := digestOrReason(q)
		if q.Standing != local.StandingTainted && q.Standing != local.StandingUnknown {
			why.Style = term.Plain
		}
		rows = append(rows, []term.Cell{
			{Text: fmt.Sprint(q.Instance.PID)}, {Text: a.userName(q.UID)}, {Text: q.Standing, Style: style},
			why, {Text: dash(place(q))}, {Text: a.age(q.At)}, {Text: program(q), Tail: q.Script != "" || len(q.Arguments) < 2},
		})
	}
	p.List([]term.Column{
		{Title: "PID"}, {Title: "USER", Least: 8}, {Title: "STANDING"}, {Title: "DIGEST/WHY", Least: 16}, {Title: "UNIT", Least: 12},
		{Title: "AGE"}, {Title: "PROGRAM", Least: 24},
	}, rows)
	if hidden := len(out.Processes) - len(rows); hidden > 0 {
		p.Spans(term.Cell{Text: fmt.Sprintf("and %d more", hidden), Style: term.Dim})
	}
	var parts []string
	for _, s := range standings {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	p.Spans(term.Cell{Text: fmt.Sprintf("%d of %d processes%s", len(out.Processes), out.Known, colon(strings.Join(parts, ", "))), Style: term.Dim})
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// digestOrReason is a digest as far as people compare it, or why there is none
// to believe.
func digestOrReason(p *local.Process) term.Cell {
	style := standingStyles[p.Standing]
	if p.Standing == local.StandingTainted {
		if names := taintNames(p); len(names) > 0 {
			more := ""
			if len(names) > 1 {
				more = fmt.Sprintf(" +%d", len(names)-1)
			}
			return term.Cell{Text: names[0] + more, Style: style}
		}
	}
	if d, ok := p.Digest.Observed(); ok {
		return term.Cell{Text: prefix(d.Value.String(), 8), Style: style}
	}
	return term.Cell{Text: p.Digest.Reason(), Style: style}
}

// taintNames lists what is held against a process, the latest first, and
// against its digest.
func taintNames(p *local.Process) []string {
	var names []string
	for _, t := range slices.Backward(p.Taints) {
		names = append(names, t.Name)
	}
	return append(names, p.Digest.Taints()...)
}

// place is where a process belongs: its container, else its unit.
func place(p *local.Process) string {
	if p.Container != "" {
		return prefix(p.Container, 12)
	}
	return strings.TrimSuffix(p.Unit, ".service")
}

// prefix is the beginning of something in hexadecimal, for people who compare.
func prefix(s string, n int) string { return s[:min(n, len(s))] }

// program is what runs, in as many words as an operator knows it by: the
// script, else what the program was told.
func program(p *local.Process) string {
	text := orWord(p.Path, p.Command)
	switch {
	case p.Script != "":
		text = path.Base(text) + " " + p.Script
	case len(p.Arguments) > 1:
		text = path.Base(text) + " " + strings.Join(p.Arguments[1:], " ")
	}
	if p.Origin == evidence.OriginFork {
		text += " (fork)"
	}
	return orWord(text, "?")
}

// age is how long ago something was, in its two largest units.
func (a *app) age(at int64) string {
	d := a.now().Sub(time.Unix(at, 0)).Round(time.Second)
	switch {
	case at == 0 || d < 0:
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d/time.Second%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d/time.Minute%60)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d/time.Hour%24)
}

// userName is the name of a user of this machine, or the number. Each is looked
// up once.
func (a *app) userName(uid uint32) string {
	name, ok := a.users[uid]
	if !ok {
		name = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		if a.users == nil {
			a.users = make(map[uint32]string)
		}
		a.users[uid] = name
	}
	return name
}
