// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"fmt"
	"path"
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
	filter
	kinds []string
	pid   uint32
	most  int
	limit time.Duration
}

func (a *app) eventsCommand() *cobra.Command {
	var s selection
	var follow bool
	c := &cobra.Command{
		Use:   "events",
		Short: "what happens on this host, as it happens",
		Long: `Prints one line for each entry that juratd writes into its log, and for each
credential: time (UTC), kind, pid, user, and what. It begins now and goes on until
interrupted, or as long as --for and -n say; what was before is in the log and
not here. With --json each line is one JSON object.

--unit, --container and --user select by what juratd knows of the process at the
event; events of the host itself are shown as well.`,
		Example: "  jurat events\n  jurat events --kind taint,process\n  jurat events --unit invoice --for 1m --json",
		Args:    arguments(),
		RunE: func(c *cobra.Command, args []string) error {
			for _, k := range s.kinds {
				if !slices.Contains(eventKinds, k) {
					return usage(c, "--kind %q is none of %s", k, strings.Join(eventKinds, ", "))
				}
			}
			if s.most < 0 || s.limit < 0 {
				return usage(c, "-n %d, --for %v: want more than 0", s.most, s.limit)
			}
			if err := s.settle(c); err != nil {
				return err
			}
			return a.events(c.Context(), &s)
		},
	}
	s.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", true, "go on as events come, which is what it does in any case")
	c.Flags().StringSliceVar(&s.kinds, "kind", nil, "only of these `KINDS`: "+strings.Join(eventKinds, ", "))
	c.Flags().Uint32Var(&s.pid, "pid", 0, "only of the process with this `PID`")
	c.Flags().IntVarP(&s.most, "count", "n", 0, "end after `N` events")
	c.Flags().DurationVar(&s.limit, "for", 0, "end after this `TIME`")
	completeWith(c, "kind", eventKinds)
	return c
}

// eventKinds are the kinds of entries, and that of what is no entry.
var eventKinds = []string{"start", "exec", "process", "exit", "loss", "taint", "release", kindNote}

const kindNote = "note"

func kindOf(ev *local.Event) string {
	if ev.Entry == nil {
		return kindNote
	}
	return ev.Entry.Kind.String()
}

// errEnough ends a stream that has shown what was asked for.
var errEnough = errors.New("enough")

func (a *app) events(ctx context.Context, s *selection) error {
	if s.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.limit, errEnough)
		defer cancel()
	}
	shown := 0
	p := a.printer()
	err := a.agent().Events(ctx, func(ev *local.Event) error {
		wanted := s.wants(ev)
		if !wanted {
			if ev.Missed == 0 {
				return nil
			}
			ev = &local.Event{Time: ev.Time, Missed: ev.Missed} // that others are missing is for everybody
		}
		if err := a.showEvent(p, ev, wanted); err != nil {
			return err
		}
		if !wanted {
			return nil
		}
		if shown++; s.most > 0 && shown >= s.most {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || context.Cause(ctx) == errEnough {
		return nil
	}
	return err
}

// wants reports whether the event is of interest.
func (s *selection) wants(ev *local.Event) bool {
	if len(s.kinds) > 0 && !slices.Contains(s.kinds, kindOf(ev)) {
		return false
	}
	if s.pid != 0 && (ev.Instance == nil || ev.Instance.PID != s.pid) {
		return false
	}
	return ev.Instance == nil || s.match(ev.Unit, ev.Container, ev.UID)
}

// showEvent prints one event as one line, after how many were missed before
// it; whole is false where nothing else is to be told.
func (a *app) showEvent(p *term.Printer, ev *local.Event, whole bool) error {
	if a.json {
		return a.encode(struct {
			Schema string `json:"schema"`
			*local.Event
		}{"jurat.event/v1", ev}, "")
	}
	at := time.Unix(0, ev.Time).UTC().Format("15:04:05.000")
	if ev.Missed > 0 {
		p.Styled(term.Yellow, "%s missed   %d events: this reader was too slow", at, ev.Missed)
	}
	if !whole {
		return p.Err()
	}
	pid, who := "-", "-"
	if ev.Instance != nil {
		pid = fmt.Sprint(ev.Instance.PID)
	}
	if ev.UID != nil {
		who = a.userName(*ev.UID)
	}
	style, text := eventText(ev)
	p.Spans(term.Cell{Text: at + " ", Style: term.Dim}, term.Cell{Text: fmt.Sprintf("%-7s", kindOf(ev)), Style: style},
		term.Cell{Text: fmt.Sprintf(" %7s %-8s ", pid, who)}, term.Cell{Text: text, Style: loud(style)})
	return p.Err()
}

// loud leaves the styles that warn; a whole line in another would tire.
func loud(s term.Style) term.Style {
	if s == term.Red || s == term.Yellow {
		return s
	}
	return term.Plain
}

// eventText says what an event is about, and how it stands out.
func eventText(ev *local.Event) (term.Style, string) {
	e, name := ev.Entry, path.Base(orWord(ev.Path, orWord(ev.Command, "?")))
	switch {
	case e == nil:
		return term.Green, name + ": " + ev.Note
	case e.Exec != nil:
		return execText(e.Exec)
	case e.Process != nil:
		f, _ := e.Process.Exe.Observed()
		text := fmt.Sprintf("measured in full: %s %s", path.Base(f.Path), digestShort(f.Digest))
		if m, ok := e.Process.Code.Observed(); ok && m.Count > 0 {
			text += fmt.Sprintf(", code %s of %d files", prefix(m.Root.String(), 8), m.Count)
		}
		return term.Green, text
	case e.Exit != nil:
		return term.Dim, exitText(e.Exit.Code)
	case e.Loss != nil:
		return term.Yellow, fmt.Sprintf("%d records lost: %s", e.Loss.Count, e.Loss.Cause)
	case e.Taint != nil:
		text := name + ": "
		if e.Instance == nil {
			text = "the host: "
		}
		text += e.Taint.Name
		if e.Taint.By != nil {
			text += fmt.Sprintf(", done by process %d", e.Taint.By.PID)
		}
		return term.Red, text + ", seen by " + e.Taint.How
	case e.Release != nil:
		return term.Plain, fmt.Sprintf("%s: evidence left the host, window %.1f ms", name, float64(e.Release.Window)/1e6)
	case e.Start != nil:
		return term.Bold, fmt.Sprintf("epoch %d begins: %s, tier %s", e.Start.Epoch, e.Start.Reason, e.Start.Tier)
	}
	return term.Plain, ""
}

func execText(x *evidence.Exec) (term.Style, string) {
	f, _ := x.Exe.Observed()
	style, text := term.Plain, orWord(f.Path, x.Hint)+" "+digestShort(f.Digest)
	if x.Hint != "" && x.Hint != f.Path {
		text += " as " + x.Hint
	}
	if x.Seen {
		text += ", ran before juratd"
	} else {
		text += fmt.Sprintf(", by %d", x.Parent.PID)
	}
	if len(x.Taints) > 0 {
		style, text = term.Red, text+", tainted: "+strings.Join(x.Taints, ", ")
	}
	if len(x.Exe.Taints()) > 0 {
		style, text = term.Red, text+", tainted: "+strings.Join(x.Exe.Taints(), ", ")
	}
	return style, text
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
		return "(" + orWord(v.Reason(), "not measured") + ")"
	case len(v.Taints()) > 0:
		return prefix(d.Value.String(), 8) + " TAINTED (" + strings.Join(v.Taints(), ", ") + ")"
	}
	return prefix(d.Value.String(), 8)
}
