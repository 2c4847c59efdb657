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
	c := &cobra.Command{
		Use:   "tree [PID]",
		Short: "who started whom, with what spoilt them",
		Long: `Shows the processes that juratd knows as a tree. With PID: that process, its
parents up to the first, and what it started.`,
		Example: "  jurat tree\n  jurat tree 4711",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			var pid uint32
			if len(args) == 1 {
				var err error
				if pid, err = parsePID(c, args[0]); err != nil {
					return err
				}
			}
			all, err := a.processes(c.Context())
			if err != nil {
				return err
			}
			roots := grow(all.Processes)
			if pid != 0 {
				if roots = lineage(roots, pid); roots == nil {
					return notKnown(pid)
				}
			}
			out := &treeJSON{Schema: "jurat.tree/v1", Roots: orEmpty(roots)}
			return a.emit(out, func(p *term.Printer) {
				for _, n := range roots {
					a.showBranch(p, n, "", "")
				}
			})
		},
	}
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

// showBranch prints a node and those below it; before leads to its line, below
// to theirs.
func (a *app) showBranch(p *term.Printer, n *node, before, below string) {
	q := &n.Process
	style := standingStyles[q.Standing]
	line := fmt.Sprintf("%s%d ", before, q.Instance.PID)
	rest := fmt.Sprintf("  %s  %s  %s", program(q), userName(q.UID), digestOrReason(q))
	if q.Unit != "" {
		rest += "  " + q.Unit
	}
	p.Row(style, line+q.Standing, rest)
	tee, corner, bar := "├─ ", "└─ ", "│  "
	if !a.utf8() {
		tee, corner, bar = "|- ", "`- ", "|  "
	}
	for i, child := range n.Children {
		if i == len(n.Children)-1 {
			a.showBranch(p, child, below+corner, below+"   ")
		} else {
			a.showBranch(p, child, below+tee, below+bar)
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
