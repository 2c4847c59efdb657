// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/jurat-dev/jurat/eventlog"
)

func tag(id int, data []byte) []byte { return join(le32(id), le32(len(data)), data) }

func node(kind, sub byte, data ...[]byte) []byte {
	body := join(data...)
	return join([]byte{kind, sub}, le16(4+len(body)), body)
}

func load(path []byte) []byte { return join(le64(0), le64(512), le64(0), le64(len(path)), path) }

var end = []byte{0x7f, 0xff, 4, 0}

func option(name string, path, options []byte) []byte {
	return join(le32(1), le16(len(path)), wide(name+"\x00"), path, options)
}

func gpt(names ...string) []byte {
	head := join([]byte("EFI PART"), make([]byte, 76), le32(128), le32(0))
	out := join(head, le64(len(names)))
	for _, n := range names {
		entry := make([]byte, 128)
		copy(entry[56:], wide(n))
		out = join(out, entry)
	}
	return out
}

var described = []struct {
	name string
	e    entry
	want string
}{
	{"version in UTF-16", entry{0, eventlog.SCRTMVersion, wide("N40ET41W\x00"), nil, nil}, `firmware (S-CRTM) version "N40ET41W"`},
	{"version as GUID", entry{0, eventlog.SCRTMVersion, append([]byte{0x1e, 0xfb}, make([]byte, 14)...), nil, nil}, "firmware (S-CRTM) version 0000fb1e-0000-0000-0000-000000000000"},
	{"POST code", entry{0, eventlog.POSTCode, text("ACPI DATA"), text("x"), nil}, `firmware code: "ACPI DATA"`},
	{"blob", entry{0, eventlog.EFIPlatformFirmwareBlob, join(le64(0x820000), le64(0xe0000)), text("x"), nil}, "firmware volume: 917504 bytes at 0x820000"},
	{"blob 2", entry{0, eventlog.EFIPlatformFirmwareBlob2, join([]byte{4}, text("main"), le64(16), le64(8)), text("x"), nil}, `firmware volume "main": 8 bytes at 0x10`},
	{"S-CRTM contents", entry{0, eventlog.SCRTMContents, text("Boot Guard Measured S-CRTM\x00"), text("x"), nil}, `S-CRTM contents: "Boot Guard Measured S-CRTM"`},
	{"microcode", entry{1, eventlog.CPUMicrocode, text("revision 1\x00"), text("x"), nil}, `CPU microcode: "revision 1"`},
	{"non-host", entry{0, eventlog.NonhostInfo, text("GCE NonHostInfo\x00"), nil, nil}, `information outside the host CPU: "GCE NonHostInfo"`},
	{"H-CRTM", entry{0, eventlog.EFIHCRTMEvent, text("HCRTM"), text("x"), nil}, "H-CRTM: code measured before the CPU started"},
	{"locality", locality(3), "TPM started at locality 03"},
	{"SP 800-155", entry{0, eventlog.NoAction, join(text("SP800-155 Event3"), le32(11129), make([]byte, 16), []byte{7}, text("Google\x00"), []byte{4}, text("GCE\x00"), []byte{2}, text("1\x00")), nil, nil},
		"platform identity (SP 800-155), manifest 00000000-0000-0000-0000-000000000000: Google, GCE, 1"},
	{"SP 800-155, first form", entry{0, eventlog.NoAction, join(text("SP800-155 Event\x00"), le32(1), make([]byte, 16)), nil, nil}, "platform identity (SP 800-155), manifest 00000000-0000-0000-0000-000000000000"},
	{"boot order", entry{1, eventlog.EFIVariableBoot, variable(global, "BootOrder", []byte{1, 0, 0x1f, 0}), nil, nil}, "boot order 0001, 001F"},
	{"boot option", entry{1, eventlog.EFIVariableBoot, variable(global, "Boot0001", option("debian", join(node(4, 1, le32(1), le64(2), le64(3), make([]byte, 16), []byte{2, 2}), node(4, 4, wide("\\EFI\\x.efi\x00")), end), wide("quiet\x00"))), nil, nil},
		`boot option Boot0001: "debian" HD(1,GPT,00000000-0000-0000-0000-000000000000)/\EFI\x.efi, with options "quiet"`},
	{"inactive option", entry{1, eventlog.EFIVariableBoot, variable(global, "Boot00AB", join(le32(0), le16(0), wide("x\x00"))), nil, nil}, `boot option Boot00AB: "x", inactive`},
	{"broken option", entry{1, eventlog.EFIVariableBoot, variable(global, "Boot0001", join(le32(1), le16(900), wide("x\x00"))), nil, nil}, `boot option Boot0001: "x", malformed`},
	{"SecureBoot", entry{7, eventlog.EFIVariableDriverConfig, variable(global, "SecureBoot", []byte{0}), nil, nil}, "variable SecureBoot = 0 (off)"},
	{"dbx", entry{7, eventlog.EFIVariableDriverConfig, variable(security, "dbx", signatureList(hashType, make([]byte, 32))), nil, nil}, "variable dbx: 1 entry"},
	{"empty db", entry{7, eventlog.EFIVariableDriverConfig, variable(security, "db", nil), nil, nil}, "variable db: empty"},
	{"broken variable", entry{7, eventlog.EFIVariableDriverConfig, []byte{1}, nil, nil}, "malformed variable, 1 byte"},
	{"authority by hash", entry{7, eventlog.EFIVariableAuthority, variable(security, "db", join(make([]byte, 16), make([]byte, 32))), nil, nil}, "image authorised by its hash " + strings.Repeat("00", 32) + " in db"},
	{"SbatLevel", entry{7, eventlog.EFIVariableAuthority, variable(shim, "SbatLevel", text("sbat,1,2023\n")), nil, nil}, `shim setting SbatLevel = "sbat,1,2023 "`},
	{"application", entry{4, eventlog.EFIBootServicesApplication, image(`\EFI\BOOT\BOOTX64.EFI`), text("x"), nil}, `boot application \EFI\BOOT\BOOTX64.EFI`},
	{"application from firmware", entry{4, eventlog.EFIBootServicesApplication, load(join(node(4, 7, make([]byte, 16)), end)), text("x"), nil}, "boot application Fv(00000000-0000-0000-0000-000000000000)"},
	{"application from nowhere", entry{4, eventlog.EFIBootServicesApplication, load(nil), text("x"), nil}, "boot application without a path, 512 bytes"},
	{"application with a broken path", entry{4, eventlog.EFIBootServicesApplication, join(make([]byte, 24), le64(99)), text("x"), nil}, "boot application, malformed: " + strings.Repeat("0", 32) + "… (32 bytes)"},
	{"runtime driver", entry{2, eventlog.EFIRuntimeServicesDriver, image("x.efi"), text("x"), nil}, "runtime driver x.efi"},
	{"partition table", entry{5, eventlog.EFIGPTEvent, gpt("EFI System", "root"), nil, nil}, "partition table of disk 00000000-0000-0000-0000-000000000000: EFI System, root"},
	{"partition table that lies", entry{5, eventlog.EFIGPTEvent, join(gpt()[:92], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), nil, nil}, "partition table of disk 00000000-0000-0000-0000-000000000000, malformed"},
	{"handoff", entry{1, eventlog.EFIHandoffTables, join(le64(1), []byte{0x44, 0x15, 0xfd, 0xf2, 0x94, 0x97, 0x2c, 0x4a, 0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94}, le64(0)), text("x"), nil}, "handoff tables: SMBIOS 3"},
	{"handoff that lies", entry{1, eventlog.EFIHandoffTables, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, text("x"), nil}, "handoff tables, malformed"},
	{"handoff 2", entry{1, eventlog.EFIHandoffTables2, join([]byte{4}, text("acpi"), le64(0)), text("x"), nil}, `handoff tables "acpi": `},
	{"GRUB command", entry{8, eventlog.IPL, text("grub_cmd: set pager=1\x00"), nil, nil}, `GRUB command: "set pager=1"`},
	{"GRUB command line", entry{8, eventlog.IPL, text("kernel_cmdline: /v quiet\x00"), nil, nil}, `kernel command line (GRUB): "/v quiet"`},
	{"old GRUB command line", entry{8, eventlog.IPL, text("grub_kernel_cmdline /v quiet\x00"), nil, nil}, `kernel command line (GRUB): "/v quiet"`},
	{"GRUB module", entry{8, eventlog.IPL, text("module_cmdline: /m\x00"), nil, nil}, `module command line (GRUB): "/m"`},
	{"GRUB file", entry{9, eventlog.IPL, text("(hd0,gpt1)/grub.cfg\x00"), text("x"), nil}, "file read by GRUB: (hd0,gpt1)/grub.cfg"},
	{"shim", entry{14, eventlog.IPL, text("MokList\x00"), text("x"), nil}, "shim: keys of the machine's owner (MokList)"},
	{"UKI section name", entry{11, eventlog.IPL, wide(".linux\x00"), text(".linux\x00"), nil}, "UKI section name .linux"},
	{"UKI section data", entry{11, eventlog.IPL, wide(".linux\x00"), text("MZ"), nil}, "UKI section data of .linux"},
	{"systemd-stub", entry{12, eventlog.IPL, wide("Credentials initrd\x00"), text("x"), nil}, "systemd-stub: Credentials initrd"},
	{"sysext", entry{13, eventlog.IPL, wide("System extension initrd\x00"), text("x"), nil}, "systemd-stub: System extension initrd"},
	{"systemd command line", entry{12, eventlog.IPL, wide("quiet\x00"), wide("quiet"), nil}, `kernel command line (systemd): "quiet"`},
	{"EFI stub options", entry{9, eventlog.EventTag, tag(0x8f3b22ed, text("LOADED_IMAGE::LoadOptions\x00")), text("x"), nil}, "kernel command line given to the Linux EFI stub"},
	{"EFI stub initrd", entry{9, eventlog.EventTag, tag(0x8f3b22ec, text("Linux initrd\x00")), text("x"), nil}, "initrd loaded by the Linux EFI stub"},
	{"loader.conf", entry{5, eventlog.EventTag, tag(0xf5bc582a, wide("loader.conf\x00")), text("x"), nil}, `systemd-boot configuration "loader.conf"`},
	{"strange tag", entry{9, eventlog.EventTag, tag(0x12345678, []byte{1, 2}), nil, nil}, "tagged event 0x12345678: 0102"},
	{"broken tag", entry{9, eventlog.EventTag, []byte{1, 2}, nil, nil}, "tagged event, malformed: 0102"},
	{"Windows", entry{12, eventlog.EventTag, tag(0x40010001, join(tag(0x50001, []byte{0}), tag(0x99, nil))), nil, nil}, "Windows: trust boundary (kernel debugging, tag 0x00000099)"},
	{"Windows setting", entry{12, eventlog.EventTag, tag(0x50003, []byte{1}), nil, nil}, "Windows: test signing = 1"},
	{"SPDM", entry{2, eventlog.EFISPDMFirmwareBlob, join(text("SPDM Device Sec2"), le16(2), []byte{1, 0}, le32(0), le32(1), le32(0), le32(0), le64(0)), nil, nil}, "device firmware measured over SPDM PCI, without authentication"},
	{"vendor", entry{0, eventlog.Type(0x8401), []byte{1, 2, 3}, nil, nil}, "unknown type 0x00008401, 3 bytes"},
	{"omitted devices", entry{4, eventlog.OmitBootDeviceEvents, text("BOOT ATTEMPTS OMITTED"), nil, nil}, `boot devices are not measured: "BOOT ATTEMPTS OMITTED"`},
	{"control characters", entry{1, eventlog.PlatformConfigFlags, text("a\nb"), nil, nil}, `platform configuration: "a b"`},
	{"escape sequence", entry{8, eventlog.IPL, text("grub_cmd: \x1b[2J\x00"), nil, nil}, "GRUB command: \"\ufffd[2J\""},
}

func TestDescribe(t *testing.T) {
	for _, x := range described {
		t.Run(x.name, func(t *testing.T) {
			l := (&builder{banks: []eventlog.Algorithm{eventlog.SHA256}, entries: []entry{x.e}}).parse(t)
			if got := l.Events[1].Describe(); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		})
	}
}

// TestDescribeIsClean: no event, cut anywhere or filled with anything, is
// described with a character that moves a terminal, or at length.
func TestDescribeIsClean(t *testing.T) {
	for _, x := range described {
		for n := range len(x.e.data) {
			for _, fill := range []byte{0, 0x1b, 0xff, 'A'} {
				e := x.e
				e.data = append(append([]byte{}, x.e.data[:n]...), fill, fill, fill, fill, fill, fill, fill, fill, fill, fill)
				l := (&builder{banks: []eventlog.Algorithm{eventlog.SHA256}, entries: []entry{e}}).parse(t)
				got := l.Events[1].Describe()
				if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != unicode.ReplacementChar }) || len([]rune(got)) > 500 || got == "" {
					t.Fatalf("%s, %d bytes: %q", x.name, n, got)
				}
			}
		}
	}
}

func TestDevicePath(t *testing.T) {
	mac := append([]byte{1, 2, 3, 4, 5, 6}, make([]byte, 27)...)
	for want, nodes := range map[string][]byte{
		"PciRoot(0x0)/Pci(0x1f,0x2)/Sata(0x1,0xffff,0x0)":             join(node(2, 1, le32(0x0a0341d0), le32(0)), node(1, 1, []byte{2, 0x1f}), node(3, 18, le16(1), le16(0xffff), le16(0))),
		"PcieRoot(0x2)/Scsi(0x1,0x2)":                                 join(node(2, 1, le32(0x0a0841d0), le32(2)), node(3, 2, le16(1), le16(2))),
		"Acpi(PNP0501,0x1)/USB(0x3,0x1)":                              join(node(2, 1, le32(0x050141d0), le32(1)), node(3, 5, []byte{3, 1})),
		"NVMe(0x1,01-02-03-04-05-06-07-08)":                           node(3, 23, le32(1), []byte{8, 7, 6, 5, 4, 3, 2, 1}),
		"MAC(010203040506,0x0)/IPv4(10.0.0.1)/Uri(http://x/y)":        join(node(3, 11, mac), node(3, 12, make([]byte, 4), []byte{10, 0, 0, 1}, make([]byte, 15)), node(3, 24, text("http://x/y"))),
		"HD(3,MBR,0xdeadbeef)/CDROM(0x1)":                             join(node(4, 1, le32(3), le64(0), le64(0), le32(0xdeadbeef), make([]byte, 12), []byte{1, 1}), node(4, 2, le32(1), le64(0), le64(0))),
		"MemoryMapped(11,0x1000,0x2000)":                              node(1, 3, le32(11), le64(0x1000), le64(0x2000)),
		"Path(9,9,0102)":                                              node(9, 9, []byte{1, 2}),
		"Path(3,18,01)":                                               node(3, 18, []byte{1}),
		"USB(0x1,0x1),USB(0x2,0x2)":                                   join(node(3, 5, []byte{1, 1}), []byte{0x7f, 1, 4, 0}, node(3, 5, []byte{2, 2})),
		"USB(0x1,0x1)…(malformed)":                                    join(node(3, 5, []byte{1, 1}), []byte{1, 1, 0, 0}),
		strings.TrimSuffix(strings.Repeat("Unit(0)/", 32), "/") + "…": []byte(strings.Repeat(string(node(3, 17, []byte{0})), 40)),
	} {
		l := (&builder{entries: []entry{{pcr: 4, kind: eventlog.EFIBootServicesApplication, data: load(nodes)}}}).parse(t)
		if got := l.Events[0].Describe(); got != "boot application "+want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestCovered: words that a digest bears out are told from words it does not.
func TestCovered(t *testing.T) {
	for i, want := range []bool{false, true, false, true, true, true, true, true, true, true, true, true, true, true, true, true, true, true, false, true, false, true, true, true} {
		l := goodBoot().parse(t)
		if got := l.Events[i].Covered(); got != want {
			t.Errorf("event %d (%s): covered %v", i, l.Events[i].Describe(), got)
		}
	}
	for name, e := range map[string]entry{
		"old shim":                   {7, eventlog.EFIVariableAuthority, append(variable(shim, "Shim", text("key")), 0, 0xaf), append(variable(shim, "Shim", text("key")), 0), nil},
		"boot variable, data only":   {1, eventlog.EFIVariableBoot, variable(global, "BootOrder", []byte{1, 0}), []byte{1, 0}, nil},
		"GRUB with the zero":         {8, eventlog.IPL, text("grub_cmd: x\x00"), text("x\x00"), nil},
		"systemd with the zero":      {12, eventlog.IPL, wide("quiet\x00"), wide("quiet\x00"), nil},
		"systemd without the zero":   {12, eventlog.IPL, wide("quiet\x00"), wide("quiet"), nil},
		"systemd, cut by one byte":   {8, eventlog.IPL, wide("quiet\x00")[:11], wide("quiet\x00"), nil},
		"tag, data only":             {9, eventlog.EventTag, tag(1, text("data")), text("data"), nil},
		"action with the zero":       {5, eventlog.EFIAction, text("Exit\x00"), text("Exit"), nil},
		"name of a section of a UKI": {11, eventlog.IPL, wide(".osrel\x00"), text(".osrel\x00"), nil},
	} {
		l := (&builder{banks: []eventlog.Algorithm{eventlog.SHA256, eventlog.SM3}, entries: []entry{e}}).parse(t)
		if !l.Events[1].Covered() {
			t.Errorf("%s is not covered", name)
		}
	}
}

func TestCommandLines(t *testing.T) {
	l := goodBoot().add(
		entry{12, eventlog.IPL, wide("console=ttyS0\x00"), wide("console=ttyS0"), nil},
		entry{8, eventlog.IPL, wide("quiet splash\x00"), wide("quiet splash\x00"), nil}, // systemd-boot before 251
		entry{12, eventlog.IPL, wide("Credentials initrd\x00"), text("x"), nil},
		entry{8, eventlog.IPL, text("grub_cmd: linux /other\x00"), text("linux /other"), nil},
		entry{9, eventlog.IPL, text("kernel_cmdline: elsewhere\x00"), text("elsewhere"), nil},
		entry{8, eventlog.IPL, text("kernel_cmdline: /vmlinuz quiet\x00"), text("/vmlinuz quiet"), nil}, // again
	).parse(t)
	if got, want := fmt.Sprintf("%q", l.KernelCommandLines()), `["/vmlinuz quiet" "console=ttyS0" "quiet splash"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
