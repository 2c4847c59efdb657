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
	fields := []term.Field{
		{Label: "reason", Value: s.Reason},
		{Label: "epoch", Value: fmt.Sprint(s.Epoch)},
		{Label: "agent", Value: s.Agent + ", " + field(s.AgentDigest, evidence.Digest.String)},
		{Label: "kernel", Value: s.Kernel},
		{Label: "tier", Value: s.Tier + ", sensor " + s.Sensor.String()},
		{Label: "LSMs", Value: field(s.Modules, plain)},
		{Label: "lockdown", Value: field(s.Lockdown, plain)},
	}
	for _, prog := range s.Programs {
		fired, style := "fired", term.Plain
		if !prog.Fired {
			fired, style = "not seen to fire", term.Yellow
		}
		fields = append(fields, term.Field{Label: "program", Value: prog.Name + " " + prog.Tag + ", " + fired, Style: style})
	}
	for _, g := range s.Signals {
		fields = append(fields, term.Field{Label: "signal", Value: g.Name + ": " + field(g.By, plain)})
	}
	p.Fields(in, fields...)
}

// showProcess prints one process measured in full.
func showProcess(p *term.Printer, in string, m *evidence.Process) {
	fields := []term.Field{
		{Label: "executable", Value: field(m.Exe, fileText)},
		{Label: "loader", Value: field(m.Loader, func(f *evidence.File) string { return optional(f, fileText, "none, statically linked") })},
		{Label: "script", Value: field(m.Script, func(s *evidence.Script) string {
			return optional(s, func(s evidence.Script) string { return fileText(s.File) + ", known by " + s.Bound }, "none")
		})},
		{Label: "origin", Value: m.Origin},
		{Label: "measured", Value: sinceBoot(m.Measured)},
		{Label: "arguments", Value: field(m.Arguments, evidence.Hash.String)},
		{Label: "code set", Value: field(m.Code, func(c evidence.Manifest) string { return fmt.Sprintf("%d files, root %s", c.Count, c.Root) })},
	}
	fields = append(fields, contextFields(m)...)
	fields = append(fields, files("mapped executable", m.Maps)...)
	if c, ok := m.Code.Observed(); ok {
		for _, f := range c.Files {
			fields = append(fields, term.Field{Label: "code file", Value: f.Path + "  sha-256:" + f.Digest.String()})
		}
	}
	fields = append(fields, files("model", m.Models)...)
	fields = append(fields, files("input", m.Inputs)...)
	fields = append(fields, each("ancestor", m.Ancestors, func(a evidence.Ancestor) string {
		return orWord(a.Path, "path unknown") + "  " + field(a.Digest, evidence.Digest.String) + "  process " + a.Instance.String()
	})...)
	p.Fields(in, fields...)
}

// contextFields are where and as whom a process runs.
func contextFields(m *evidence.Process) []term.Field {
	return []term.Field{
		{Label: "user", Value: field(m.Credentials, credentialsText)},
		{Label: "groups", Value: field(m.Groups, groupsText)},
		{Label: "namespaces", Value: field(m.Namespaces, namespacesText)},
		{Label: "unit", Value: field(m.Unit, func(u string) string { return orWord(u, "none") })},
		{Label: "cgroup", Value: field(m.Cgroup, plain)},
		{Label: "container", Value: field(m.Container, func(c *evidence.Container) string { return optional(c, containerText, "none") })},
		{Label: "LSM label", Value: field(m.Label, plain)},
		{Label: "session", Value: field(m.Session, func(s uint32) string { return fmt.Sprint(s) })},
		{Label: "terminal", Value: field(m.TTY, func(t string) string { return orWord(t, "none") })},
		{Label: "directory", Value: field(m.Directory, plain)},
		{Label: "environment", Value: field(m.Environment, environmentLine)},
		{Label: "devices", Value: field(m.Devices, listText)},
		{Label: "interference", Value: field(m.Interference, listText)},
	}
}

func groupsText(groups []uint32) string {
	if len(groups) == 0 {
		return "none beside its own"
	}
	return fmt.Sprint(groups)
}

func files(label string, v evidence.Value[[]evidence.File]) []term.Field {
	return each(label, v, fileText)
}

// each shows a list with one field for each element, after one for its state
// where that is not plain.
func each[T any](label string, v evidence.Value[[]T], show func(T) string) []term.Field {
	list, ok := v.Observed()
	var out []term.Field
	switch {
	case !ok:
		out = append(out, term.Field{Label: label, Value: "unknown (" + v.Reason() + ")"})
	case len(v.Taints()) > 0:
		out = append(out, term.Field{Label: label, Value: fmt.Sprintf("TAINTED (%s) %d seen", strings.Join(v.Taints(), ", "), len(list)), Style: term.Yellow})
	case len(list) == 0:
		out = append(out, term.Field{Label: label, Value: "none"})
	}
	for _, e := range list {
		out = append(out, term.Field{Label: label, Value: show(e)})
	}
	return out
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
