// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

func showVerdict(p *term.Printer, v *verifyJSON) {
	switch {
	case v.OK:
		p.Styled(term.Green, "GENUINE: this is what the host's TPM signed for this challenge")
	case v.Genuine:
		p.Styled(term.Red, "REFUSED: genuine, but not what the references accept")
	default:
		p.Styled(term.Red, "REFUSED: %s", v.Rejection.Code)
	}
	p.Fields("  ",
		term.Field{Label: "bundle", Value: fmt.Sprintf("%d bytes, %s", v.Bytes, v.Digest)},
		term.Field{Label: "judged for", Value: v.At.Format(time.RFC3339)},
		term.Field{Label: "vector expects", Value: v.Expected},
	)
	if r := v.Rejection; r != nil {
		p.Fields("  ",
			term.Field{Label: "meaning", Value: meaning(r.Code)},
			term.Field{Label: "place", Value: r.Place},
			term.Field{Label: "expected", Value: r.Expected},
			term.Field{Label: "observed", Value: r.Observed},
			term.Field{Label: "attestor", Value: string(r.Attestor) + ", check " + r.Check},
		)
	}
	section(p, "Stations")
	marks := map[string]struct {
		mark  string
		style term.Style
	}{"passed": {"yes", term.Green}, "failed": {"no ", term.Red}, "not asked": {"-  ", term.Dim}}
	for _, s := range v.Stations {
		p.Styled(marks[s.State].style, "  %s  %s", marks[s.State].mark, s.Station)
	}
	if v.Genuine {
		showProved(p, v)
	}
}

func meaning(code verify.Code) string {
	for _, info := range verify.Codes() {
		if info.Code == code {
			return info.Meaning
		}
	}
	return ""
}

func showProved(p *term.Printer, v *verifyJSON) {
	h, n := v.Host, v.Next
	section(p, "Host")
	p.Fields("  ",
		term.Field{Label: "ueid", Value: h.UEID},
		term.Field{Label: "TPM", Value: fmt.Sprintf("%s, maker %s, firmware %s", h.Level, orWord(h.Maker, "not known"), h.Firmware)},
		term.Field{Label: "anchor", Value: h.Anchor, Style: warnIf(h.Anchor == evidence.AnchorBroken)},
		term.Field{Label: "tier", Value: h.Tier},
		term.Field{Label: "sensor", Value: signalsText(h.Signals)},
		term.Field{Label: "epoch", Value: fmt.Sprintf("%d, quote number %d", n.Epoch, n.Sequence)},
		term.Field{Label: "TPM counts", Value: fmt.Sprintf("%d resets, %d restarts, clock %v", n.ResetCount, n.RestartCount, time.Duration(n.Clock)*time.Millisecond)},
		term.Field{Label: "log", Value: fmt.Sprintf("%d entries, checkpoint %d", n.Size, n.Number)},
		term.Field{Label: "lost, tainted", Value: fmt.Sprintf("%d records, %d processes", n.Lost, n.Taints), Style: warnIf(n.Lost+n.Taints > 0)},
		term.Field{Label: "host's clock", Value: fmt.Sprintf("%v ahead (decides nothing)", time.Duration(h.SkewMS)*time.Millisecond)},
	)
	section(p, "PCRs, SHA-256")
	rows := make([][]term.Cell, len(v.PCRs))
	for i, e := range v.PCRs {
		rows[i] = []term.Cell{{Text: fmt.Sprint(e.PCR)}, {Text: string(e.Source), Style: warnIf(e.Source == verify.SourceNoneSaid)}, {Text: e.Value.String()}}
	}
	p.Table("  ", []string{"PCR", "MADE BY", "VALUE"}, rows)
	showProvedBoot(p, v)
	for i := range v.Requests {
		showProvedRequest(p, &v.Requests[i])
	}
}

func showProvedBoot(p *term.Printer, v *verifyJSON) {
	section(p, "Boot")
	fields := []term.Field{{Label: "boot log", Value: "none: nothing is known of Secure Boot or the kernel", Style: term.Yellow}}
	var findings []eventlog.Finding
	if b := v.Boot; b != nil {
		findings = b.Findings
		fields = []term.Field{
			{Label: "Secure Boot", Value: b.SecureBoot + ": " + b.SecureBootReason, Style: warnIf(b.SecureBoot != string(eventlog.SecureBootOn))},
			{Label: "command line", Value: orWord(strings.Join(b.CommandLines, " | "), "none in the log")},
			{Label: "boot log", Value: b.Digest},
		}
	}
	list := "none"
	if v.IMA != nil {
		list = fmt.Sprintf("%d entries, %d files new in this bundle", v.IMA.Entries, v.IMA.New)
	}
	p.Fields("  ", append(fields, term.Field{Label: "IMA list", Value: list})...)
	for _, f := range findings {
		p.Styled(warnIf(f.Severity != eventlog.Note), "  %s: %s: %s", f.Severity, f.Code, f.Text)
	}
}

func showProvedRequest(p *term.Printer, r *provedRequest) {
	section(p, "Request %d", r.Index)
	ima := "no list"
	if r.IMAKnown {
		ima = fmt.Sprintf("%d files confirmed, %d not in the list", r.IMAConfirmed, len(r.IMAMissing))
	}
	fields := []term.Field{
		{Label: "program", Value: r.Exe},
		{Label: "digest", Value: r.ExeDigest},
		{Label: "script", Value: r.Script},
		{Label: "code", Value: r.codeText()},
	}
	fields = slices.Concat(fields, namedFields("model", r.Models, r.ModelsState), namedFields("input", r.Inputs, r.InputsState), []term.Field{
		{Label: "process", Value: r.Process},
		{Label: "audience", Value: r.Audience},
		{Label: "actions", Value: strings.Join(r.Actions, ", ")},
		{Label: "datatypes", Value: strings.Join(r.Datatypes, ", ")},
		{Label: "delegation (d)", Value: r.D},
		{Label: "bound to", Value: strings.TrimSpace(r.Confirm + " " + r.Key)},
		{Label: "open window", Value: time.Duration(r.WindowNS).String()},
		{Label: "looks", Value: orWord(strings.Join(r.Unclean, "; "), "clean, both of them"), Style: warnIf(len(r.Unclean) > 0)},
		{Label: "IMA", Value: ima, Style: warnIf(len(r.IMAMissing) > 0)},
	})
	p.Fields("  ", fields...)
	for _, f := range r.IMAMissing {
		p.Line("    not in the list: %s %s", f.Path, f.Digest)
	}
	if r.Affirmed == nil {
		return
	}
	w := &whyJSON{}
	for _, c := range r.Checks {
		s := stationJSON{N: 8, Attestor: string(c.Attestor), Check: c.Check, Expected: c.Expected, Observed: c.Observed, Hint: c.Hint}
		if c.OK {
			w.Checks = append(w.Checks, s)
		} else {
			w.Stations = append(w.Stations, s)
		}
	}
	p.Blank()
	showAttestors(p, w)
}

// codeText is the manifest in words.
func (one *provedRequest) codeText() string {
	switch {
	case one.CodeFiles == 0 && strings.HasPrefix(one.Code, "sha-256:"):
		return "no file opened, root " + one.Code
	case one.CodeFiles == 0:
		return one.Code
	}
	return fmt.Sprintf("%d files, root %s", one.CodeFiles, one.Code)
}

// namedFields shows a list of files, after one line for its state where that is
// not plain.
func namedFields(label string, list []namedFile, state string) []term.Field {
	var out []term.Field
	if state != "" {
		out = append(out, term.Field{Label: label, Value: state, Style: term.Yellow})
	} else if len(list) == 0 {
		out = append(out, term.Field{Label: label, Value: "none"})
	}
	for _, f := range list {
		out = append(out, term.Field{Label: label, Value: f.Path + "  " + f.Digest})
	}
	return out
}

// signalsText counts what a sensor sees, and names what it does not.
func signalsText(signals []evidence.Signal) string {
	var blind []string
	for _, g := range signals {
		if _, ok := g.By.Get(); !ok {
			blind = append(blind, g.Name)
		}
	}
	text := fmt.Sprintf("sees %d of %d signals", len(signals)-len(blind), len(signals))
	if len(blind) > 0 {
		text += "; not " + strings.Join(blind, ", ")
	}
	return text
}
