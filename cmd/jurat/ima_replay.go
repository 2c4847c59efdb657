// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/ima"
)

// Limits of a report on a list that somebody made up.
const (
	maxIMATemplates = 64 // names counted one by one
	maxIMANumbers   = 10 // entries named one by one
)

func (a *app) imaReplayCommand() *cobra.Command {
	var want string
	var violations bool
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "compute the PCR 10 that an IMA list makes",
		Long: `Computes the values that the entries of an IMA list give PCR 10, in the SHA-1
and the SHA-256 bank. FILE - is standard input.

With --pcr10, a value that a TPM signed, it finds the beginning of the list that
makes this value. What is behind it is not proved by that value. The length of
the value says which bank it is from: 40 digits SHA-1, 64 SHA-256. Kernels before
5.8 filled the SHA-256 bank with padded SHA-1, which is recognised and said.

The exit code is 1 when no beginning of the list makes the value, when a listed
template digest is not that of the data, when there are violations (unless
--allow-violations), and when the list is malformed or torn.`,
		Example: "  jurat ima replay binary_runtime_measurements --pcr10 c6b7…\n  ssh h17 sudo cat /sys/kernel/security/ima/binary_runtime_measurements | jurat ima replay - --json",
		Args:    arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("pcr10") {
				return a.imaReplay(args[0], nil, violations)
			}
			value, err := hex.DecodeString(strings.TrimPrefix(want, "0x"))
			if err != nil || len(value) != 20 && len(value) != 32 {
				return usage(c, "--pcr10 %q, want 40 or 64 hexadecimal digits", want)
			}
			return a.imaReplay(args[0], value, violations)
		},
	}
	c.Flags().StringVar(&want, "pcr10", "", "the value of PCR 10 to find, `HEX`")
	c.Flags().BoolVar(&violations, "allow-violations", false, "exit 0 although there are violations")
	return c
}

// imaReplayJSON is jurat.ima-replay/v1.
type imaReplayJSON struct {
	Schema        string            `json:"schema"`
	OK            bool              `json:"ok"`
	Form          string            `json:"form"` // binary or ascii
	Entries       uint64            `json:"entries"`
	Violations    uint64            `json:"violations"`
	FirstViolated []uint64          `json:"first_violations"` // numbers of the first of them
	Differ        uint64            `json:"digests_differ"`   // entries whose template digest is not that of their data
	FirstDiffer   []uint64          `json:"first_digests_differ"`
	Opaque        uint64            `json:"opaque"` // of templates that nobody knows
	Templates     map[string]uint64 `json:"templates"`
	BootAggregate *aggregateJSON    `json:"boot_aggregate"` // null: the list does not begin with one
	PCR10         *registerJSON     `json:"pcr10"`          // null: an ASCII list that cannot be replayed
	Others        []registerJSON    `json:"other_pcrs"`
	Match         *imaMatchJSON     `json:"match"` // null: no match, or nothing to match
	LineFeed      bool              `json:"line_feed_at_end"`
}

type aggregateJSON struct {
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

type registerJSON struct {
	PCR     uint32 `json:"pcr"`
	Entries uint64 `json:"entries"`
	SHA1    string `json:"sha1"`
	SHA256  string `json:"sha256"`
	Padded  string `json:"sha256_before_5_8"`
}

func register(r *ima.Replay) registerJSON {
	return registerJSON{r.PCR, r.Followed, hex.EncodeToString(r.SHA1[:]), hex.EncodeToString(r.SHA256[:]), hex.EncodeToString(r.Padded[:])}
}

type imaMatchJSON struct {
	Bank    string `json:"bank"`
	Padded  bool   `json:"padded"`  // by a kernel before 5.8
	Entries uint64 `json:"entries"` // length of the beginning that makes the value
	Beyond  uint64 `json:"beyond"`  // entries behind it, not proved
}

func (a *app) imaReplay(name string, value []byte, allow bool) error {
	l, err := a.openIMA(name)
	if err != nil {
		return err
	}
	defer l.close()
	r := newIMAReplay(l, value)
	for {
		e, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r.add(e)
	}
	out := r.result(allow)
	if err := a.emit(out, func(p *term.Printer) { showIMAReplay(p, out, value, allow) }); err != nil {
		return err
	}
	if !out.OK {
		return &failure{exit: exitNo} // said above
	}
	return nil
}

// imaReplay is a replay in progress.
type imaReplay struct {
	list  *imaList
	value []byte // of PCR 10, to find; nil for nothing
	pcrs  [ima.MaxPCR + 1]*ima.Replay
	out   imaReplayJSON
}

func newIMAReplay(l *imaList, value []byte) *imaReplay {
	r := &imaReplay{list: l, value: value}
	r.out = imaReplayJSON{Schema: "jurat.ima-replay/v1", Form: l.form(), FirstViolated: []uint64{}, FirstDiffer: []uint64{}, Templates: map[string]uint64{}}
	r.register(10)
	r.match()
	return r
}

func (r *imaReplay) register(pcr uint32) *ima.Replay {
	if r.pcrs[pcr] == nil {
		first := ima.NewReplay(pcr, ima.AllTracks)
		r.pcrs[pcr] = &first
	}
	return r.pcrs[pcr]
}

func (r *imaReplay) add(e *ima.Entry) {
	out := &r.out
	out.Entries++
	r.register(e.PCR).Add(e)
	if e.Violation() {
		out.Violations++
		out.FirstViolated = firstOf(out.FirstViolated, out.Entries)
	}
	if e.Opaque() {
		out.Opaque++
	}
	if !e.CheckTemplateDigest() {
		out.Differ++
		out.FirstDiffer = firstOf(out.FirstDiffer, out.Entries)
	}
	template := string(e.Template)
	if _, known := out.Templates[template]; !known && len(out.Templates) >= maxIMATemplates {
		template = "(others)"
	}
	out.Templates[template]++
	if out.Entries == 1 {
		if digest, ok := e.BootAggregate(); ok {
			out.BootAggregate = &aggregateJSON{digest.Algorithm, hex.EncodeToString(digest.Digest)}
		}
	}
	if e.PCR == 10 {
		r.match()
	}
}

// match looks whether the list so far makes the value that is asked for. An
// ASCII list is replayed up to the first entry of which something is lost.
func (r *imaReplay) match() {
	if r.value == nil || r.out.Match != nil || r.list.text && r.out.Differ > 0 {
		return
	}
	if track, ok := r.register(10).Match(r.value); ok {
		r.out.Match = &imaMatchJSON{Bank: track.Bank(), Padded: track == ima.TrackPadded, Entries: r.out.Entries}
	}
}

func firstOf(list []uint64, n uint64) []uint64 {
	if len(list) < maxIMANumbers {
		list = append(list, n)
	}
	return list
}

func (r *imaReplay) result(allow bool) *imaReplayJSON {
	out := &r.out
	out.LineFeed = r.list.lineFeed
	out.Others = []registerJSON{}
	lost := r.list.text && out.Differ > 0
	for _, replay := range r.pcrs {
		switch {
		case replay == nil || lost:
		case replay.PCR == 10:
			ten := register(replay)
			out.PCR10 = &ten
		default:
			out.Others = append(out.Others, register(replay))
		}
	}
	if out.Match != nil {
		out.Match.Beyond = out.Entries - out.Match.Entries
	}
	found := r.value == nil && !lost || out.Match != nil
	out.OK = found && (out.Violations == 0 || allow) && (out.Differ == 0 || r.list.text)
	return out
}

func showIMAReplay(p *term.Printer, r *imaReplayJSON, value []byte, allow bool) {
	fields := []term.Field{
		{Label: "list", Value: r.Form},
		{Label: "entries", Value: fmt.Sprint(r.Entries)},
		{Label: "violations", Value: numbered(r.Violations, r.FirstViolated), Style: redIf(r.Violations > 0)},
	}
	var templates []string
	for _, name := range slices.Sorted(maps.Keys(r.Templates)) {
		templates = append(templates, fmt.Sprintf("%s %d", name, r.Templates[name]))
	}
	fields = append(fields, term.Field{Label: "templates", Value: strings.Join(templates, ", ")})
	if r.Opaque > 0 {
		fields = append(fields, term.Field{Label: "opaque", Value: fmt.Sprintf("%d, of templates that are not known", r.Opaque), Style: term.Yellow})
	}
	aggregate := "none in the first entry"
	if b := r.BootAggregate; b != nil {
		aggregate = b.Algorithm + ":" + b.Digest
		if strings.Trim(b.Digest, "0") == "" {
			aggregate += " (no TPM at boot)"
		}
	}
	fields = append(fields, term.Field{Label: "boot_aggregate", Value: aggregate})
	if r.PCR10 != nil {
		fields = append(fields, registerFields(r.PCR10)...)
	}
	for i := range r.Others {
		fields = append(fields, registerFields(&r.Others[i])...)
	}
	p.Fields("", fields...)
	p.Blank()
	if r.LineFeed {
		p.Styled(term.Yellow, "A lone line feed follows the last entry and was left out.")
	}
	imaVerdict(p, r, value, allow)
}

// imaVerdict ends the report with what it comes to.
func imaVerdict(p *term.Printer, r *imaReplayJSON, value []byte, allow bool) {
	if r.Differ > 0 && r.Form == "ascii" {
		p.Styled(term.Yellow, "Lost in writing the list as ASCII, in whole or in part: %s.", numbered(r.Differ, r.FirstDiffer))
		p.Styled(term.Yellow, "From there on it cannot be replayed: use binary_runtime_measurements.")
	} else if r.Differ > 0 {
		p.Styled(term.Red, "NO: the template digest is not that of the data in %s", numbered(r.Differ, r.FirstDiffer))
	}
	switch m := r.Match; {
	case value == nil && r.PCR10 != nil:
		p.Styled(term.Yellow, "Compared with no TPM: --pcr10 does that.")
	case value == nil:
	case m == nil:
		p.Styled(term.Red, "NO: no beginning of this list makes PCR 10 = %x", value)
	default:
		how := m.Bank + " bank"
		if m.Padded {
			how += ", filled with padded SHA-1 by a kernel before 5.8"
		}
		p.Styled(term.Green, "YES: PCR 10 has this value after %d of %d entries (%s)", m.Entries, r.Entries, how)
		if m.Beyond > 0 {
			p.Styled(term.Yellow, "The last %d entries are not proved by it.", m.Beyond)
		}
	}
	switch {
	case r.Violations > 0 && allow:
		p.Styled(term.Yellow, "Violations were allowed: they prove nothing about their files.")
	case r.Violations > 0:
		p.Styled(term.Red, "NO: there are violations, which prove nothing about their files (--allow-violations to accept them)")
	}
}

func registerFields(r *registerJSON) []term.Field {
	return []term.Field{
		{Label: fmt.Sprintf("PCR %d, sha256", r.PCR), Value: r.SHA256},
		{Label: "  before Linux 5.8", Value: r.Padded},
		{Label: "  sha1", Value: r.SHA1},
	}
}

// numbered is a count with the first of what it counts.
func numbered(n uint64, first []uint64) string {
	if n == 0 {
		return "none"
	}
	text := strings.Trim(fmt.Sprint(first), "[]")
	if n > uint64(len(first)) {
		text += " …"
	}
	word := "entries"
	if n == 1 {
		word = "entry"
	}
	return fmt.Sprintf("%d (%s %s)", n, word, strings.ReplaceAll(text, " ", ", "))
}

func redIf(bad bool) term.Style {
	if bad {
		return term.Red
	}
	return term.Plain
}
