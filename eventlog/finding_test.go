// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
)

func codes(l *eventlog.Log) []string {
	var out []string
	for _, f := range l.Findings() {
		if !slices.Contains(out, f.Code) {
			out = append(out, f.Code)
		}
	}
	slices.Sort(out)
	return out
}

// TestGoodBoot: an honest log has no findings, or the rules are noise.
func TestGoodBoot(t *testing.T) {
	l := goodBoot().parse(t)
	if f := l.Findings(); len(f) > 0 {
		t.Errorf("findings %+v", f)
	}
	if state, why := l.SecureBoot(); state != eventlog.SecureBootOn {
		t.Errorf("Secure Boot %s: %s", state, why)
	}
	if ok, why := l.KernelMeasured(); !ok || !strings.Contains(why, `\EFI\debian\grubx64.efi`) {
		t.Errorf("kernel measured: %v, %s", ok, why)
	}
	if lines := l.KernelCommandLines(); !slices.Equal(lines, []string{"/vmlinuz quiet"}) {
		t.Errorf("command lines %q", lines)
	}
}

var flagged = eventlog.Type(0x8401)

func locality(value byte) entry {
	return entry{pcr: 0, kind: eventlog.NoAction, data: append([]byte("StartupLocality\x00"), value)}
}

// forgeries are logs with one thing wrong, and exactly the codes that this gives.
var forgeries = []struct {
	name  string
	build func() *builder
	state eventlog.SecureBoot // empty: on
	codes []string
}{
	{"no separator", func() *builder { return goodBoot().remove(atSeparator4 + 1) }, "", []string{"separator-missing"}},
	{"no separator in PCR 7", func() *builder { return goodBoot().remove(atSeparator7) }, "unknown", []string{"secure-boot-unknown", "separator-missing"}},
	{"two separators", func() *builder { return goodBoot().insert(atSeparator4, separator(2)) }, "", []string{"separator-twice"}},
	{"two separators in PCR 7", func() *builder { return goodBoot().insert(atSeparator4, separator(7)) }, "unknown", []string{"secure-boot-unknown", "separator-twice"}},
	{"error separator", func() *builder {
		return goodBoot().change(atSeparator4, func(e *entry) { e.data = bytes.Repeat([]byte{0xff}, 4) })
	}, "", []string{"separator-error"}},
	{"strange separator", func() *builder { return goodBoot().change(atSeparator4, func(e *entry) { e.data = []byte("WBCL") }) }, "", []string{"separator-value"}},
	{"error separator in PCR 7", func() *builder {
		return goodBoot().change(atSeparator7, func(e *entry) { e.data = bytes.Repeat([]byte{0xff}, 4) })
	}, "unknown", []string{"secure-boot-unknown", "separator-error"}},
	{"separator digest, other type", func() *builder {
		return goodBoot().insert(atSeparator4, entry{pcr: 2, kind: eventlog.EFIBootServicesDriver, data: image("x"), of: make([]byte, 4)})
	}, "", []string{"separator-type"}},
	{"separator by name only", func() *builder { return goodBoot().change(atSeparator4, func(e *entry) { e.of = text("grub") }) }, "", []string{"digest-mismatch"}},
	{"firmware after its separator", func() *builder {
		return goodBoot().add(entry{pcr: 0, kind: eventlog.EFIPlatformFirmwareBlob, data: join(le64(1), le64(2)), of: text("x")})
	}, "", []string{"after-separator"}},
	{"separator of PCR 7 by name only", func() *builder { return goodBoot().change(atSeparator7, func(e *entry) { e.of = text("x") }) }, "unknown",
		[]string{"digest-mismatch", "secure-boot-unknown"}},
	{"SecureBoot only after the separator", func() *builder {
		return goodBoot().remove(atSecureBoot).add(entry{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "SecureBoot", []byte{1})})
	}, "unknown", []string{"secure-boot-unknown", "secure-boot-variable-late", "secure-boot-variable-missing"}},
	{"debug mode after the separator", func() *builder {
		return goodBoot().add(entry{pcr: 7, kind: eventlog.EFIAction, data: text("UEFI Debug Mode")})
	}, "unknown",
		[]string{"after-separator", "debug-mode", "secure-boot-unknown"}},
	{"strange event in PCR 7", func() *builder {
		return goodBoot().insert(2, entry{pcr: 7, kind: eventlog.EventTag, data: make([]byte, 8)})
	}, "unknown",
		[]string{"secure-boot-unknown"}},
	{"unknown event in PCR 7 after the separator", func() *builder { return goodBoot().add(entry{pcr: 7, kind: eventlog.EventTag, data: make([]byte, 8)}) }, "", []string{"after-separator"}},
	{"variable says what was not measured", func() *builder {
		return goodBoot().change(atDB, func(e *entry) { e.of = text("another db") })
	}, "unknown", []string{"digest-mismatch", "secure-boot-unknown"}},
	{"SecureBoot 0 shown as 1", func() *builder {
		return goodBoot().change(atSecureBoot, func(e *entry) { e.of = variable(global, "SecureBoot", []byte{0}) })
	}, "unknown", []string{"digest-mismatch", "secure-boot-unknown"}},
	{"one bank of a variable differs", func() *builder {
		b := goodBoot()
		b.banks = []eventlog.Algorithm{eventlog.SHA256, eventlog.SHA384}
		e := b.entries[atSecureBoot]
		e.only, e.of = []eventlog.Algorithm{eventlog.SHA384}, text("x")
		b.entries[atSecureBoot].only = []eventlog.Algorithm{eventlog.SHA256}
		return b.insert(atSecureBoot, e)
	}, "unknown", []string{"bank-coverage", "digest-mismatch", "secure-boot-unknown", "secure-boot-variable-twice"}},
	{"action says what was not measured", func() *builder {
		return goodBoot().change(8, func(e *entry) { e.of = text("UEFI Debug Mode") })
	}, "", []string{"digest-mismatch"}},
	{"version says what was not measured", func() *builder { return goodBoot().change(0, func(e *entry) { e.of = text("old") }) }, "", []string{"digest-mismatch"}},
	{"partition table says what was not measured", func() *builder {
		return goodBoot().insert(atImage, entry{pcr: 5, kind: eventlog.EFIGPTEvent, data: text("EFI PART"), of: text("x")})
	}, "", []string{"digest-mismatch"}},
	{"boot order says what was not measured", func() *builder {
		return goodBoot().insert(8, entry{pcr: 1, kind: eventlog.EFIVariableBoot, data: variable(global, "BootOrder", []byte{1, 0}), of: text("x")})
	}, "", []string{"digest-mismatch"}},
	{"GRUB command says what was not measured", func() *builder { return goodBoot().change(18, func(e *entry) { e.of = text("insmod evil") }) }, "", []string{"digest-mismatch"}},
	{"authority says what was not measured", func() *builder { return goodBoot().change(atAuthority, func(e *entry) { e.of = text("x") }) }, "unknown", []string{"digest-mismatch", "secure-boot-unknown"}},
	{"second SecureBoot", func() *builder {
		return goodBoot().insert(atSeparator7, entry{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "SecureBoot", []byte{0})})
	}, "unknown", []string{"secure-boot-unknown", "secure-boot-variable-twice"}},
	{"SecureBoot after the separator", func() *builder {
		return goodBoot().change(atSecureBoot, func(e *entry) { e.data[len(e.data)-1] = 0 }).
			add(entry{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(global, "SecureBoot", []byte{1})})
	}, "unknown", []string{"secure-boot-unknown", "secure-boot-variable-late", "secure-boot-variable-twice"}},
	{"another variable after the separator", func() *builder {
		return goodBoot().add(entry{pcr: 7, kind: eventlog.EFIVariableDriverConfig, data: variable(shim, "Other", []byte{1})})
	}, "", []string{"after-separator"}},
	{"db missing", func() *builder { return goodBoot().remove(atDB) }, "unknown", []string{"secure-boot-unknown", "secure-boot-variable-missing"}},
	{"SecureBoot empty", func() *builder {
		return goodBoot().change(atSecureBoot, func(e *entry) { e.data = variable(global, "SecureBoot", nil) })
	}, "unknown", []string{"secure-boot-unknown"}},
	{"SecureBoot 2", func() *builder { return goodBoot().change(atSecureBoot, func(e *entry) { e.data[len(e.data)-1] = 2 }) }, "unknown", []string{"secure-boot-unknown"}},
	{"SecureBoot of another owner", func() *builder {
		return goodBoot().change(atSecureBoot, func(e *entry) { e.data = variable(shim, "SecureBoot", []byte{1}) })
	}, "unknown", []string{"secure-boot-unknown", "secure-boot-variable-missing"}},
	{"db malformed", func() *builder {
		return goodBoot().change(atDB, func(e *entry) { e.data = variable(security, "db", []byte("nothing of the kind")) })
	}, "unknown", []string{"secure-boot-unknown"}},
	{"no platform key", func() *builder {
		return goodBoot().change(atSecureBoot+1, func(e *entry) { e.data = variable(global, "PK", nil) })
	}, "unknown", []string{"secure-boot-unknown"}},
	{"variable malformed", func() *builder { return goodBoot().change(atDB, func(e *entry) { e.data = e.data[:20] }) }, "unknown",
		[]string{"secure-boot-unknown", "secure-boot-variable-missing", "variable-malformed"}},
	{"variable renamed by its type", func() *builder { return goodBoot().change(atSecureBoot, func(e *entry) { e.kind = eventlog.Unused }) }, "unknown",
		[]string{"secure-boot-unknown", "secure-boot-variable-missing", "type-flip", "type-reserved"}},
	{"variable of an unknown type", func() *builder { return goodBoot().change(atDB, func(e *entry) { e.kind = flagged }) }, "unknown",
		[]string{"secure-boot-unknown", "secure-boot-variable-missing", "type-flip", "type-unknown"}},
	{"debug mode", func() *builder {
		return goodBoot().insert(2, entry{pcr: 7, kind: eventlog.EFIAction, data: text("UEFI Debug Mode")})
	}, "unknown",
		[]string{"debug-mode", "secure-boot-unknown"}},
	{"nothing authorised", func() *builder { return goodBoot().remove(atAuthority) }, "", []string{"secure-boot-nothing-authorised"}},
	{"only a setting of shim", func() *builder {
		return goodBoot().change(atAuthority, func(e *entry) { e.data = variable(shim, "SbatLevel", text("sbat,1,2023012900\n")) })
	}, "", []string{"secure-boot-nothing-authorised"}},
	{"kernel handed over by somebody else", func() *builder {
		b := goodBoot()
		b.entries = append(b.entries[:atAuthority:atAuthority], b.entries[atExit-1:]...)
		return b
	}, "", []string{"kernel-unmeasured", "secure-boot-nothing-authorised"}},
	{"key of the owner", func() *builder {
		return goodBoot().add(entry{pcr: 7, kind: eventlog.EFIVariableAuthority, data: variable(shim, "MokListRT", text("key"))})
	}, "", []string{"mok-authority"}},
	{"shim does not validate", func() *builder {
		return goodBoot().add(entry{pcr: 7, kind: eventlog.EFIVariableAuthority, data: variable(shim, "MokSBState", []byte{1})})
	}, "", []string{"shim-validation-off"}},
	{"locality 5", func() *builder { return goodBoot().insert(0, locality(5)) }, "", []string{"locality-value"}},
	{"locality without value", func() *builder {
		return goodBoot().insert(0, entry{pcr: 0, kind: eventlog.NoAction, data: []byte("StartupLocality\x00")})
	}, "", []string{"locality-value"}},
	{"two localities", func() *builder { return goodBoot().insert(0, locality(3), locality(4)) }, "", []string{"locality-twice"}},
	{"late locality", func() *builder { return goodBoot().insert(1, locality(3)) }, "", []string{"locality-late"}},
	{"late H-CRTM", func() *builder {
		return goodBoot().insert(1, entry{pcr: 0, kind: eventlog.EFIHCRTMEvent, data: text("HCRTM"), of: text("x")})
	}, "", []string{"hcrtm-order"}},
	{"H-CRTM and locality 0", func() *builder {
		return goodBoot().insert(0, locality(0), entry{pcr: 0, kind: eventlog.EFIHCRTMEvent, data: text("HCRTM"), of: text("x")})
	}, "", []string{"hcrtm-locality"}},
	{"two command lines", func() *builder {
		return goodBoot().add(entry{pcr: 8, kind: eventlog.IPL, data: text("kernel_cmdline: /vmlinuz init=/bin/sh\x00"), of: text("/vmlinuz init=/bin/sh")})
	}, "", []string{"kernel-cmdline-several"}},
	{"command line shown that was not measured", func() *builder {
		return goodBoot().change(atLine, func(e *entry) { e.of = text("/vmlinuz init=/bin/sh") })
	}, "", []string{"digest-mismatch"}},
	{"command line of systemd that was not measured", func() *builder {
		return goodBoot().add(entry{pcr: 12, kind: eventlog.IPL, data: wide("quiet\x00"), of: wide("init=/bin/sh")})
	}, "", []string{"kernel-cmdline-uncovered"}},
	{"archive that systemd-stub made, which is nothing odd", func() *builder {
		return goodBoot().add(entry{pcr: 12, kind: eventlog.IPL, data: wide("Credentials initrd\x00"), of: text("an archive")})
	}, "", nil},
	{"command line hidden by its type", func() *builder { return goodBoot().change(atLine, func(e *entry) { e.kind = eventlog.EventTag }) }, "", []string{"type-flip"}},
	{"no end of boot services", func() *builder { return goodBoot().remove(atExit).remove(atExit - 1) }, "", []string{"ebs-missing"}},
	{"half an end of boot services", func() *builder { return goodBoot().remove(atExit) }, "", []string{"ebs-incomplete"}},
	{"other half of an end of boot services", func() *builder { return goodBoot().remove(atExit - 1) }, "", []string{"ebs-incomplete"}},
	{"end of boot services at the second try", func() *builder {
		return goodBoot().insert(atExit-1, entry{pcr: 5, kind: eventlog.EFIAction, data: text("Exit Boot Services Invocation")},
			entry{pcr: 5, kind: eventlog.EFIAction, data: text("Exit Boot Services Returned with Failure")})
	}, "", []string{"ebs-failed"}},
	{"SHA-1 only", func() *builder {
		b := goodBoot()
		b.banks = b.banks[:1]
		return b
	}, "", []string{"bank-sha1-only"}},
	{"SHA-1 only, old form", func() *builder {
		b := goodBoot()
		b.banks = nil
		return b
	}, "", []string{"bank-sha1-only"}},
	{"SHA-1 and a bank that cannot be computed", func() *builder {
		b := goodBoot()
		b.banks = []eventlog.Algorithm{eventlog.SHA1, eventlog.SM3}
		return b
	}, "", []string{"bank-sha1-only", "bank-unknown"}},
	{"unknown bank", func() *builder {
		b := goodBoot()
		b.banks, b.sizes = []eventlog.Algorithm{0x7777, eventlog.SHA256}, map[eventlog.Algorithm]int{0x7777: 5}
		return b
	}, "", []string{"bank-unknown"}},
	{"bank without one event", func() *builder {
		return goodBoot().change(atImage, func(e *entry) { e.only = []eventlog.Algorithm{eventlog.SHA1} })
	}, "", []string{"bank-coverage"}},
	{"PCR dropped", func() *builder {
		b := goodBoot()
		b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.pcr == 7 })
		return b
	}, "unknown", []string{"pcr-empty", "secure-boot-unknown"}},
	{"type in a PCR where it is not", func() *builder {
		return goodBoot().insert(8, entry{pcr: 6, kind: eventlog.EFIVariableDriverConfig, data: variable(shim, "x", nil)})
	}, "", []string{"type-pcr"}},
	{"type of a vendor", func() *builder { return goodBoot().insert(2, entry{pcr: 0, kind: flagged, data: []byte{1}}) }, "", []string{"type-unknown"}},
	{"padding", func() *builder { return goodBoot() }, "", []string{"padding"}},
	{"slack in the header", func() *builder {
		b := goodBoot()
		b.slack = []byte{1}
		return b
	}, "", []string{"header-slack"}},
}

func TestForgeries(t *testing.T) {
	used := map[string]bool{"more": true}
	for _, f := range forgeries {
		t.Run(f.name, func(t *testing.T) {
			raw := f.build().bytes()
			if f.name == "padding" {
				raw = append(raw, make([]byte, 100)...)
			}
			l, err := eventlog.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if got := codes(l); !slices.Equal(got, f.codes) {
				t.Errorf("codes %q, want %q: %+v", got, f.codes, l.Findings())
			}
			want := f.state
			if want == "" {
				want = eventlog.SecureBootOn
			}
			if state, why := l.SecureBoot(); state != want {
				t.Errorf("Secure Boot %s, want %s: %s", state, want, why)
			}
			for _, c := range f.codes {
				used[c] = true
			}
		})
	}
	for _, info := range eventlog.FindingCodes() {
		if !used[info.Code] {
			t.Errorf("no log here has finding %s", info.Code)
		}
	}
}

// TestNoCommandLineWithoutDigest: text that was not measured is no command line.
func TestNoCommandLineWithoutDigest(t *testing.T) {
	l := goodBoot().change(atLine, func(e *entry) { e.of = text("/vmlinuz init=/bin/sh") }).parse(t)
	if lines := l.KernelCommandLines(); len(lines) > 0 {
		t.Errorf("command lines %q", lines)
	}
}

// TestManyFindings: the list of findings ends.
func TestManyFindings(t *testing.T) {
	b := goodBoot()
	for range 1000 {
		b.add(separator(2), entry{pcr: 3, kind: eventlog.Unused, data: []byte{1}})
	}
	f := b.parse(t).Findings()
	if len(f) > 300 || f[len(f)-1].Code != "more" {
		t.Errorf("%d findings, the last %+v", len(f), f[len(f)-1])
	}
}

// TestSignatureLists: a database that is not whole lists is not understood, and
// nothing follows from it.
func TestSignatureLists(t *testing.T) {
	list := func(size, header, each, body int) []byte {
		return join(hashType, le32(size), le32(header), le32(each), make([]byte, body))
	}
	for name, db := range map[string][]byte{
		"list shorter than its head": list(10, 0, 48, 48),
		"list of no bytes":           list(0, 0, 48, 48),
		"list longer than the data":  list(77, 0, 48, 48),
		"header longer than list":    list(76, 49, 48, 48),
		"header of 4294967295":       list(76, -1, 48, 48),
		"signatures of no bytes":     list(76, 0, 0, 48),
		"signatures without owner":   list(76, 0, 8, 48),
		"half a signature":           list(76, 0, 32, 48),
		"half a list":                list(76, 0, 48, 48)[:20],
		"garbage after a list":       append(list(76, 0, 48, 48), 1),
	} {
		l := goodBoot().change(atDB, func(e *entry) { e.data = variable(security, "db", db) }).parse(t)
		if state, why := l.SecureBoot(); state != eventlog.SecureBootUnknown || !strings.Contains(why, "db") {
			t.Errorf("%s: %s, %s", name, state, why)
		}
		if d := l.Events[atDB+1].Describe(); !strings.Contains(d, "not signature lists") {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, db := range [][]byte{nil, list(28, 0, 48, 0), list(76, 0, 48, 48), append(list(76, 0, 48, 48), list(92, 16, 48, 64)...)} {
		l := goodBoot().change(atDB, func(e *entry) { e.data = variable(security, "db", db) }).parse(t)
		if state, why := l.SecureBoot(); state != eventlog.SecureBootOn {
			t.Errorf("%x: %s, %s", db, state, why)
		}
	}
}
