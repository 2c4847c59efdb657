// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// report writes a line for each row, then what is wrong with those that are.
func report(w io.Writer, all []*result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KERNEL\tROW\tRELEASE\tTIER\tSEEN\tUNKNOWN\tTESTS\tREFUSED\tRESULT")
	for _, r := range all {
		tier, seen, unknown, verdict := "-", 0, 0, "ok"
		if r.probe != nil {
			tier = r.probe.Tier
			seen, unknown = r.probe.counts()
		}
		if len(r.wrong) > 0 {
			verdict = "FAIL"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d of %d\t%d of %d\t%s\n", r.kernel, r.row.name, r.release, tier, seen, unknown,
			r.pass, r.pass+len(r.fail)+len(r.skipped), r.refused, len(r.row.attacks), verdict)
	}
	t.Flush()
	for _, r := range all {
		for _, wrong := range r.wrong {
			fmt.Fprintf(w, "%s %s: %s\n", r.kernel, r.row.name, wrong)
		}
	}
}

const matrixIntro = `# What juratd sees, kernel by kernel

Made by ` + "`make kernels`" + `, which boots the stock kernels of Debian 12 and 13 in an emulator, runs ` + "`jurat probe`" + `
and the tests of ` + "`bpf`" + ` in each, and holds what they say against what is expected. A signal counts as seen when the
tests did what it speaks of and the kernel told. What is not seen is in every bundle as unknown, with the reason.
To see the table of another kernel: ` + "`sudo jurat probe`" + `.

Rows: *stock* is the kernel as the distribution ships it; *ftrace-off* after ` + "`sysctl kernel.ftrace_enabled=0`" + `, which
silences LSM programs and trampolines without a trace in them; *ima-policy* with an IMA policy that measures
programs; *attacks* a whole jurat, with a software TPM and a broker, attacked with what the tracepoint tier misses or
sees by its looks alone; *no-bpf-in-lsm* booted with ` + "`lsm=landlock,lockdown,yama,integrity,apparmor`" + `, as Ubuntu boots; *development*
is the kernel that jurat is developed on, which takes no LSM program and no trampoline.

`

// matrix is docs/kernels.md.
func matrix(all []*result) string {
	var b strings.Builder
	b.WriteString(matrixIntro)
	b.WriteString("| kernel | row | tier | why no better tier | signals seen | tests passed | attacks refused |\n|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		seen, unknown := r.probe.counts()
		tests, refused := dash(count(r.pass)), dash(count(r.refused))
		if r.row.name == ownRow {
			tests, refused = "by `make test`", "by `make redteam`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d of %d | %s | %s |\n", r.release, r.row.name, r.probe.Tier, dash(r.probe.betterThan()), seen, seen+unknown, tests, refused)
	}
	b.WriteString("\n## Unknown, and why\n\nSignals that are not here are seen in every row.\n\n| signal |")
	for _, r := range all {
		fmt.Fprintf(&b, " %s %s |", r.kernel, r.row.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	for i, s := range all[0].probe.Signals {
		line, some := "| "+s.Name+" |", false
		for _, r := range all {
			reason := r.probe.Signals[i].Reason
			some = some || reason != ""
			line += " " + reason + " |"
		}
		if some {
			b.WriteString(line + "\n")
		}
	}
	b.WriteString("\n## Seen by\n\n")
	return b.String() + hooksOfTiers(all)
}

// hooksOfTiers lists which programs see each signal, in each tier.
func hooksOfTiers(all []*result) string {
	tiers := []string{"lsm", "trampoline", "tracepoint"}
	by := make(map[[2]string][]string) // of tier and signal
	for _, r := range all {
		for _, s := range r.probe.Signals {
			at := [2]string{r.probe.Tier, s.Name}
			for _, hook := range strings.Fields(s.By) {
				if !slices.Contains(by[at], hook) {
					by[at] = append(by[at], hook)
				}
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| signal | %s |\n|---|---|---|---|\n", strings.Join(tiers, " | "))
	for _, s := range all[0].probe.Signals {
		fmt.Fprintf(&b, "| %s |", s.Name)
		for _, tier := range tiers {
			fmt.Fprintf(&b, " %s |", dash(strings.Join(by[[2]string{tier, s.Name}], "<br>")))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
