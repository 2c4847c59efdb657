// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// What GRUB puts before the text it measures into PCR 8. The digest covers what
// follows, without the trailing zero or, in other versions, with it.
var grubPrefixes = []struct{ prefix, words string }{
	{"grub_cmd: ", "GRUB command: "},
	{"kernel_cmdline: ", "kernel command line (GRUB): "},
	{"module_cmdline: ", "module command line (GRUB): "},
	{"grub_cmd ", "GRUB command: "}, // Red Hat's before upstream's
	{"grub_kernel_cmdline ", "kernel command line (GRUB): "},
}

func grubText(b []byte) (words string, rest []byte, ok bool) {
	for _, p := range grubPrefixes {
		if rest, ok := bytes.CutPrefix(b, []byte(p.prefix)); ok {
			return p.words, rest, true
		}
	}
	return "", nil, false
}

// The texts that systemd-stub writes where it measured archives that it made
// (systemd.io/TPM2_PCR_MEASUREMENTS).
var stubTexts = map[string]bool{
	"Credentials initrd": true, "Global credentials initrd": true, "System extension initrd": true,
	"Configuration extension initrd": true, "Global system extension initrd": true, "Global configuration extension initrd": true,
}

var shimVariables = map[string]string{
	"MokList": "shim: keys of the machine's owner (MokList)", "MokListX": "shim: revocations of the machine's owner (MokListX)",
	"MokListTrusted": "shim: whether the kernel trusts the owner's keys (MokListTrusted)",
	"MokSBState":     "shim: whether shim validates (MokSBState)", "MokDBState": "shim: whether shim reads db (MokDBState)",
	"SbatLevel": "shim: revocation level (SbatLevel)", "SBAT": "shim: revocation level (SBAT)",
}

// describeIPL reads what boot loaders measure. Each has its own PCRs and its own
// form (uapi-group.org/specifications/specs/linux_tpm_pcr_registry).
func (e *Event) describeIPL() string {
	if what, rest, ok := grubText(e.Data); ok {
		return what + "\"" + clean(string(bytes.TrimRight(rest, "\x00"))) + "\""
	}
	s, ok := text(e.Data)
	if !ok {
		if e.PCR == 4 && len(e.Data) == 0 {
			return "boot loader code"
		}
		return fmt.Sprintf("boot loader data %s", hexadecimal(e.Data))
	}
	s = clean(s)
	switch {
	case e.PCR == 11 && strings.HasPrefix(s, "."):
		if e.isSectionName() {
			return "UKI section name " + s
		}
		return "UKI section data of " + s
	case (e.PCR == 12 || e.PCR == 13) && stubTexts[s]:
		return "systemd-stub: " + s
	case e.PCR == 12, e.isWideText() && e.PCR == 8:
		return "kernel command line (systemd): \"" + s + "\""
	case e.PCR == 9 && len(s) > 0 && (s[0] == '/' || s[0] == '('):
		return "file read by GRUB: " + s
	case e.PCR == 14 && shimVariables[s] != "":
		return shimVariables[s]
	}
	return "boot loader: \"" + s + "\""
}

// isWideText reports whether the data is text in UTF-16, which systemd writes
// and GRUB does not.
func (e *Event) isWideText() bool {
	if len(e.Data) < 4 || e.Data[1] != 0 {
		return false
	}
	_, ok := ucs2(e.Data)
	return ok
}

// sectionName returns what systemd-stub measures before the data of a section
// of a UKI: its name in ASCII with the zero.
func (e *Event) sectionName() ([]byte, bool) {
	name, ok := ucs2(e.Data)
	if !ok || e.PCR != 11 || !strings.HasPrefix(name, ".") {
		return nil, false
	}
	return append([]byte(name), 0), true
}

// isSectionName tells the name of a section from its data: both have the same
// text, the digest is another.
func (e *Event) isSectionName() bool {
	name, ok := e.sectionName()
	return ok && e.digestOf(name)
}

// Tags of EV_EVENT_TAG (Linux drivers/firmware/efi/libstub/efistub.h, systemd
// src/boot/measure.h).
const (
	tagLinuxInitrd  = 0x8f3b22ec
	tagLinuxOptions = 0x8f3b22ed
)

var tagNames = map[uint32]string{
	tagLinuxInitrd: "initrd loaded by the Linux EFI stub", tagLinuxOptions: "kernel command line given to the Linux EFI stub",
	0xf5bc582a: "systemd-boot configuration", 0x6c46f751: "systemd-stub: device tree", 0x49dffe0f: "systemd-stub: initrd add-on",
	0xdac08e1a: "systemd-stub: microcode add-on", 0xd5cb7cbc: "systemd: SMBIOS type 1", 0xe0d47bc8: "systemd: SMBIOS type 2",
	0xc0b3bd23: "systemd: SMBIOS type 11", 0x13aed6db: "systemd-stub: UKI profile",
}

// tagged reads a TCG_PCClientTaggedEvent (Platform Firmware Profile section
// 10.2.2).
func tagged(b []byte) (id uint32, data, rest []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, nil, false
	}
	id, size := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if uint64(size) > uint64(len(b)-8) {
		return 0, nil, nil, false
	}
	return id, b[8 : 8+size], b[8+size:], true
}

func (e *Event) describeTag() string {
	id, data, rest, ok := tagged(e.Data)
	if !ok {
		return "tagged event, malformed: " + words(e.Data)
	}
	if name, ok := tagNames[id]; ok {
		if s, ok := text(data); ok && id != tagLinuxInitrd && id != tagLinuxOptions {
			name += " \"" + clean(s) + "\""
		}
		return name
	}
	if isWindowsTag(e.Data) {
		return describeTags(e.Data)
	}
	s := fmt.Sprintf("tagged event 0x%08x: %s", id, words(data))
	if len(rest) > 0 {
		s += fmt.Sprintf(", and %d bytes more", len(rest))
	}
	return s
}
