// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"slices"
	"strings"
)

// KernelMeasured reports whether the log has an image that was loaded to boot
// an operating system, and in words which or why not. Where it is false, the
// kernel came from somewhere else, such as an emulator that puts it into memory:
// then nothing in the PCRs is about it, and Secure Boot never saw it.
func (l *Log) KernelMeasured() (bool, string) {
	separated := false // PCR 4: the firmware has handed over
	var image *Event
	for i := range l.Events {
		e := &l.Events[i]
		switch {
		case e.PCR == 4 && e.Type == Separator:
			separated = true
		case e.PCR == 4 && separated && e.Type == EFIBootServicesApplication,
			e.PCR == 4 && e.Type == IPL, // a BIOS
			e.PCR == 4 && separated && e.Type == CompactHash:
			image = e
		}
	}
	if image == nil {
		return false, "no boot application was measured into PCR 4 after the firmware handed over, so nothing says which kernel runs"
	}
	return true, "PCR 4, " + image.place() + ": " + image.Describe()
}

// KernelCommandLines returns the distinct kernel command lines that were
// measured, in the order of the log: what GRUB calls kernel_cmdline (with the
// name of the kernel file that it puts first) and what systemd-boot or
// systemd-stub were given. A command line counts only where the digest is that
// of its text. The command line inside a UKI and the one that the Linux EFI stub
// was given are measured as digests only, so that they are not here.
func (l *Log) KernelCommandLines() []string {
	var out []string
	for i := range l.Events {
		if line, ok := l.Events[i].commandLine(); ok && !slices.Contains(out, line) && len(out) < 4*maxEntries {
			out = append(out, line)
		}
	}
	return out
}

func (e *Event) commandLine() (string, bool) {
	if e.Type != IPL || (e.PCR != 8 && e.PCR != 12) {
		return "", false
	}
	line, ok := "", false
	what, rest, grub := grubText(e.Data)
	if grub && e.PCR == 8 && strings.HasPrefix(what, "kernel command line") {
		line, ok = string(bytes.TrimRight(rest, "\x00")), true
	} else if !grub && e.isWideText() {
		line, ok = ucs2(e.Data)
		ok = ok && !stubTexts[line]
	}
	if !ok || e.coverage() != covered {
		return "", false
	}
	return strings.ToValidUTF8(line, "\ufffd"), true
}
