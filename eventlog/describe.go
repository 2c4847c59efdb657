// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Describe says in one line of words what the event is, without its PCR and
// number. What comes from the log is cleaned and cut; whether the digest bears
// the words out is another question, see [Event.Covered].
func (e *Event) Describe() string {
	return clean(e.describe())
}

func (e *Event) describe() string {
	switch e.Type {
	case NoAction:
		return e.describeNoAction()
	case Separator:
		return e.describeSeparator()
	case SCRTMVersion:
		return "firmware (S-CRTM) version " + versionText(e.Data)
	case SCRTMContents:
		return "S-CRTM contents" + blobText(e.Data)
	case POSTCode, POSTCode2:
		return "firmware code" + blobText(e.Data)
	case EFIPlatformFirmwareBlob, EFIPlatformFirmwareBlob2:
		return "firmware volume" + blobText(e.Data)
	case CPUMicrocode:
		return "CPU microcode: " + words(e.Data)
	case PlatformConfigFlags:
		return "platform configuration: " + words(e.Data)
	case TableOfDevices:
		return "table of devices, " + plural(len(e.Data), "byte", "bytes")
	case NonhostCode, NonhostConfig, NonhostInfo:
		return nonhostNames[e.Type] + ": " + words(e.Data)
	case CompactHash:
		return "compact hash: " + words(e.Data)
	case OmitBootDeviceEvents:
		return "boot devices are not measured: " + words(e.Data)
	case Action, EFIAction:
		return "action: " + words(e.Data)
	case EFIHCRTMEvent:
		return "H-CRTM: code measured before the CPU started"
	case EventTag:
		return e.describeTag()
	case IPL, IPLPartitionData:
		return e.describeIPL()
	case PrebootCert, Unused:
		return "reserved event, " + plural(len(e.Data), "byte", "bytes")
	}
	if e.Type.known() {
		return e.describeEFI()
	}
	return e.Type.String() + ", " + plural(len(e.Data), "byte", "bytes")
}

var nonhostNames = map[Type]string{
	NonhostCode: "code outside the host CPU", NonhostConfig: "configuration outside the host CPU", NonhostInfo: "information outside the host CPU",
}

func (e *Event) describeEFI() string {
	switch e.Type {
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2:
		if v, ok := parseVariable(e.Data); ok {
			return v.describe()
		}
		return "malformed variable, " + plural(len(e.Data), "byte", "bytes")
	case EFIVariableAuthority:
		if a, ok := e.authority(); ok {
			return a.Text
		}
		return "malformed authority, " + plural(len(e.Data), "byte", "bytes")
	case EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver:
		return e.describeImage()
	case EFIGPTEvent, EFIGPTEvent2:
		return describeGPT(e.Data)
	case EFIHandoffTables, EFIHandoffTables2:
		return describeHandoff(e.Type, e.Data)
	}
	return describeSPDM(e.Type, e.Data)
}

// describeNoAction names the events that only inform (Platform Firmware Profile
// section 10.4.5).
func (e *Event) describeNoAction() string {
	if e.Number == 0 && e.log != nil && e.log.agile {
		var names []string
		for _, b := range e.log.banks {
			names = append(names, b.algorithm.String())
		}
		s := "log header, banks " + strings.Join(names, ", ")
		if len(e.log.vendor) > 0 {
			s += ", vendor information " + words(e.log.vendor)
		}
		return s
	}
	name, rest, _ := bytes.Cut(e.Data, []byte{0})
	switch {
	case bytes.HasPrefix(e.Data, startupLocality):
		return "TPM started at locality " + hexadecimal(e.Data[len(startupLocality):])
	case bytes.HasPrefix(e.Data, []byte("SP800-155 Event")):
		return describePlatformID(e.Data)
	case bytes.HasPrefix(e.Data, []byte("H-CRTM CompMeas")):
		return "component that the H-CRTM measured"
	case bytes.HasPrefix(e.Data, []byte("NvIndexInstance")), bytes.HasPrefix(e.Data, []byte("NvIndexDynamic")):
		return "measurement into an NV index: " + clean(string(name))
	case isWindowsTag(e.Data):
		return describeTags(e.Data)
	}
	if s, ok := ascii(name); ok && len(name) >= 4 {
		return "note \"" + clean(s) + "\", " + plural(len(rest), "byte", "bytes")
	}
	return "note: " + words(e.Data)
}

func (e *Event) describeSeparator() string {
	switch {
	case bytes.Equal(e.Data, separatorZero):
		return "separator: the operating system loader takes over"
	case bytes.Equal(e.Data, separatorError):
		return "separator: the firmware met an error"
	}
	return "separator " + words(e.Data)
}

// versionText reads the version of firmware, which is text or a GUID.
func versionText(b []byte) string {
	if s, ok := text(b); ok {
		return "\"" + clean(s) + "\""
	}
	if len(b) == 16 {
		return guid(b).String()
	}
	return hexadecimal(b)
}

// blobText reads an EFI_PLATFORM_FIRMWARE_BLOB, with or without a description
// before it (sections 10.2.3 and 10.2.4), or the text that old firmware has there.
func blobText(b []byte) string {
	if len(b) == 16 {
		base, size := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		return fmt.Sprintf(": %d bytes at 0x%x", size, base)
	}
	if len(b) >= 17 && int(b[0]) == len(b)-17 {
		n := int(b[0])
		return " " + words(b[1:1+n]) + blobText(b[1+n:])
	}
	if len(b) == 0 {
		return ""
	}
	return ": " + words(b)
}

var imageNames = map[Type]string{
	EFIBootServicesApplication: "boot application", EFIBootServicesDriver: "boot driver", EFIRuntimeServicesDriver: "runtime driver",
}

// imagePath returns the device path of a UEFI_IMAGE_LOAD_EVENT (section 10.2.7).
func imagePath(b []byte) ([]byte, bool) {
	const fixed = 32
	if len(b) < fixed {
		return nil, false
	}
	size := binary.LittleEndian.Uint64(b[24:])
	if size > uint64(len(b)-fixed) {
		return nil, false
	}
	return b[fixed : fixed+size], true
}

func (e *Event) describeImage() string {
	name := imageNames[e.Type]
	path, ok := imagePath(e.Data)
	if !ok {
		return name + ", malformed: " + words(e.Data)
	}
	if file, device := filePath(path); file != "" {
		if device != "" {
			device = " on " + device
		}
		return name + " " + file + device
	}
	if s := devicePath(path); s != "" {
		return name + " " + s
	}
	return fmt.Sprintf("%s without a path, %d bytes", name, binary.LittleEndian.Uint64(e.Data[8:]))
}

// describeGPT reads a UEFI_GPT_DATA (section 10.2.8): a partition table header,
// a count, the entries.
func describeGPT(b []byte) string {
	const header = 92
	if len(b) < header+8 || string(b[:8]) != "EFI PART" {
		return "partition table, malformed"
	}
	disk := guid(b[56:72])
	size, count := uint64(binary.LittleEndian.Uint32(b[84:])), binary.LittleEndian.Uint64(b[header:])
	entries := b[header+8:]
	if size < 128 || count > uint64(len(entries))/size {
		return "partition table of disk " + disk.String() + ", malformed"
	}
	var names []string
	for range count {
		if len(names) == maxEntries {
			names = append(names, "…")
			break
		}
		name, ok := ucs2(entries[56:128])
		if !ok {
			name = guid(entries[16:32]).String()
		}
		names = append(names, clean(name))
		entries = entries[size:]
	}
	return fmt.Sprintf("partition table of disk %v: %s", disk, strings.Join(names, ", "))
}

var tableNames = map[string]string{
	"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS", "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3",
	"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2", "eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1",
}

// describeHandoff reads UEFI_HANDOFF_TABLE_POINTERS, with or without a
// description before it (sections 10.2.5 and 10.2.9).
func describeHandoff(t Type, b []byte) string {
	out := "handoff tables"
	if t == EFIHandoffTables2 {
		if len(b) < 1 || int(b[0]) > len(b)-1 {
			return out + ", malformed"
		}
		out += " " + words(b[1:1+int(b[0])])
		b = b[1+int(b[0]):]
	}
	const each = 24
	if len(b) < 8 || binary.LittleEndian.Uint64(b) > uint64(len(b)-8)/each {
		return out + ", malformed"
	}
	count := binary.LittleEndian.Uint64(b)
	var names []string
	for i := range min(count, maxEntries) {
		name := guid(b[8+i*each:][:16]).String()
		if n, ok := tableNames[name]; ok {
			name = n
		}
		names = append(names, name)
	}
	if count > maxEntries {
		names = append(names, "…")
	}
	return out + ": " + strings.Join(names, ", ")
}

// describePlatformID reads the beginning of a TCG_Sp800_155_PlatformId_Event
// (section 10.4.5.2).
func describePlatformID(b []byte) string {
	const fixed = 16 + 4 + 16
	if len(b) < fixed {
		return "platform identity (SP 800-155), malformed"
	}
	out := "platform identity (SP 800-155), manifest " + guid(b[20:36]).String()
	if b[15] == 0 || b[15] == ' ' { // the first form has nothing else
		return out
	}
	var names []string
	for b = b[fixed:]; len(names) < 3 && len(b) > 0 && int(b[0]) < len(b); b = b[1+int(b[0]):] {
		if s, ok := ascii(b[1 : 1+int(b[0])]); ok {
			names = append(names, clean(s))
		} else {
			names = append(names, "-")
		}
	}
	return out + ": " + strings.Join(names, ", ")
}

var spdmNames = map[Type]string{
	EFISPDMFirmwareBlob: "device firmware", EFISPDMFirmwareConfig: "device configuration",
	EFISPDMDevicePolicy: "device policy", EFISPDMDeviceAuthority: "device authority",
}

// describeSPDM reads the beginning of a TCG_DEVICE_SECURITY_EVENT_DATA (section
// 10.2.11), or the signature database of a device policy.
func describeSPDM(t Type, b []byte) string {
	name := spdmNames[t]
	if v, ok := parseVariable(b); ok && (t == EFISPDMDevicePolicy || t == EFISPDMDeviceAuthority) {
		return name + ": " + v.describe()
	}
	kinds := map[uint32]string{0: "", 1: " PCI", 2: " USB"}
	switch {
	case bytes.HasPrefix(b, []byte("SPDM Device Sec2")) && len(b) >= 44:
		const path = 44 // signature, version, state, length, type, sub header type, length, UID
		out := name + " measured over SPDM" + kinds[binary.LittleEndian.Uint32(b[24:])]
		if states := [...]string{"authenticated", "without authentication", "without binding", "signature missing", "signature invalid"}; int(b[18]) < len(states) {
			out += ", " + states[b[18]]
		}
		if len(b) >= path+8 {
			if n := binary.LittleEndian.Uint64(b[path:]); n <= uint64(len(b)-path-8) && n > 0 {
				out += ": " + devicePath(b[path+8:][:n])
			}
		}
		return out
	case bytes.HasPrefix(b, []byte("SPDM Device Sec")):
		return name + " measured over SPDM"
	}
	return name + ", " + plural(len(b), "byte", "bytes")
}
