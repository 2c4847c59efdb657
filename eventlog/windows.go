// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"fmt"
	"strings"
)

// The tags of the Windows boot configuration log (wbcl.h of the Windows SDK).
var sipaNames = map[uint32]string{
	0x40010001: "trust boundary", 0x40010002: "ELAM", 0x40010003: "loaded module", 0xc0010004: "trust point", 0x40010005: "KSR",
	0x40010006: "KSR signed measurement",
	0x00020001: "information", 0x00020002: "boot counter", 0x00020003: "transfer control", 0x00020004: "application return",
	0x00020005: "BitLocker unlock", 0x00020006: "event counter", 0x00020007: "counter id", 0x00020008: "MOR bit not cancelable",
	0x00020009: "application SVN", 0x0002000a: "SVN chain status", 0x0002000b: "MOR bit API status",
	0x00030001: "firmware failure", 0x00030002: "hash failure", 0x00030003: "internal failure",
	0x00040001: "boot debugging", 0x00040002: "boot revocation list",
	0x00050001: "kernel debugging", 0x00050002: "code integrity", 0x00050003: "test signing", 0x00050004: "data execution prevention",
	0x00050005: "safe mode", 0x00050006: "WinPE", 0x00050007: "physical address extension", 0x00050008: "OS device", 0x00050009: "system root",
	0x0005000a: "hypervisor launch", 0x0005000b: "hypervisor path", 0x0005000c: "hypervisor IOMMU policy", 0x0005000d: "hypervisor debugging",
	0x0005000e: "driver load policy", 0x0005000f: "system integrity policy", 0x00050010: "hypervisor MMIO NX policy",
	0x00050011: "hypervisor MSR filter policy", 0x00050012: "VSM launch", 0x00050013: "OS revocation list", 0x00050014: "SMT status",
	0x00050020: "VSM identity key", 0x00050021: "flight signing", 0x00050022: "page file encryption", 0x00050023: "VSM identity signing key",
	0x00050024: "hibernation disabled", 0x00050025: "dumps disabled", 0x00050026: "dump encryption", 0x00050027: "dump encryption key digest",
	0x00050028: "LSA isolation",
	0x00060001: "no authority", 0x00060002: "authority key",
	0x00070001: "file path", 0x00070002: "image size", 0x00070003: "hash algorithm", 0x00070004: "Authenticode hash", 0x00070005: "issuer",
	0x00070006: "serial number", 0x00070007: "image base", 0x00070008: "publisher", 0x00070009: "SHA-1 thumbprint",
	0x0007000a: "image validated", 0x0007000b: "module SVN",
	0x80080001: "quote", 0x80080002: "quote signature", 0x80080003: "AIK id", 0x80080004: "AIK digest",
	0x00090001: "ELAM key name", 0x00090002: "ELAM configuration", 0x00090003: "ELAM policy", 0x00090004: "ELAM measured",
	0x000a0001: "VSM required", 0x000a0002: "Secure Boot required", 0x000a0003: "IOMMU required", 0x000a0004: "NX required",
	0x000a0005: "MSR filtering required", 0x000a0006: "mandatory enforcement", 0x000a0007: "HVCI policy", 0x000a0008: "Microsoft boot chain required",
	0x000b0001: "KSR signature",
}

func isWindowsTag(b []byte) bool {
	id, _, _, ok := tagged(b)
	return ok && sipaNames[id] != ""
}

// describeTags names the tags of a Windows event and those directly inside its
// containers. It goes one container deep and no deeper, so that no log decides
// how much work this is.
func describeTags(b []byte) string {
	var out strings.Builder
	out.WriteString("Windows: ")
	named := 0
	for len(b) > 0 && named < maxEntries {
		id, data, rest, ok := tagged(b)
		if !ok {
			break
		}
		if named > 0 {
			out.WriteString(", ")
		}
		out.WriteString(sipaName(id))
		named++
		if id>>16&0xf == 1 {
			named += describeInside(&out, data, maxEntries-named)
		} else if len(data) == 1 {
			fmt.Fprintf(&out, " = %d", data[0])
		} else if s, ok := ucs2(data); ok && id != 0x00070004 {
			out.WriteString(" \"" + clean(s) + "\"")
		}
		b = rest
	}
	if len(b) > 0 {
		out.WriteString(", …")
	}
	return out.String()
}

func describeInside(out *strings.Builder, b []byte, most int) int {
	named := 0
	out.WriteString(" (")
	for len(b) > 0 && named < most {
		id, data, rest, ok := tagged(b)
		if !ok {
			break
		}
		if named > 0 {
			out.WriteString(", ")
		}
		out.WriteString(sipaName(id))
		if s, ok := ucs2(data); ok && (id == 0x00070001 || id == 0x00050008 || id == 0x00050009) {
			out.WriteString(" \"" + clean(s) + "\"")
		}
		named++
		b = rest
	}
	if len(b) > 0 {
		out.WriteString(", …")
	}
	out.WriteString(")")
	return named
}

func sipaName(id uint32) string {
	if name, ok := sipaNames[id]; ok {
		return name
	}
	return fmt.Sprintf("tag 0x%08x", id)
}
