// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// osLogPath is where systemd writes down what it measures.
const osLogPath = "/run/log/systemd/tpm2-measure.log"

// bootLog is what firmware and operating system say they measured.
type bootLog struct {
	log    *eventlog.Log // nil: err
	err    error
	os     *eventlog.Userspace // nil: osErr
	osErr  error
	values eventlog.Values // of the SHA-256 bank, both logs replayed
}

// hidden reports whether the firmware's log is there and not for this user.
func (b *bootLog) hidden() bool { return errors.Is(b.err, fs.ErrPermission) }

// bootLogPath is the log of a TPM, as the kernel hands it out.
func bootLogPath(device string) string {
	number := "0"
	for _, name := range []string{"tpmrm", "tpm"} {
		if n, ok := strings.CutPrefix(path.Base(device), name); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			number = n
			break
		}
	}
	return securityFS + "/tpm" + number + "/binary_bios_measurements"
}

func (e *examination) readBootLog() {
	b := &e.boot
	raw, err := readAll(e.BootLog, eventlog.MaxLog)
	if err == nil {
		b.log, err = eventlog.Parse(raw)
	}
	if b.err = err; err != nil {
		return
	}
	b.values = b.log.Replay(eventlog.SHA256)
	if raw, b.osErr = readAll(e.OSLog, eventlog.MaxLog); b.osErr == nil {
		b.os, b.osErr = eventlog.ParseUserspace(raw)
	}
	if b.osErr == nil {
		b.values = b.os.Replay(b.values)
	}
}

// compare holds the TPM's PCRs against what the logs make of them.
func (e *examination) compare() {
	e.pcrs = make(map[int]PCR)
	if e.chip == nil {
		return
	}
	for _, pcr := range e.chip.survey.PCRs {
		e.pcrs[int(pcr.Index)] = e.compareOne(pcr)
	}
}

func (e *examination) compareOne(pcr evidence.PCR) PCR {
	index := int(pcr.Index)
	out := PCR{Observed: hex.EncodeToString(pcr.Digest), State: Unexplained}
	replayed, has := e.boot.values.At(index)
	if has {
		out.Replayed = hex.EncodeToString(replayed)
	}
	fresh := len(bytes.Trim(pcr.Digest, "\x00")) == 0 || index >= 17 && index <= 22 && len(bytes.Trim(pcr.Digest, "\xff")) == 0
	switch {
	case has && bytes.Equal(replayed, pcr.Digest):
		out.State = Equal
	case has:
		out.State = Different
		for _, c := range e.boot.log.Completions(eventlog.SHA256) {
			if index == 5 && bytes.Equal(c.Value, pcr.Digest) {
				out.State = Completed
			}
		}
	case fresh:
		out.State = Unused
	case pcr.Index == e.Register.Latch && e.chip.stateErr == nil && e.chip.state.Stage() == tpm.StageClosed:
		out.State = Latch
	}
	return out
}

func (e *examination) bootLogCheck() Check {
	const name = "boot log"
	b := &e.boot
	var malformed *eventlog.Error
	switch {
	case b.log != nil:
		var banks []string
		for _, bank := range b.log.Banks() {
			banks = append(banks, bank.String())
		}
		return Check{name, OK, fmt.Sprintf("%s, %s", plural(len(b.log.Events), "event", "events"), strings.Join(banks, ", ")), ""}
	case missing(b.err) && !e.mounted():
		return Check{name, Unknown, securityFS + " is empty", mountHint}
	case missing(b.err):
		return Check{name, Bad, "no " + e.BootLog + ": what booted cannot be shown", "enable the TPM in the firmware setup, boot by UEFI; some virtual machines have no log"}
	case errors.As(b.err, &malformed):
		return Check{name, Bad, clip(b.err.Error(), 90), "update the firmware; is " + e.BootLog + " the kernel's own file?"}
	}
	return unread(name, e.BootLog, b.err)
}

// noLog is a check of a log that is not there: the line of the log itself says
// what to do.
func (e *examination) noLog(name string) (Check, bool) {
	return Check{name, Unknown, "no boot log to look at", ""}, e.boot.log == nil
}

func (e *examination) bootPCRs() Check {
	const name = "boot PCRs"
	if c, none := e.noLog(name); none {
		return c
	}
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	if len(e.chip.survey.PCRs) == 0 {
		return Check{name, Unknown, "needs the SHA-256 bank", ""}
	}
	var differ, unexplained, empty []int
	completed := false
	for pcr := range 8 {
		switch e.pcrs[pcr].State {
		case Different:
			differ = append(differ, pcr)
		case Unexplained:
			unexplained = append(unexplained, pcr)
		case Unused:
			empty = append(empty, pcr)
		case Completed:
			completed = true
		}
	}
	hint := "restart; if it stays, the firmware's log is not whole: 'jurat eventlog replay " + e.BootLog + "'"
	switch {
	case len(differ) > 0:
		return Check{name, Bad, fmt.Sprintf("PCR %s: another value than the boot log makes", list(differ)), hint}
	case len(unexplained) > 0:
		return Check{name, Bad, fmt.Sprintf("PCR %s: a value, and no event in the boot log", list(unexplained)), hint}
	case len(empty) > 0:
		return Check{name, Bad, fmt.Sprintf("PCR %s: nothing was measured", list(empty)), "the firmware must measure into all of PCR 0 to 7: update it"}
	case completed:
		return Check{name, Warn, "0 to 7 replay, 5 only with events that the firmware left out of its log", "update the firmware, or leave PCR 5 out of the machine's values"}
	}
	return Check{name, OK, "0 to 7 are what the boot log makes of them", ""}
}

func (e *examination) bootFindings() Check {
	const name = "boot findings"
	if c, none := e.noLog(name); none {
		return c
	}
	count := make(map[eventlog.Severity]int)
	var codes []string
	worst := OK
	for _, f := range e.boot.log.Findings() {
		count[f.Severity]++
		switch {
		case f.Severity == eventlog.Note:
			continue
		case f.Severity == eventlog.Alarm:
			worst = Bad
		case worst == OK:
			worst = Warn
		}
		if !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	text := fmt.Sprintf("%s, %s, %s", plural(count[eventlog.Alarm], "alarm", "alarms"),
		plural(count[eventlog.Warning], "warning", "warnings"), plural(count[eventlog.Note], "note", "notes"))
	if worst == OK {
		return Check{name, OK, text, ""}
	}
	return Check{name, worst, text + ": " + clip(strings.Join(codes, ", "), 64), "'jurat eventlog show " + e.BootLog + "' explains them; a machine may allow them by name"}
}

// efiSecureBoot is the firmware's variable: four bytes of attributes, then 0
// or 1.
const efiSecureBoot = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

func (e *examination) secureBoot() Check {
	const name = "Secure Boot"
	if e.boot.log == nil {
		said := "the firmware says nothing of it"
		if raw, err := e.read(efiSecureBoot, maxSmall); err == nil && len(raw) == 5 {
			said = "the firmware says " + map[bool]string{true: "on", false: "off"}[raw[4] == 1] + ", which nobody measured"
		}
		return Check{name, Unknown, "no boot log to look at; " + said, ""}
	}
	state, reason := e.boot.log.SecureBoot()
	switch reason = clip(reason, 70); state {
	case eventlog.SecureBootOn:
		if e.pcrs[7].State == Different {
			return Check{name, Warn, "on, says the log, and PCR 7 does not bear it out", "see the line about the boot PCRs"}
		}
		return Check{name, OK, "on: " + reason, ""}
	case eventlog.SecureBootOff:
		return Check{name, Warn, "off: " + reason, "enable it in the firmware setup, or allow it off in the machine's values"}
	}
	return Check{name, Warn, "unknown: " + reason, "'jurat eventlog show " + e.BootLog + "' lists what was measured"}
}

func (e *examination) kernelImage() Check {
	const name = "kernel image"
	if c, none := e.noLog(name); none {
		return c
	}
	measured, reason := e.boot.log.KernelMeasured()
	if !measured {
		return Check{name, Bad, "the kernel was never measured: " + clip(reason, 60), "boot it through the firmware (UEFI), not from an emulator's or a boot loader's memory"}
	}
	if e.pcrs[4].State == Different {
		return Check{name, Warn, "measured, says the log, and PCR 4 does not bear it out", "see the line about the boot PCRs"}
	}
	return Check{name, OK, clip(reason, 80), ""}
}

// commandLine holds the running kernel's command line against those measured.
// GRUB puts the kernel's file first, and the kernel has it as BOOT_IMAGE.
func (e *examination) commandLine() Check {
	const name = "command line"
	if c, none := e.noLog(name); none {
		return c
	}
	measured := e.boot.log.KernelCommandLines()
	if len(measured) == 0 {
		return Check{name, Unknown, "not in the boot log as text, as with a unified kernel image", ""}
	}
	running, err := e.line("/proc/cmdline")
	if err != nil {
		return unread(name, "/proc/cmdline", err)
	}
	words := strings.Fields(running)
	image := len(words) > 0 && strings.HasPrefix(words[0], "BOOT_IMAGE=")
	if image {
		words = words[1:]
	}
	for _, line := range measured {
		made := strings.Fields(line)
		if image && len(made) > 0 {
			made = made[1:]
		}
		if slices.Equal(words, made) {
			return Check{name, OK, "as measured: " + clip(running, 60), ""}
		}
	}
	return Check{name, Warn, "the running one was not measured: " + clip(running, 50), "restart; after kexec or with an initrd's own additions it stays so"}
}

// osLog holds PCR 8 to 15, without IMA's, against both logs.
func (e *examination) osLog() Check {
	const name = "system log"
	if c, none := e.noLog(name); none {
		return c
	}
	records := 0
	switch b := &e.boot; {
	case b.osErr != nil && !missing(b.osErr):
		var malformed *eventlog.Error
		if errors.As(b.osErr, &malformed) {
			return Check{name, Warn, e.OSLog + ": " + clip(b.osErr.Error(), 60), "restart; if it stays, update systemd"}
		}
		return unread(name, e.OSLog, b.osErr)
	case b.osErr == nil && b.os.Torn > 0:
		return Check{name, Warn, e.OSLog + " ends in a torn record", "restart: a measurement was interrupted"}
	case b.osErr == nil:
		records = len(b.os.Records)
	}
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	var open []int
	for pcr := 8; pcr < 16; pcr++ {
		if state := e.pcrs[pcr].State; pcr != 10 && (state == Different || state == Unexplained) {
			open = append(open, pcr)
		}
	}
	if len(open) > 0 {
		return Check{name, Warn, fmt.Sprintf("PCR %s: not what the logs make of it", list(open)), "find out what extends them; leave them out of the machine's values, or update systemd"}
	}
	if records == 0 {
		return Check{name, OK, "systemd measured nothing, and PCR 8 to 15 need no more than the boot log", ""}
	}
	return Check{name, OK, fmt.Sprintf("%s of systemd's, PCR 8 to 15 replay", plural(records, "record", "records")), ""}
}
