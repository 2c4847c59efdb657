// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// devicePath writes a device path in the text of UEFI 2.10 section 10.6, or as
// much of it as there is: path nodes that are not known are numbers, and a path
// that breaks off says so. It is empty for an empty path.
func devicePath(b []byte) string {
	var out strings.Builder
	nodes := 0
	for len(b) > 0 {
		if len(b) < 4 {
			return out.String() + "…(malformed)"
		}
		kind, sub, size := b[0], b[1], int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return out.String() + "…(malformed)"
		}
		if nodes++; nodes > maxNodes {
			return out.String() + "…"
		}
		if kind == 0x7f {
			if sub == 0xff {
				return out.String()
			}
			out.WriteString(",") // the next of several paths
			b = b[size:]
			continue
		}
		if s := out.String(); s != "" && !strings.HasSuffix(s, ",") {
			out.WriteByte('/')
		}
		out.WriteString(pathNode(kind, sub, b[4:size]))
		b = b[size:]
	}
	return out.String()
}

// filePath returns the last file in a device path, such as
// \EFI\debian\shimx64.efi, and the path of the device before it.
func filePath(b []byte) (file, device string) {
	for at := 0; len(b)-at >= 4; {
		size := int(binary.LittleEndian.Uint16(b[at+2:]))
		if size < 4 || size > len(b)-at {
			break
		}
		if b[at] == 4 && b[at+1] == 4 {
			if name, ok := ucs2(b[at+4 : at+size]); ok {
				file, device = clean(name), devicePath(b[:at])
			}
		}
		at += size
	}
	return file, device
}

func pathNode(kind, sub byte, b []byte) string {
	var s string
	switch kind {
	case 1:
		s = hardwareNode(sub, b)
	case 2:
		s = acpiNode(sub, b)
	case 3:
		s = messagingNode(sub, b)
	case 4:
		s = mediaNode(sub, b)
	case 5:
		s = "BBS"
	}
	if s != "" {
		return s
	}
	return fmt.Sprintf("Path(%d,%d,%s)", kind, sub, hexadecimal(b))
}

func hardwareNode(sub byte, b []byte) string {
	switch {
	case sub == 1 && len(b) >= 2:
		return fmt.Sprintf("Pci(0x%x,0x%x)", b[1], b[0])
	case sub == 3 && len(b) >= 20:
		return fmt.Sprintf("MemoryMapped(%d,0x%x,0x%x)", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:]), binary.LittleEndian.Uint64(b[12:]))
	case sub == 4 && len(b) >= 16:
		return "VenHw(" + guid(b).String() + ")"
	case sub == 5 && len(b) >= 4:
		return fmt.Sprintf("Ctrl(0x%x)", binary.LittleEndian.Uint32(b))
	}
	return ""
}

func acpiNode(sub byte, b []byte) string {
	if sub != 1 && sub != 2 || len(b) < 8 {
		return ""
	}
	hid, uid := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if hid&0xffff != 0x41d0 { // "PNP", compressed
		return fmt.Sprintf("Acpi(0x%08x,0x%x)", hid, uid)
	}
	switch hid >> 16 {
	case 0x0a03:
		return fmt.Sprintf("PciRoot(0x%x)", uid)
	case 0x0a08:
		return fmt.Sprintf("PcieRoot(0x%x)", uid)
	case 0x0604:
		return fmt.Sprintf("Floppy(0x%x)", uid)
	}
	return fmt.Sprintf("Acpi(PNP%04X,0x%x)", hid>>16, uid)
}

func messagingNode(sub byte, b []byte) string {
	le := binary.LittleEndian
	switch {
	case sub == 1 && len(b) >= 4:
		return fmt.Sprintf("Ata(%d,%d,0x%x)", b[0], b[1], le.Uint16(b[2:]))
	case sub == 2 && len(b) >= 4:
		return fmt.Sprintf("Scsi(0x%x,0x%x)", le.Uint16(b), le.Uint16(b[2:]))
	case sub == 3 && len(b) >= 20:
		return fmt.Sprintf("Fibre(0x%x,0x%x)", le.Uint64(b[4:]), le.Uint64(b[12:]))
	case sub == 5 && len(b) >= 2:
		return fmt.Sprintf("USB(0x%x,0x%x)", b[0], b[1])
	case sub == 10 && len(b) >= 16:
		return "VenMsg(" + guid(b).String() + ")"
	case sub == 11 && len(b) >= 33:
		return fmt.Sprintf("MAC(%x,0x%x)", b[:6], b[32])
	case sub == 12 && len(b) >= 8:
		return "IPv4(" + netip.AddrFrom4([4]byte(b[4:8])).String() + ")"
	case sub == 13 && len(b) >= 32:
		return "IPv6(" + netip.AddrFrom16([16]byte(b[16:32])).String() + ")"
	case sub == 17 && len(b) >= 1:
		return fmt.Sprintf("Unit(%d)", b[0])
	case sub == 18 && len(b) >= 6:
		return fmt.Sprintf("Sata(0x%x,0x%x,0x%x)", le.Uint16(b), le.Uint16(b[2:]), le.Uint16(b[4:]))
	case sub == 19:
		return "iSCSI"
	case sub == 20 && len(b) >= 2:
		return fmt.Sprintf("Vlan(%d)", le.Uint16(b))
	case sub == 23 && len(b) >= 12:
		e := b[4:12]
		return fmt.Sprintf("NVMe(0x%x,%02X-%02X-%02X-%02X-%02X-%02X-%02X-%02X)", le.Uint32(b), e[7], e[6], e[5], e[4], e[3], e[2], e[1], e[0])
	case sub == 24:
		return "Uri(" + clean(string(b)) + ")"
	case sub == 25 && len(b) >= 2:
		return fmt.Sprintf("UFS(0x%x,0x%x)", b[0], b[1])
	case sub == 26 && len(b) >= 1:
		return fmt.Sprintf("SD(0x%x)", b[0])
	case sub == 28:
		return "Wi-Fi(" + words(b) + ")"
	case sub == 29 && len(b) >= 1:
		return fmt.Sprintf("eMMC(0x%x)", b[0])
	case sub == 31:
		return "Dns"
	}
	return ""
}

func mediaNode(sub byte, b []byte) string {
	le := binary.LittleEndian
	switch {
	case sub == 1 && len(b) >= 38:
		return hardDrive(b)
	case sub == 2 && len(b) >= 4:
		return fmt.Sprintf("CDROM(0x%x)", le.Uint32(b))
	case sub == 3 && len(b) >= 16:
		return "VenMedia(" + guid(b).String() + ")"
	case sub == 4:
		if name, ok := ucs2(b); ok {
			return clean(name)
		}
	case sub == 5 && len(b) >= 16:
		return "Media(" + guid(b).String() + ")"
	case sub == 6 && len(b) >= 16:
		return "FvFile(" + guid(b).String() + ")"
	case sub == 7 && len(b) >= 16:
		return "Fv(" + guid(b).String() + ")"
	case sub == 8 && len(b) >= 20:
		return fmt.Sprintf("Offset(0x%x,0x%x)", le.Uint64(b[4:]), le.Uint64(b[12:]))
	case sub == 9 && len(b) >= 16:
		return fmt.Sprintf("RamDisk(0x%x,0x%x)", le.Uint64(b), le.Uint64(b[8:]))
	}
	return ""
}

func hardDrive(b []byte) string {
	number := binary.LittleEndian.Uint32(b)
	switch b[37] {
	case 1:
		return fmt.Sprintf("HD(%d,MBR,0x%08x)", number, binary.LittleEndian.Uint32(b[20:]))
	case 2:
		return fmt.Sprintf("HD(%d,GPT,%s)", number, guid(b[20:36]))
	}
	return fmt.Sprintf("HD(%d,%d)", number, b[37])
}
