// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/doctor"
	"github.com/jurat-dev/jurat/ek"
)

// agentPatience is how long the doctor waits for juratd, which answers from
// memory.
const agentPatience = time.Second

func (a *app) doctorCommand() *cobra.Command {
	var o doctor.Options
	m := makers{bundle: string(ek.BundleShipped)}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "look at this host as juratd and the broker will, say what to do",
		Long: `Looks at the TPM, the boot log, Secure Boot, IMA, the kernel and its BPF, and says
in a line each what stands in the way and what to do. It changes nothing; it
needs no TPM, no root and no juratd, and says what it could not see.

bad: evidence of this host would be refused. warn: it is worth less, or somebody
has to decide. unknown: it could not be looked at.

The exit code is 0 when nothing is bad, 1 when something is, 3 when nothing at
all could be looked at.`,
		Example: "  sudo jurat doctor\n  jurat doctor --tpm /run/swtpm.sock --ek-roots /etc/jurat/ek-roots\n  jurat doctor --latch-pcr 12 --nv-index 0x01900001 --json",
		Args:    arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Patience <= 0 {
				return usage(c, "--patience %v, want more than 0", o.Patience)
			}
			if o.Authorities, err = m.open(c); err != nil {
				return err
			}
			return a.doctor(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.TPM, "tpm", "", "TPM device, or `PATH` of a software TPM's socket (default /dev/tpmrm0)")
	f.StringArrayVar(&m.roots, "ek-roots", nil, "certificates of makers of TPMs, and "+ek.RulesFile+": a `PATH`, again and again")
	f.Uint8Var(&o.Register.Latch, "latch-pcr", 0, "`PCR` that gates the register: 8, 9, 11 to 15 (default 13)")
	f.Uint32Var(&o.Register.Index, "nv-index", 0, "NV `INDEX` of the register (default 0x01906a72)")
	f.StringVar(&o.State, "state", "", "juratd's state `DIR` (default /var/lib/jurat)")
	f.StringVar(&o.BootLog, "boot-log", "", "`FILE` with the firmware's log (default: the kernel's)")
	f.StringVar(&o.OSLog, "os-log", "", "`FILE` with systemd's log (default /run/log/systemd/tpm2-measure.log)")
	f.StringVar(&o.IMAList, "ima-list", "", "`FILE` with IMA's list (default: the kernel's)")
	f.StringVar(&o.Root, "root", "", "read /sys, /proc, /etc and /run below `DIR`: another machine's files")
	f.DurationVar(&o.Patience, "patience", doctor.DefaultPatience, "longest wait for one answer of the TPM or the kernel")
	return c
}

// doctorJSON is jurat.doctor/v1.
type doctorJSON struct {
	Schema string `json:"schema"`
	*doctor.Report
}

func (a *app) doctor(ctx context.Context, o doctor.Options) error {
	o.Now = a.now()
	if o.Root == "" {
		o.Sensor = doctor.Sensor
	}
	r := doctor.Run(ctx, o)
	if o.Root == "" || a.set["socket"] {
		r.Add(a.juratdCheck(ctx))
	}
	for i, c := range r.Checks {
		lines := strings.Split(c.Hint, "\n")
		for j := range lines {
			lines[j] = term.Clean(lines[j])
		}
		r.Checks[i].Text, r.Checks[i].Hint = term.Clean(c.Text), strings.Join(lines, "\n")
	}
	if err := a.emit(&doctorJSON{"jurat.doctor/v1", r}, func(p *term.Printer) { showDoctor(p, r) }); err != nil {
		return err
	}
	if exit := doctorExit(r); exit != exitYes {
		return &failure{exit: exit} // said above
	}
	return nil
}

func doctorExit(r *doctor.Report) int {
	switch {
	case r.Count(doctor.Unknown) == len(r.Checks):
		return exitEnvironment
	case !r.OK:
		return exitNo
	}
	return exitYes
}

// juratdCheck asks juratd how it is.
func (a *app) juratdCheck(ctx context.Context) doctor.Check {
	const name = "juratd"
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	st, err := a.agent().Status(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return doctor.Check{Name: name, Status: doctor.Unknown, Text: "no permission to ask it at " + a.socket, Hint: "run it with sudo"}
	case err != nil:
		return doctor.Check{Name: name, Status: doctor.Warn, Text: "does not answer at " + a.socket, Hint: "'systemctl status juratd' says why; --socket names another socket"}
	case st.AnchorFault != "":
		return doctor.Check{Name: name, Status: doctor.Warn, Text: fmt.Sprintf("%s runs, its register does not bear its log out: %s", st.Version, clip(st.AnchorFault, 60)),
			Hint: "restart the machine; the lines about latch and register may say why"}
	case st.BrokerState != "reachable":
		return doctor.Check{Name: name, Status: doctor.Warn, Text: fmt.Sprintf("%s runs, broker %s", st.Version, clip(st.BrokerState, 48)),
			Hint: "'jurat status' says more; is " + clip(st.Broker, 60) + " reachable from here?"}
	}
	return doctor.Check{Name: name, Status: doctor.OK, Text: fmt.Sprintf("%s runs, tier %s, anchor %s, broker reachable", st.Version, st.Tier, st.Anchor)}
}

// doctorWidth is the longest line the doctor writes.
const doctorWidth = 109

// doctorStyles say how a status stands out.
var doctorStyles = map[doctor.Status]term.Style{
	doctor.OK: term.Green, doctor.Warn: term.Yellow, doctor.Bad: term.Red, doctor.Unknown: term.Dim,
}

// showDoctor writes a line for each check, what to do below those that are not
// well, and at the end what to do first.
func showDoctor(p *term.Printer, r *doctor.Report) {
	wide, width := 0, p.Width(doctorWidth)
	for _, c := range r.Checks {
		wide = max(wide, utf8.RuneCountInString(c.Name))
	}
	for _, c := range r.Checks {
		head := fmt.Sprintf("%-7s  %-*s  ", c.Status, wide, c.Name)
		for i, line := range term.Fold(c.Text, width-len(head)) {
			if i == 0 {
				p.Row(doctorStyles[c.Status], string(c.Status), head[len(c.Status):]+line)
				continue
			}
			p.Line("%*s%s", len(head), "", line)
		}
		for _, hint := range strings.Split(c.Hint, "\n") {
			for i, line := range term.Fold(hint, width-12) {
				p.Line("         %s %s", map[bool]string{true: "->", false: "  "}[i == 0], line)
			}
		}
	}
	p.Blank()
	style := term.Green
	if r.Count(doctor.Warn)+r.Count(doctor.Unknown) > 0 {
		style = term.Yellow
	}
	if !r.OK {
		style = term.Red
	}
	p.Styled(style, "%d ok, %s, %d bad, %d unknown", r.Count(doctor.OK), plural(r.Count(doctor.Warn), "warning"), r.Count(doctor.Bad), r.Count(doctor.Unknown))
	if c, some := r.Next(); some {
		first, _, _ := strings.Cut(c.Hint, "\n")
		for i, line := range term.Fold("next: "+c.Name+": "+first, width-6) {
			p.Line("%s%s", map[bool]string{false: "      "}[i == 0], line)
		}
	}
}
