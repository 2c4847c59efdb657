// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"cmp"
	"context"
	"fmt"
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
}

func (f *filter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.unit, "unit", "", "only of this systemd `UNIT`")
	c.Flags().StringVar(&f.container, "container", "", "only of the container whose `ID` begins so")
	c.Flags().StringVar(&f.user, "user", "", "only of this `USER`, by name or number")
}

// match reports whether a process is of interest.
func (f *filter) match(p *local.Process) bool {
	return (f.unit == "" || p.Unit == f.unit) &&
		(f.container == "" || p.Container != "" && strings.HasPrefix(p.Container, f.container)) &&
		(f.user == "" || strconv.FormatUint(uint64(p.UID), 10) == f.user || userName(p.UID) == f.user) &&
		(!f.tainted || p.Standing == local.StandingTainted)
}

// standings are how processes stand, what an operator looks at first in front.
var standings = []string{local.StandingTainted, local.StandingUnknown, local.StandingMeasured, local.StandingSeen, local.StandingKnown}

var standingStyles = map[string]term.Style{
	local.StandingTainted: term.Red, local.StandingUnknown: term.Yellow, local.StandingMeasured: term.Green, local.StandingSeen: term.Dim,
}

func (a *app) psCommand() *cobra.Command {
	var f filter
	var byPID bool
	c := &cobra.Command{
		Use:   "ps [PATTERN]",
		Short: "what runs on this host, and how far it is known",
		Long: `Lists the processes that juratd knows, those to look at first on top. PATTERN is
a part of the program's or script's path.

How a process stands is the host's own view; the verdict is the broker's:
  tainted    something spoilt it: no broker will believe it ('jurat explain PID')
  unknown    its program has no digest, for the reason shown
  measured   it was measured in full for a credential
  seen       it ran before juratd did
  known      the digest of its program is known`,
		Example: "  jurat ps --unit invoice.service\n  jurat ps python",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.processes(c.Context())
			if err != nil {
				return err
			}
			pattern := strings.Join(args, "")
			out := &psJSON{Schema: "jurat.ps/v1", Known: len(all.Processes), More: all.More, Processes: []local.Process{}}
			for _, p := range all.Processes {
				if f.match(&p) && (strings.Contains(p.Path, pattern) || strings.Contains(p.Script, pattern)) {
					out.Processes = append(out.Processes, p)
				}
			}
			if !byPID {
				slices.SortStableFunc(out.Processes, func(x, y local.Process) int {
					return cmp.Compare(slices.Index(standings, x.Standing), slices.Index(standings, y.Standing))
				})
			}
			return a.emit(out, func(p *term.Printer) { a.showProcesses(p, out) })
		},
	}
	f.flags(c)
	c.Flags().BoolVar(&f.tainted, "tainted", false, "only what is tainted")
	c.Flags().BoolVar(&byPID, "by-pid", false, "in the order of pids")
	return c
}

// psJSON is jurat.ps/v1.
type psJSON struct {
	Schema    string          `json:"schema"`
	Known     int             `json:"known"`
	More      bool            `json:"more"` // juratd knows others that did not fit
	Processes []local.Process `json:"processes"`
}

// processes asks juratd what runs.
func (a *app) processes(ctx context.Context) (*local.Processes, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return a.agent().Processes(ctx)
}

func (a *app) showProcesses(p *term.Printer, out *psJSON) {
	count := make(map[string]int)
	rows := make([][]term.Cell, 0, len(out.Processes))
	for i := range out.Processes {
		q := &out.Processes[i]
		count[q.Standing]++
		rows = append(rows, []term.Cell{
			{Text: fmt.Sprint(q.Instance.PID)}, {Text: userName(q.UID)}, {Text: q.Standing, Style: standingStyles[q.Standing]},
			{Text: digestOrReason(q)}, {Text: dash(place(q))}, {Text: a.age(q.At)}, {Text: program(q)},
		})
	}
	p.Table("", []string{"PID", "USER", "STANDING", "DIGEST/WHY", "UNIT/CONTAINER", "AGE", "PROGRAM"}, rows)
	var parts []string
	for _, s := range standings {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	p.Styled(term.Dim, "%d of %d processes%s", len(out.Processes), out.Known, colon(strings.Join(parts, ", ")))
	if out.More {
		p.Styled(term.Yellow, "juratd knows more than fit into one answer")
	}
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// digestOrReason is a digest as far as people compare it, or why there is none.
func digestOrReason(p *local.Process) string {
	if len(p.Taints) > 0 && p.Standing == local.StandingTainted {
		return p.Taints[len(p.Taints)-1].Name
	}
	if d, ok := p.Digest.Observed(); ok {
		return clip(d.Value.String(), 8)
	}
	return p.Digest.Reason()
}

func place(p *local.Process) string {
	if p.Container != "" {
		return clip(p.Container, 8)
	}
	return p.Unit
}

// program is what runs, in as many words as an operator knows it by.
func program(p *local.Process) string {
	text := orWord(p.Path, p.Command)
	if p.Script != "" {
		text = path.Base(text) + " " + p.Script
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

// userName is the name of a user of this machine, or the number.
func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}
