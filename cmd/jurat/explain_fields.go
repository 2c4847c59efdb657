// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/evidence"
)

func originText(origin string) string {
	switch origin {
	case evidence.OriginExec:
		return "its exec was seen"
	case evidence.OriginFork:
		return "made by a fork, no exec since"
	case evidence.OriginSeen:
		return "it ran before juratd did"
	}
	return origin
}

// file shows one file: its path, and under it its digest, whole, so that it can
// be copied.
func file(label string, v evidence.Value[evidence.File], verbose bool) []term.Field {
	f, ok := v.Observed()
	switch {
	case !ok && v.Reason() == "":
		return []term.Field{{Label: label, Value: "none"}}
	case !ok:
		return []term.Field{{Label: label, Value: "unknown (" + v.Reason() + ")", Style: term.Yellow}}
	}
	out := []term.Field{{Label: label, Value: f.Path, Style: warnIf(len(v.Taints()) > 0)}}
	if len(v.Taints()) > 0 {
		out[0].Value += " TAINTED (" + strings.Join(v.Taints(), ", ") + ")"
	}
	out = append(out, term.Field{Value: digestLine(f.Digest)})
	if verbose {
		out = append(out, term.Field{Value: fmt.Sprintf("device %d, inode %d, %s", f.ID.Device, f.ID.Inode, bytesText(f.ID.Size))})
	}
	return out
}

func digestLine(v evidence.Value[evidence.Digest]) string {
	text := field(v, evidence.Digest.String)
	if d, ok := v.Observed(); ok {
		text += " (" + d.Source + ")"
	}
	return text
}

// deref makes of a file that need not be there one that has no value and no
// reason.
func deref(v evidence.Value[*evidence.File]) evidence.Value[evidence.File] {
	f, ok := v.Observed()
	switch {
	case !ok:
		return evidence.Unknown[evidence.File](v.Reason())
	case f == nil:
		return evidence.Value[evidence.File]{}
	case len(v.Taints()) > 0:
		return evidence.Tainted(*f, v.Taints()...)
	}
	return evidence.Known(*f)
}

func scriptFile(v evidence.Value[*evidence.Script]) evidence.Value[evidence.File] {
	s, ok := v.Observed()
	switch {
	case !ok:
		return evidence.Unknown[evidence.File](v.Reason())
	case s == nil:
		return evidence.Value[evidence.File]{}
	case len(v.Taints()) > 0:
		return evidence.Tainted(s.File, v.Taints()...)
	}
	return evidence.Known(s.File)
}

// boundText says how sure it is that the process runs the script.
func boundText(v evidence.Value[*evidence.Script]) string {
	s, ok := v.Observed()
	if !ok || s == nil {
		return ""
	}
	meaning := map[string]string{
		evidence.BoundKernel:   "the kernel's own record of the file",
		evidence.BoundGate:     "the file was held and hashed before the exec went on",
		evidence.BoundExec:     "the name the kernel ran, looked up after the fact",
		evidence.BoundArgument: "the name the interpreter was given, looked up after the fact",
		evidence.BoundModule:   "the file the interpreter opened for the module",
		evidence.BoundInline:   "the text itself, an argument",
	}
	return s.Bound + ": " + orWord(meaning[s.Bound], "not known to this jurat")
}

// libraries counts what is mapped executable beside the executable, and lists
// what has no digest, or everything.
func libraries(v evidence.Value[[]evidence.File], verbose bool) []term.Field {
	all, ok := v.Observed()
	if !ok {
		return []term.Field{{Label: "libraries", Value: "unknown (" + v.Reason() + ")", Style: term.Yellow}}
	}
	return countedFiles("libraries", all[min(1, len(all)):], v.Taints(), verbose, "mapped executable")
}

// listed shows files of a kind: a few of them each, many as a count.
func listed(label string, v evidence.Value[[]evidence.File], verbose bool) []term.Field {
	list, ok := v.Observed()
	switch {
	case !ok:
		return []term.Field{{Label: label, Value: "unknown (" + v.Reason() + ")", Style: term.Yellow}}
	case len(list) == 0 && len(v.Taints()) == 0:
		return []term.Field{{Label: label, Value: "none"}}
	case len(list) > few && !verbose || len(v.Taints()) > 0:
		return countedFiles(label, list, v.Taints(), verbose, "in all")
	}
	var out []term.Field
	for _, f := range list {
		out = append(out, file(label, evidence.Known(f), verbose)...)
	}
	return out
}

// few files are listed without being asked for.
const few = 8

// countedFiles shows how many files there are, and those without a digest that can
// be believed; with verbose all.
func countedFiles(label string, list []evidence.File, taints []string, verbose bool, what string) []term.Field {
	var bad, good []term.Field
	for _, f := range list {
		if _, ok := f.Digest.Get(); !ok {
			bad = append(bad, term.Field{Value: f.Path + ": " + field(f.Digest, evidence.Digest.String), Style: term.Red})
		} else if verbose {
			good = append(good, file("", evidence.Known(f), verbose)...)
		}
	}
	head := term.Field{Label: label, Value: fmt.Sprintf("%d %s", len(list), what)}
	if len(bad) > 0 {
		head.Value += fmt.Sprintf(", %d without a digest to believe", len(bad))
	} else if len(list) > 0 {
		head.Value += ", each with its digest"
	}
	if len(taints) > 0 {
		head.Value, head.Style = head.Value+", TAINTED ("+strings.Join(taints, ", ")+")", term.Red
	}
	if len(list) > 0 && !verbose {
		head.Value += " (-v lists them)"
	}
	return slices.Concat([]term.Field{head}, bad, good)
}

// code shows the manifest: its root, and its files where somebody wants them.
func code(v evidence.Value[evidence.Manifest], verbose bool) []term.Field {
	m, ok := v.Observed()
	if !ok {
		return []term.Field{{Label: "code", Value: "unknown (" + v.Reason() + ")", Style: term.Yellow}}
	}
	head := term.Field{Label: "code", Value: fmt.Sprintf("%d files opened", m.Count)}
	switch {
	case m.Count > 0 && len(m.Files) == 0:
		head.Value += ", too many to list: the root stands for them"
	case m.Count > 0 && !verbose:
		head.Value += " (-v lists them)"
	}
	if len(v.Taints()) > 0 {
		head.Value, head.Style = head.Value+", TAINTED ("+strings.Join(v.Taints(), ", ")+")", term.Red
	}
	out := []term.Field{head}
	if m.Count > 0 {
		out = append(out, term.Field{Label: "code root", Value: "sha-256:" + m.Root.String()})
	}
	if verbose {
		out = append(out, codeFiles(&m)...)
	}
	return out
}

// codeFiles lists the files of a manifest by path.
func codeFiles(m *evidence.Manifest) []term.Field {
	var out []term.Field
	byPath := func(x, y evidence.CodeFile) int { return strings.Compare(x.Path, y.Path) }
	for _, f := range slices.SortedFunc(slices.Values(m.Files), byPath) {
		out = append(out, term.Field{Value: f.Path}, term.Field{Value: "sha-256:" + f.Digest.String()})
	}
	return out
}

// hashing shows models that are not measured yet.
func hashing(progress []string) []term.Field {
	var out []term.Field
	for _, m := range progress {
		out = append(out, term.Field{Label: "being hashed", Value: m, Style: term.Yellow})
	}
	return out
}

// showAncestors lists who made the process, the nearest first.
func showAncestors(p *term.Printer, v evidence.Value[[]evidence.Ancestor]) {
	list, ok := v.Observed()
	if !ok {
		p.Styled(term.Yellow, "  unknown (%s)", v.Reason())
		return
	}
	if len(v.Taints()) > 0 {
		p.Styled(term.Red, "  TAINTED (%s)", strings.Join(v.Taints(), ", "))
	}
	for _, a := range list {
		p.Spans(term.Cell{Text: fmt.Sprintf("  %-8d %s", a.Instance.PID, digestShort(a.Digest)), Style: warnIf(len(a.Digest.Taints()) > 0)},
			term.Cell{Text: "  " + a.Path})
	}
}
