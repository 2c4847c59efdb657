// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// selection says which events are of interest.
type selection struct {
	filter filter
	kinds  []string
	pid    uint32
	most   int
	limit  time.Duration
}

func (a *app) eventsCommand() *cobra.Command {
	var s selection
	var follow bool
	c := &cobra.Command{
		Use:   "events",
		Short: "what happens on this host, as it happens",
		Long: `Prints one line for each entry that juratd writes into its log: time, kind, pid,
and what. It goes on until interrupted, or as long as --for and -n say. With
--json each line is one JSON object.

--unit, --container and --user select by what is known of a process when its
event comes; events of the host itself are shown as well.`,
		Example: "  jurat events\n  jurat events --kind taint,process\n  jurat events --unit invoice.service --for 1m --json",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			for _, k := range s.kinds {
				if new(evidence.Kind).UnmarshalText([]byte(k)) != nil {
					return usage(c, "--kind %q is none of start, exec, process, exit, loss, taint, release", k)
				}
			}
			return a.events(c.Context(), &s)
		},
	}
	s.filter.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", true, "go on as events come, which is what it does in any case")
	c.Flags().StringSliceVar(&s.kinds, "kind", nil, "only of these `KINDS`: start, exec, process, exit, loss, taint, release")
	c.Flags().Uint32Var(&s.pid, "pid", 0, "only of this process")
	c.Flags().IntVarP(&s.most, "count", "n", 0, "end after so many")
	c.Flags().DurationVar(&s.limit, "for", 0, "end after this time")
	return c
}

// errEnough ends a stream that has shown what was asked for.
var errEnough = errors.New("enough")

func (a *app) events(ctx context.Context, s *selection) error {
	if s.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.limit, errEnough)
		defer cancel()
	}
	var who *cast
	if s.filter != (filter{}) {
		who = &cast{app: a}
	}
	shown := 0
	p := a.printer()
	err := a.agent().Events(ctx, func(ev *local.Event) error {
		if ev.Missed > 0 && !a.json {
			p.Styled(term.Yellow, "… %d events missed: this reader was too slow", ev.Missed)
		}
		if !s.wants(ctx, who, ev) {
			return p.Err()
		}
		if err := a.showEvent(p, ev); err != nil {
			return err
		}
		if shown++; s.most > 0 && shown >= s.most {
			return errEnough
		}
		return p.Err()
	})
	if errors.Is(err, errEnough) || context.Cause(ctx) == errEnough {
		return nil
	}
	return err
}

// wants reports whether the event is of interest.
func (s *selection) wants(ctx context.Context, c *cast, ev *local.Event) bool {
	e := ev.Entry
	if e == nil {
		return len(s.kinds) == 0 && s.pid == 0
	}
	if len(s.kinds) > 0 && !slices.Contains(s.kinds, e.Kind.String()) {
		return false
	}
	if s.pid != 0 && (e.Instance == nil || e.Instance.PID != s.pid) {
		return false
	}
	return c == nil || e.Instance == nil || c.match(ctx, &s.filter, e)
}

// showEvent prints one event as one line.
func (a *app) showEvent(p *term.Printer, ev *local.Event) error {
	if a.json {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		return e.Encode(struct {
			Schema string `json:"schema"`
			*local.Event
		}{"jurat.event/v1", ev})
	}
	style, kind, pid, text := term.Plain, "note", "", ev.Note
	if e := ev.Entry; e != nil {
		kind = e.Kind.String()
		style, text = eventText(e)
		if ev.Note != "" {
			text += "  " + ev.Note
		}
		if e.Instance != nil {
			pid = fmt.Sprint(e.Instance.PID)
		}
	}
	at := time.Unix(0, ev.Time).UTC().Format("15:04:05.000")
	p.Row(style, fmt.Sprintf("%s  %-7s  %7s  ", at, kind, pid), strings.TrimRight(text, " "))
	return p.Err()
}

// eventText says what an entry is about, and how it stands out.
func eventText(e *evidence.Entry) (term.Style, string) {
	switch {
	case e.Exec != nil:
		f, _ := e.Exec.Exe.Observed()
		text := fmt.Sprintf("%s  %s  by %d, %s", orWord(f.Path, e.Exec.Hint), digestShort(f.Digest), e.Exec.Parent.PID, userName(e.Exec.Creds.UID))
		if e.Exec.Hint != "" && e.Exec.Hint != f.Path {
			text += ", called as " + e.Exec.Hint
		}
		if len(e.Exec.Taints) > 0 {
			return term.Red, text + ", tainted: " + strings.Join(e.Exec.Taints, ", ")
		}
		return term.Plain, text
	case e.Process != nil:
		f, _ := e.Process.Exe.Observed()
		text := fmt.Sprintf("measured in full: %s  %s", f.Path, digestShort(f.Digest))
		if m, ok := e.Process.Code.Observed(); ok && m.Count > 0 {
			text += fmt.Sprintf("  code %s (%d files)", clip(m.Root.String(), 8), m.Count)
		}
		return term.Green, text
	case e.Exit != nil:
		return term.Dim, exitText(e.Exit.Code)
	case e.Loss != nil:
		return term.Yellow, fmt.Sprintf("%d records lost: %s", e.Loss.Count, e.Loss.Cause)
	case e.Taint != nil:
		text := e.Taint.Name + ", seen by " + e.Taint.How
		if e.Taint.By != nil {
			text += fmt.Sprintf(", done by process %d", e.Taint.By.PID)
		}
		if e.Instance == nil {
			text = "the host: " + text
		}
		return term.Red, text
	case e.Release != nil:
		return term.Plain, fmt.Sprintf("evidence left the host; window %.1f ms", float64(e.Release.Window)/1e6)
	case e.Start != nil:
		return term.Bold, fmt.Sprintf("epoch %d begins: %s, tier %s", e.Start.Epoch, e.Start.Reason, e.Start.Tier)
	}
	return term.Plain, ""
}

// exitText puts a wait status in words (wait(2)).
func exitText(status uint32) string {
	if signal := status & 0x7f; signal != 0 {
		return fmt.Sprintf("killed by signal %d", signal)
	}
	return fmt.Sprintf("ended with %d", status>>8&0xff)
}

func digestShort(v evidence.Value[evidence.Digest]) string {
	d, ok := v.Observed()
	switch {
	case !ok:
		return "digest unknown (" + v.Reason() + ")"
	case len(v.Taints()) > 0:
		return clip(d.Value.String(), 8) + " TAINTED (" + strings.Join(v.Taints(), ", ") + ")"
	}
	return clip(d.Value.String(), 8)
}

// cast is who is who, for filters: events name instances only.
type cast struct {
	app   *app
	known map[uint32]local.Process
}

// match asks juratd about a process that is not known yet.
func (c *cast) match(ctx context.Context, f *filter, e *evidence.Entry) bool {
	i := *e.Instance
	p, ok := c.known[i.PID]
	if !ok || p.Instance != i {
		all, err := c.app.processes(ctx)
		if err != nil {
			return false
		}
		c.known = make(map[uint32]local.Process, len(all.Processes))
		for _, p := range all.Processes {
			c.known[p.Instance.PID] = p
		}
		if p, ok = c.known[i.PID]; !ok || !p.Instance.SameProcess(i) {
			return false
		}
	}
	return f.match(&p)
}
