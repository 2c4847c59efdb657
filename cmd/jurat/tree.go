// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

func (a *app) treeCommand() *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use:   "tree [PID]",
		Short: "who started whom, with what spoilt them",
		Long: `Shows the processes that juratd knows as a tree: each below the one that made it,
with its standing ('jurat ps --help'), digest, program, user and unit. With PID:
that process, its parents up to the first, and what it started. What a flag
leaves out is shown where it leads to something of interest.

A process whose parent has ended stands at the left edge: the kernel gives it
another parent, which did not make it.`,
		Example: "  jurat tree\n  jurat tree 4711\n  jurat tree --tainted",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			var pid uint32
			if len(args) == 1 {
				var err error
				if pid, err = parsePID(c, args[0]); err != nil {
					return err
				}
			}
			if err := f.settle(c); err != nil {
				return err
			}
			all, err := a.processes(c.Context())
			if err != nil {
				return err
			}
			roots := grow(all)
			if pid != 0 {
				if roots = lineage(roots, pid); roots == nil {
					return notKnown(pid)
				}
			}
			if f != (filter{}) {
				roots = prune(roots, f.matchProcess)
			}
			out := &treeJSON{Schema: "jurat.tree/v1", Roots: orEmpty(roots)}
			return a.emit(out, func(p *term.Printer) { a.showTree(p, roots) })
		},
		ValidArgsFunction: a.completePID,
	}
	f.flags(c)
	c.Flags().BoolVar(&f.tainted, "tainted", false, "only what is tainted")
	return c
}

// parsePID reads a process number from a command line.
func parsePID(c *cobra.Command, text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, usage(c, "%q is no process number", text)
	}
	return uint32(n), nil
}

func notKnown(pid uint32) *failure {
	return &failure{exit: exitNo, code: "not-found", err: fmt.Errorf("juratd knows no process %d", pid), hint: "'jurat ps' lists those it knows; it may have ended"}
}

// treeJSON is jurat.tree/v1.
type treeJSON struct {
	Schema string  `json:"schema"`
	Roots  []*node `json:"roots"`
}

// node is a process and what it started.
type node struct {
	Process  local.Process `json:"process"`
	Children []*node       `json:"children,omitempty"`
}

// grow makes trees of processes. One whose parent is not known, or was another
// process of that number, is a root.
func grow(all []local.Process) []*node {
	byPID := make(map[uint32]*node, len(all))
	for i := range all {
		byPID[all[i].Instance.PID] = &node{Process: all[i]}
	}
	var roots []*node
	for i := range all {
		n := byPID[all[i].Instance.PID]
		parent := byPID[n.Process.Parent.PID]
		if parent == nil || parent == n || parent.Process.Instance.Start != n.Process.Parent.Start || parent.Process.Instance.Start > n.Process.Instance.Start {
			roots = append(roots, n)
			continue
		}
		parent.Children = append(parent.Children, n)
	}
	return roots
}

// lineage leaves of the trees what leads to pid and what is below it.
func lineage(roots []*node, pid uint32) []*node {
	for _, n := range roots {
		if n.Process.Instance.PID == pid {
			return []*node{n}
		}
		if below := lineage(n.Children, pid); below != nil {
			return []*node{{Process: n.Process, Children: below}}
		}
	}
	return nil
}

// prune leaves of the trees what is of interest and what leads to it.
func prune(roots []*node, keep func(*local.Process) bool) []*node {
	var out []*node
	for _, n := range roots {
		below := prune(n.Children, keep)
		if len(below) > 0 || keep(&n.Process) {
			out = append(out, &node{Process: n.Process, Children: below})
		}
	}
	return out
}

// branches are the lines of a tree.
type branches struct {
	app              *app
	p                *term.Printer
	tee, corner, bar string
}

// deepest is how many columns the lines of a tree take at most. What is deeper
// has lost the lines farthest from it.
const deepest = 36

func (a *app) showTree(p *term.Printer, roots []*node) {
	b := &branches{a, p, "├─ ", "└─ ", "│  "}
	if !a.utf8() {
		b.tee, b.corner, b.bar = "|- ", "`- ", "|  "
	}
	for _, n := range roots {
		b.show(n, "", "")
	}
}

// show prints a node and those below it; before leads to its line, below to
// theirs.
func (b *branches) show(n *node, before, below string) {
	q := &n.Process
	style := standingStyles[q.Standing]
	spans := []term.Cell{{Text: before, Style: term.Dim}, {Text: fmt.Sprintf("%d ", q.Instance.PID)}, {Text: q.Standing, Style: style}}
	if names := taintNames(q); len(names) > 0 {
		spans = append(spans, term.Cell{Text: " (" + strings.Join(names, ", ") + ")", Style: style})
	}
	if d, ok := q.Digest.Observed(); ok {
		spans = append(spans, term.Cell{Text: " " + prefix(d.Value.String(), 8)})
	} else {
		spans = append(spans, term.Cell{Text: " (" + q.Digest.Reason() + ")", Style: style})
	}
	spans = append(spans, term.Cell{Text: "  " + program(q) + "  "}, term.Cell{Text: b.app.userName(q.UID) + "  " + place(q), Style: term.Dim})
	b.p.Spans(spans...)
	if lines := []rune(below); len(lines) > deepest {
		below = string(lines[len(lines)-deepest:])
	}
	for i, child := range n.Children {
		if i == len(n.Children)-1 {
			b.show(child, below+b.corner, below+"   ")
		} else {
			b.show(child, below+b.tee, below+b.bar)
		}
	}
}

// utf8 reports whether the terminal shows more than ASCII.
func (a *app) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
