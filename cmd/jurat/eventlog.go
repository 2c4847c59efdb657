// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/eventlog"
)

func (a *app) eventlogCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "eventlog",
		Short:   "look at boot event logs, replay them",
		Example: "  jurat eventlog show /sys/kernel/security/tpm0/binary_bios_measurements\n  jurat eventlog replay log.bin --pcrs quote.pcrs",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	show := &cobra.Command{
		Use:   "show FILE",
		Short: "print a boot event log in words",
		Long: `Prints every event of a TCG boot event log in words, and what is odd about the
log. FILE - is standard input.

Nothing of it is verified: a log is the host's word. Where a line has a '=', the
digest that was measured is that of the words; elsewhere it is of something that
is not in the log, such as a program, and the words are only a label. Compare
with a quote: 'jurat eventlog replay --pcrs'.`,
		Example: "  jurat eventlog show /sys/kernel/security/tpm0/binary_bios_measurements\n  jurat eventlog show --json - < log.bin | jq '.findings[].text'",
		Args:    arguments("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.eventlogShow(args[0]) },
	}
	var pcrs, list, userspace string
	replay := &cobra.Command{
		Use:   "replay FILE",
		Short: "work out the PCR values that a boot event log makes",
		Long: `Replays a TCG boot event log and prints the PCR values of each bank that it
makes, the state of Secure Boot, the kernel command line and what is odd about
the log. FILE - is standard input. PCRs without events are not listed: no log
can tell their value.

With --pcrs the values are compared with those of a TPM: a file of tpm2_quote or
tpm2_pcrread -o, or what tpm2_pcrread prints. Bare values do not say of which PCRs
they are: --pcr-list does, unless they are all 24. The exit code is 1 where one
differs, or where PCR 0 to 9 or 14 has a value that no event of the log explains.
With --userspace the replay goes on with what systemd measured.`,
		Example: "  jurat eventlog replay log.bin\n  jurat eventlog replay log.bin --pcrs quote.pcrs --userspace /run/log/systemd/tpm2-measure.log",
		Args:    arguments("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.eventlogReplay(args[0], pcrs, list, userspace) },
	}
	replay.Flags().StringVar(&pcrs, "pcrs", "", "`FILE` of PCR values to compare with")
	replay.Flags().StringVar(&list, "pcr-list", "", "`LIST` of PCRs that bare values are of, such as sha256:0,1,7")
	replay.Flags().StringVar(&userspace, "userspace", "", "`FILE` of systemd's measurements to go on with")
	c.AddCommand(show, replay)
	return c
}

// readLog reads a boot event log.
func (a *app) readLog(name string) (*eventlog.Log, int, error) {
	raw, err := a.readInput(name, eventlog.MaxLog)
	if err != nil {
		return nil, 0, err
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		return nil, 0, malformed(name, err)
	}
	return l, len(raw), nil
}

func malformed(name string, err error) *failure {
	return &failure{exit: exitNo, code: "malformed", err: fmt.Errorf("%s: %w", name, err)}
}

// summaryJSON is what both commands say about a log as a whole.
type summaryJSON struct {
	SecureBoot     eventlog.SecureBoot `json:"secure_boot"`
	Reason         string              `json:"secure_boot_reason"`
	KernelMeasured bool                `json:"kernel_measured"`
	Kernel         string              `json:"kernel_reason"`
	CommandLines   []string            `json:"kernel_cmdline"`
	Locality       *int                `json:"startup_locality"` // null: the log does not say
	Authorities    []authorityJSON     `json:"authorities"`
	Findings       []eventlog.Finding  `json:"findings"`
}

// authorityJSON is one event that authorised an image, or a setting of shim.
type authorityJSON struct {
	Event    int    `json:"event"`
	Variable string `json:"variable"`
	Image    bool   `json:"image"`
	Subject  string `json:"subject,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Covered  bool   `json:"covered"`
	Text     string `json:"text"`
}

func summarise(l *eventlog.Log) summaryJSON {
	var s summaryJSON
	s.SecureBoot, s.Reason = l.SecureBoot()
	s.KernelMeasured, s.Kernel = l.KernelMeasured()
	s.CommandLines, s.Findings = orEmpty(l.KernelCommandLines()), orEmpty(l.Findings())
	if locality, ok := l.Locality(); ok {
		s.Locality = &locality
	}
	s.Authorities = []authorityJSON{}
	for _, x := range l.Authorities() {
		s.Authorities = append(s.Authorities, authorityJSON{x.Event, x.Variable, x.Image, x.Subject, x.Issuer, hexOrNone(x.SHA256), x.Covered, x.Text})
	}
	return s
}

func hexOrNone(b []byte) string { return fmt.Sprintf("%x", b) }

// show prints the summary, the findings last: they are what one must not miss.
func (s *summaryJSON) show(p *term.Printer) {
	style := term.Yellow
	alarm := func(f eventlog.Finding) bool { return f.Severity == eventlog.Alarm }
	if s.SecureBoot == eventlog.SecureBootOn && !slices.ContainsFunc(s.Findings, alarm) {
		style = term.Green
	}
	section(p, "What it says")
	fields := []term.Field{{Label: "Secure Boot", Value: string(s.SecureBoot) + ": " + s.Reason, Style: style}}
	for _, x := range s.Authorities {
		fields = append(fields, term.Field{Label: "authority", Value: fmt.Sprintf("event %d: %s", x.Event, x.Text), Style: warnIf(!x.Covered)})
	}
	fields = append(fields, term.Field{Label: "last image", Value: s.Kernel, Style: warnIf(!s.KernelMeasured)})
	for _, line := range s.CommandLines {
		fields = append(fields, term.Field{Label: "command line", Value: line})
	}
	if s.Locality != nil {
		fields = append(fields, term.Field{Label: "TPM started at", Value: fmt.Sprintf("locality %d", *s.Locality)})
	}
	p.Fields("  ", fields...)
	section(p, "Findings: %d", len(s.Findings))
	sorted := slices.Clone(s.Findings) // the worst first
	slices.SortStableFunc(sorted, func(a, b eventlog.Finding) int { return rank(a.Severity) - rank(b.Severity) })
	rows := make([][]term.Cell, len(sorted))
	for i, f := range sorted {
		rows[i] = []term.Cell{{Text: string(f.Severity), Style: severityStyle(f.Severity)}, {Text: eventNumber(f.Event)}, {Text: f.Code}, {Text: f.Text}}
	}
	if len(rows) > 0 {
		p.Table("  ", []string{"", "EVENT", "CODE", "WHAT"}, rows)
	}
}

func eventNumber(n int) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func rank(s eventlog.Severity) int {
	return slices.Index([]eventlog.Severity{eventlog.Alarm, eventlog.Warning, eventlog.Note}, s)
}

func severityStyle(s eventlog.Severity) term.Style {
	switch s {
	case eventlog.Alarm:
		return term.Red
	case eventlog.Warning:
		return term.Yellow
	}
	return term.Plain
}
