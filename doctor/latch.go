// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// users are who extends the PCRs that may be a latch (UAPI Group, Linux TPM
// PCR Registry).
var users = map[uint8]string{
	8: "GRUB (commands, kernel command line)", 9: "GRUB (files it read), the kernel's EFI stub (initrd)",
	11: "systemd-stub (unified kernel image)", 12: "systemd-stub (command line, credentials)",
	13: "systemd-stub (system extensions)", 14: "shim (MOK lists)", 15: "systemd (machine id, file systems, volume keys)",
}

// latch: the PCR that gates the register's first write must be zero until
// then.
func (e *examination) latch() Check {
	const name = "latch PCR"
	switch {
	case e.chip == nil:
		return Check{name, Unknown, noTPM, ""}
	case errors.Is(e.chip.stateErr, tpm.ErrBank):
		return Check{name, Unknown, "needs the SHA-256 bank", ""}
	case e.chip.stateErr != nil:
		return Check{name, Bad, e.chip.stateErr.Error(), "choose others with --latch-pcr (8, 9, 11 to 15) and --nv-index"}
	}
	pcr, state := e.Register.Latch, e.chip.state
	where := fmt.Sprintf("PCR %d", pcr)
	switch stage := state.Stage(); {
	case state.Latch == evidence.Hash{}:
		return Check{name, OK, where + " is free" + e.alsoFree(), ""}
	case stage == tpm.StageClosed:
		if id, ok := e.bootID(); ok && !state.ClosedIn(id) {
			return Check{name, Warn, where + " was extended by somebody else too", "choose another with --latch-pcr: " + e.free()}
		}
		return Check{name, OK, where + " is closed by jurat's register", ""}
	}
	return Check{name, Warn, fmt.Sprintf("%s is in use, probably by %s", where, users[pcr]), "choose another with --latch-pcr: " + e.free()}
}

// free names the PCRs that may be a latch and are zero.
func (e *examination) free() string {
	var free []int
	for _, pcr := range e.chip.survey.Latches {
		free = append(free, int(pcr))
	}
	if len(free) == 0 {
		return "none is free, so run juratd -anchor none"
	}
	return list(free) + map[bool]string{true: " is free", false: " are free"}[len(free) == 1]
}

func (e *examination) alsoFree() string {
	var others []int
	for _, pcr := range e.chip.survey.Latches {
		if pcr != e.Register.Latch {
			others = append(others, int(pcr))
		}
	}
	if len(others) == 0 {
		return ", no other is"
	}
	return ", so " + map[bool]string{true: "is ", false: "are "}[len(others) == 1] + list(others)
}

// register: the NV index must be free, or hold jurat's own register.
func (e *examination) register() Check {
	const name = "register"
	switch {
	case e.chip == nil:
		return Check{name, Unknown, noTPM, ""}
	case e.chip.stateErr != nil:
		return Check{name, Unknown, "not looked at: see the line above", ""}
	}
	where := fmt.Sprintf("NV index 0x%08x", e.Register.Index)
	switch state := e.chip.state; {
	case state.Ours && state.Written:
		return Check{name, OK, where + " holds jurat's register, written since the TPM started", ""}
	case state.Ours:
		return Check{name, OK, where + " holds jurat's register, not written yet", ""}
	case e.chip.other != 0:
		return Check{name, Warn, fmt.Sprintf("%s holds jurat's register with PCR %d as its latch", where, e.chip.other),
			fmt.Sprintf("run juratd with -latch-pcr %d, or it makes the register anew", e.chip.other)}
	case state.Defined:
		return Check{name, Warn, where + " holds something else: " + e.kind(), "choose another with --nv-index (0x01800000 to 0x01bfffff), or 'tpm2_nvundefine' if it is nobody's"}
	}
	return Check{name, OK, where + " is free", ""}
}

// kind says what is at the register's index.
func (e *examination) kind() string {
	for _, index := range e.chip.survey.Indexes {
		if index.Handle == e.Register.Index && index.Err == nil {
			return fmt.Sprintf("%s, %s", index.Kind, plural(index.Size, "byte", "bytes"))
		}
	}
	return "not readable"
}

// room: the TPM does not say how many bytes of NV memory are left, so that a
// warning is all there can be.
func (e *examination) room() Check {
	const name = "TPM memory"
	if e.chip == nil {
		return Check{name, Unknown, noTPM, ""}
	}
	r := e.chip.survey.Room
	text, join := fmt.Sprintf("%s in use", plural(len(e.chip.survey.Indexes), "NV index", "NV indexes")), "; room for"
	for _, left := range []struct {
		n    int64
		what string
	}{{r.CountersLeft, "counters"}, {r.TransientLeft, "loaded keys"}, {r.SessionsLeft, "sessions"}} {
		if left.n >= 0 {
			text += fmt.Sprintf("%s %d %s", join, left.n, left.what)
			join = ","
		}
	}
	switch {
	case r.TransientLeft == 0 || r.SessionsLeft == 0:
		return Check{name, Warn, text, "use /dev/tpmrm0; 'tpm2_flushcontext -t', or -l or -s, removes what others left behind"}
	case r.CountersLeft == 0 && !(e.chip.stateErr == nil && e.chip.state.Ours):
		return Check{name, Warn, text, "NV memory may be full: 'tpm2_getcap handles-nv-index' lists it; remove what nobody needs"}
	}
	return Check{name, OK, text, ""}
}

// disks looks for sealed disks whose key depends on the latch PCR. Once the
// latch is closed such a disk does not open before the next restart. Bindings
// in LUKS headers alone are not seen here.
func (e *examination) disks() Check {
	const name, path = "sealed disks", "/etc/crypttab"
	raw, err := e.read(path, maxCrypttab)
	switch {
	case missing(err):
		return Check{name, OK, "no " + path, ""}
	case err != nil:
		return unread(name, path, err)
	}
	return crypttab(name, string(raw), e.Register.Latch)
}

// crypttab looks through /etc/crypttab (crypttab(5)).
func crypttab(name, raw string, latch uint8) Check {
	sealed := 0
	for line := range strings.Lines(raw) {
		fields := strings.Fields(line)
		if len(fields) < 4 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		volume := clip(fields[0], 40)
		for option := range strings.SplitSeq(fields[3], ",") {
			key, value, _ := strings.Cut(option, "=")
			switch {
			case key == "tpm2-device":
				sealed++
			case key == "tpm2-pcrs" && namesPCR(value, latch):
				return Check{name, Warn, fmt.Sprintf("%s is sealed to PCR %d, the latch", volume, latch),
					"choose another with --latch-pcr, or it opens only before juratd starts"}
			case key == "tpm2-measure-pcr" && (namesPCR(value, latch) || value == "yes" && latch == 15):
				return Check{name, Warn, fmt.Sprintf("opening %s extends PCR %d, the latch", volume, latch), "choose another with --latch-pcr"}
			}
		}
	}
	if sealed > 0 {
		return Check{name, OK, fmt.Sprintf("%s, none named with PCR %d", plural(sealed, "volume opened by the TPM", "volumes opened by the TPM"), latch),
			"'systemd-cryptenroll DEVICE' and 'clevis luks list' show PCRs that crypttab does not"}
	}
	return Check{name, OK, "none in /etc/crypttab", ""}
}

// pcrNames are systemd's words for PCRs that may be a latch
// (systemd-cryptenroll(1)).
var pcrNames = map[string]uint8{
	"kernel-initrd": 9, "kernel-boot": 11, "kernel-config": 12, "sysexts": 13, "shim-policy": 14, "system-identity": 15,
}

// namesPCR reports whether a list such as 7+11:sha256 or sysexts names a PCR.
func namesPCR(list string, pcr uint8) bool {
	for one := range strings.SplitSeq(list, "+") {
		one, _, _ = strings.Cut(one, ":")
		one, _, _ = strings.Cut(one, "=")
		if n, err := strconv.ParseUint(one, 10, 8); err == nil && uint8(n) == pcr {
			return true
		}
		if n, ok := pcrNames[one]; ok && n == pcr {
			return true
		}
	}
	return false
}
