// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

// showEntry prints one entry of a host's log.
func showEntry(p *term.Printer, l *evidence.Leaf[evidence.Entry]) {
	e := l.Value
	who := "the host"
	if e.Instance != nil {
		who = "process " + e.Instance.String()
	}
	p.Styled(term.Bold, "  %d  %s  %s  %s", l.Index, e.Kind, who, sinceBoot(e.At))
	const in = "     "
	switch {
	case e.Start != nil:
		showStart(p, in, e.Start)
	case e.Exec != nil:
		p.Fields(in,
			term.Field{Label: "executable", Value: field(e.Exec.Exe, fileText)},
			term.Field{Label: "called as", Value: e.Exec.Hint + " (a hint)"},
			term.Field{Label: "by", Value: "process " + e.Exec.Parent.String()},
			term.Field{Label: "user", Value: credentialsText(e.Exec.Creds)},
			term.Field{Label: "cgroup", Value: field(e.Exec.Cgroup, plain)},
			term.Field{Label: "taints", Value: strings.Join(e.Exec.Taints, ", "), Style: term.Yellow},
		)
	case e.Process != nil:
		showProcess(p, in, e.Process)
	case e.Exit != nil:
		p.Fields(in, term.Field{Label: "wait status", Value: fmt.Sprintf("%#x", e.Exit.Code)})
	case e.Loss != nil:
		p.Styled(term.Yellow, in+"%d records lost on CPU %d: %s", e.Loss.Count, e.Loss.CPU, e.Loss.Cause)
	case e.Taint != nil:
		by := ""
		if e.Taint.By != nil {
			by = ", by process " + e.Taint.By.String()
		}
		p.Styled(term.Yellow, in+"%s: %s%s", e.Taint.Name, e.Taint.How, by)
	case e.Release != nil:
		p.Fields(in,
			term.Field{Label: "quote", Value: e.Release.Quote.String()},
			term.Field{Label: "request", Value: e.Release.Leaf.String()},
			term.Field{Label: "window", Value: fmt.Sprintf("%d.%03d ms", e.Release.Window/1e6, e.Release.Window%1e6/1e3)},
			term.Field{Label: "second look", Value: look(e.Release.After)},
		)
	}
}

func showStart(p *term.Printer, in string, s *evidence.Start) {
	p.Fields(in,
		term.Field{Label: "reason", Value: s.Reason},
		term.Field{Label: "epoch", Value: fmt.Sprint(s.Epoch)},
		term.Field{Label: "agent", Value: s.Agent + ", " + field(s.AgentDigest, evidence.Digest.String)},
		term.Field{Label: "kernel", Value: s.Kernel},
		term.Field{Label: "tier", Value: s.Tier + ", sensor " + s.Sensor.String()},
		term.Field{Label: "LSMs", Value: field(s.Modules, plain)},
		term.Field{Label: "lockdown", Value: field(s.Lockdown, plain)},
	)
	for _, prog := range s.Programs {
		fired, style := "fired", term.Plain
		if !prog.Fired {
			fired, style = "NOT SEEN TO FIRE", term.Yellow
		}
		p.Fields(in, term.Field{Label: "program", Value: prog.Name + " " + prog.Tag + ", " + fired, Style: style})
	}
}

// showProcess prints one process measured in full.
func showProcess(p *term.Printer, in string, m *evidence.Process) {
	p.Fields(in,
		term.Field{Label: "executable", Value: field(m.Exe, fileText)},
		term.Field{Label: "loader", Value: field(m.Loader, func(f *evidence.File) string { return optional(f, fileText, "none, statically linked") })},
		term.Field{Label: "script", Value: field(m.Script, func(s *evidence.Script) string {
			return optional(s, func(s evidence.Script) string { return fileText(s.File) + ", known by " + s.Bound }, "none")
		})},
		term.Field{Label: "origin", Value: m.Origin},
		term.Field{Label: "measured", Value: sinceBoot(m.Measured)},
		term.Field{Label: "arguments", Value: field(m.Arguments, evidence.Hash.String)},
		term.Field{Label: "code set", Value: field(m.Code, func(c evidence.Manifest) string { return fmt.Sprintf("%d files, root %s", c.Count, c.Root) })},
		term.Field{Label: "user", Value: field(m.Credentials, credentialsText)},
		term.Field{Label: "groups", Value: field(m.Groups, func(g []uint32) string { return fmt.Sprint(g) })},
		term.Field{Label: "namespaces", Value: field(m.Namespaces, namespacesText)},
		term.Field{Label: "unit", Value: field(m.Unit, func(u string) string { return orWord(u, "none") })},
		term.Field{Label: "cgroup", Value: field(m.Cgroup, plain)},
		term.Field{Label: "container", Value: field(m.Container, func(c *evidence.Container) string { return optional(c, containerText, "none") })},
		term.Field{Label: "LSM label", Value: field(m.Label, plain)},
		term.Field{Label: "session", Value: field(m.Session, func(s uint32) string { return fmt.Sprint(s) })},
		term.Field{Label: "terminal", Value: field(m.TTY, func(t string) string { return orWord(t, "none") })},
		term.Field{Label: "directory", Value: field(m.Directory, plain)},
		term.Field{Label: "environment", Value: field(m.Environment, environmentLine)},
		term.Field{Label: "devices", Value: field(m.Devices, listText)},
		term.Field{Label: "interference", Value: field(m.Interference, listText)},
	)
	showFiles(p, in, "mapped executable", m.Maps)
	showFiles(p, in, "models", m.Models)
	showFiles(p, in, "inputs", m.Inputs)
	ancestors, _ := m.Ancestors.Observed()
	if m.Ancestors.Reason() != "" || len(m.Ancestors.Taints()) > 0 || len(ancestors) == 0 {
		p.Fields(in, term.Field{Label: "ancestors", Value: field(m.Ancestors, func(l []evidence.Ancestor) string { return fmt.Sprint(len(l)) })})
	}
	for _, anc := range ancestors {
		p.Fields(in, term.Field{Label: "ancestor", Value: anc.Path + "  " + field(anc.Digest, evidence.Digest.String) + "  process " + anc.Instance.String()})
	}
}

func showFiles(p *term.Printer, in, label string, v evidence.Value[[]evidence.File]) {
	files, _ := v.Observed()
	if v.Reason() != "" || len(v.Taints()) > 0 || len(files) == 0 {
		p.Fields(in, term.Field{Label: label, Value: field(v, func(l []evidence.File) string { return fmt.Sprintf("%d files", len(l)) })})
	}
	for _, f := range files {
		p.Fields(in, term.Field{Label: label, Value: fileText(f)})
	}
}

func plain(s string) string { return s }

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

func optional[T any](v *T, show func(T) string, none string) string {
	if v == nil {
		return none
	}
	return show(*v)
}

func listText(l []string) string { return orWord(strings.Join(l, ", "), "none") }

func fileText(f evidence.File) string {
	source := ""
	if d, ok := f.Digest.Observed(); ok {
		source = " (" + d.Source + ")"
	}
	return f.Path + "  " + field(f.Digest, evidence.Digest.String) + source
}

func credentialsText(c evidence.Credentials) string {
	text := fmt.Sprintf("uid %d gid %d", c.UID, c.GID)
	if c.EUID != c.UID || c.SUID != c.UID || c.FSUID != c.UID {
		text += fmt.Sprintf(", euid %d suid %d fsuid %d", c.EUID, c.SUID, c.FSUID)
	}
	if c.EGID != c.GID || c.SGID != c.GID || c.FSGID != c.GID {
		text += fmt.Sprintf(", egid %d sgid %d fsgid %d", c.EGID, c.SGID, c.FSGID)
	}
	text += fmt.Sprintf(", capabilities %#x of %#x", c.Effective, c.Bounding)
	if c.NoNewPrivs {
		text += ", no new privileges"
	}
	if c.Seccomp != 0 {
		text += fmt.Sprintf(", seccomp mode %d", c.Seccomp)
	}
	return text
}

func namespacesText(n evidence.Namespaces) string {
	return fmt.Sprintf("pid %d mnt %d user %d net %d cgroup %d uts %d ipc %d", n.PID, n.Mount, n.User, n.Net, n.Cgroup, n.UTS, n.IPC)
}

func containerText(c evidence.Container) string {
	return c.Runtime + " " + c.ID + ", image " + field(c.Image, plain) + ", pod " + field(c.Pod, plain)
}

func environmentLine(env map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		parts = append(parts, name+"="+env[name])
	}
	return orWord(strings.Join(parts, " "), "none of the selected names")
}
