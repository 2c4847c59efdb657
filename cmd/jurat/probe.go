// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/doctor"
)

// probePatience bounds the probe: an emulated or busy kernel may check programs
// for minutes.
const probePatience = 5 * time.Minute

func (a *app) probeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe",
		Short: "show what this kernel lets juratd see, signal by signal",
		Long: `Loads juratd's kernel programs, does what they ought to see, and prints which
tier this kernel allows, what keeps it from a better one, and for each signal
the hook that sees it or why nothing does. Then it takes them away again. It
needs root, and no juratd: paste what it prints into a report of a problem.

Tiers, best first: lsm (BPF LSM: sees, has the kernel's digests, may refuse),
trampoline (the same places without "bpf" in lsm=, no digests), tracepoint
(system calls as they return; works everywhere).

The exit code is 0 when there is a tier, 3 when there is none.`,
		Example: "  sudo jurat probe\n  sudo jurat probe --json >kernel.json",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := within(c.Context(), probePatience, doctor.Probe)
			if err != nil {
				return err
			}
			return a.probe(found)
		},
	}
}

// within waits for f, which may hang in the kernel, but not for ever.
func within(ctx context.Context, limit time.Duration, f func() (*doctor.Capability, error)) (*doctor.Capability, error) {
	type answer struct {
		found *doctor.Capability
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		found, err := f()
		done <- answer{found, err}
	}()
	select {
	case got := <-done:
		return got.found, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(limit):
		return nil, fmt.Errorf("the kernel did not take or refuse the programs within %v", limit)
	}
}

// probeJSON is jurat.probe/v1.
type probeJSON struct {
	Schema string `json:"schema"`
	*doctor.Capability
}

func (a *app) probe(found *doctor.Capability) error {
	clean(found)
	if err := a.emit(&probeJSON{"jurat.probe/v1", found}, func(p *term.Printer) { showProbe(p, found) }); err != nil {
		return err
	}
	if found.Tier == "" {
		return &failure{exit: exitEnvironment} // said above
	}
	return nil
}

// clean takes out of texts what a terminal would obey.
func clean(c *doctor.Capability) {
	for _, text := range []*string{&c.Kernel, &c.ExecGateWhy, &c.Problem, &c.Hint} {
		*text = term.Clean(*text)
	}
	for i := range c.LSMs {
		c.LSMs[i] = term.Clean(c.LSMs[i])
	}
	for i := range c.Better {
		c.Better[i].Detail = term.Clean(c.Better[i].Detail)
	}
}

// showProbe writes the facts, then a line for each signal.
func showProbe(p *term.Printer, c *doctor.Capability) {
	fact := func(name string, style term.Style, text string) {
		for _, line := range term.Fold(text, p.Width(doctorWidth)-14) {
			p.Spans(term.Cell{Text: fmt.Sprintf("%-12s  ", name)}, term.Cell{Text: line, Style: style})
			name = ""
		}
	}
	btf := map[bool]string{true: "with BTF", false: "without BTF"}[c.BTF]
	fact("kernel", "", fmt.Sprintf("Linux %s %s, %s", c.Kernel, c.Machine, btf))
	if c.Tier == "" {
		fact("tier", term.Red, "none: "+c.Problem)
		fact("", "", c.Hint)
	} else {
		fact("tier", map[string]term.Style{"lsm": term.Green}[c.Tier], c.Tier)
	}
	for _, t := range c.Better {
		fact("", term.Yellow, fmt.Sprintf("not %s: %s", t.Tier, t.Detail))
	}
	fact("lsm=", "", orWord(strings.Join(c.LSMs, ","), "not known: is /sys/kernel/security mounted?"))
	fact("ftrace", map[string]term.Style{"off": term.Red}[c.Ftrace], c.Ftrace)
	fact("bpffs", "", orWord(c.BPFFS, "not mounted: the sensor ends with juratd"))
	fact("exec gate", "", orWord(c.ExecGateWhy, "possible"))
	if len(c.Capabilities) > 0 {
		fact("capabilities", term.Yellow, "juratd wants "+strings.Join(c.Capabilities, " ")+", and this process lacks them")
	}
	p.Blank()
	signals, seen := make([]term.Field, len(c.Signals)), 0
	for i, s := range c.Signals {
		signals[i] = term.Field{Label: s.Name, Value: "unknown(" + s.Reason + ")", Style: term.Yellow}
		if s.By != "" {
			signals[i] = term.Field{Label: s.Name, Value: s.By}
			seen++
		}
	}
	p.Fields("", signals...)
	p.Styled(term.Dim, "sees %d of %d signals", seen, len(signals))
}
