// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

func rules(t testing.TB, lines ...string) *Rules {
	t.Helper()
	r, err := ParseRules([]byte(strings.Join(lines, "\n")))
	must(t, err)
	return r
}

// TestRules: which certificate a rule catches, and which it lets pass. A
// denial stands first, whatever else is wrong.
func TestRules(t *testing.T) {
	c, m := newChip(t, 0), newMaker(t)
	a := trusting(t, m)
	der := m.certificate(t, c.ek.Public(), nil) // Infineon, 7.62, serial 2a11
	pin := "sha-256:" + parseEK(t, c).Pin.String()
	keyOf := func(x *x509.Certificate) string {
		sum := sha256.Sum256(x.RawSubjectPublicKeyInfo)
		return "sha-256:" + hex.EncodeToString(sum[:])
	}
	cases := []struct {
		rule string
		code Code // "" passes
	}{
		{"", ""},
		{"# deny manufacturer IFX", ""},
		{"deny manufacturer IFX", CodeDenied},
		{"deny manufacturer id:49465800 # all of them", CodeDenied},
		{"deny manufacturer NTC", ""},
		{"allow manufacturer IFX\ndeny manufacturer IFX", CodeDenied},
		{"allow manufacturer IFX", ""},
		{"allow manufacturer NTC\nallow manufacturer IFX", ""},
		{"allow manufacturer NTC", CodeManufacturer},
		{"deny firmware IFX 7.62", CodeDenied},
		{"deny firmware IFX 7.0-7.62", CodeDenied},
		{"deny firmware IFX 7.62-8.0", CodeDenied},
		{"deny firmware IFX 7.0-7.61", ""},
		{"deny firmware IFX 7.63-9.0", ""},
		{"deny firmware IFX 7.62.1", ""},
		{"deny firmware STM 7.62", ""},
		{"deny key " + pin, CodeDenied},
		{"deny key " + pin[:len(pin)-2] + "00", ""},
		{"deny key " + keyOf(m.intermediate), CodeDenied},
		{"deny key " + keyOf(m.root), CodeDenied},
		{"deny certificate 2a11 CN=Test TPM Intermediate", CodeDenied},
		{"deny certificate 00:2A:11 CN=Test TPM Intermediate", CodeDenied},
		{"deny certificate 2a12 CN=Test TPM Intermediate", ""},
		{"deny certificate 2a11 CN=Test TPM Root", ""},
		{"deny certificate 7 CN=Test TPM Root", CodeDenied}, // root and intermediate
	}
	for _, x := range cases {
		a.Rules = rules(t, x.rule)
		v := a.Examine([][]byte{der}, nil, now)
		if x.code == "" && !v.OK() || x.code != "" && (v.OK() || !slices.Equal(findings(v), []Code{x.code})) {
			t.Errorf("%q: %v, want %q", x.rule, findings(v), x.code)
		}
		if (v.Denied() != nil) != (x.code == CodeDenied) {
			t.Errorf("%q: denied: %v", x.rule, v.Denied())
		}
	}
	a.Rules = rules(t, "deny key "+pin)
	v := a.Examine([][]byte{newMaker(t).certificate(t, c.ek.Public(), func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageCRLSign })}, []byte("x"), now)
	if len(v.Findings) < 3 || v.Findings[0].Code != CodeDenied {
		t.Errorf("denied and much else: %v", findings(v))
	}
	a.Rules = rules(t, "deny firmware IFX 1.0")
	odd := m.certificate(t, c.ek.Public(), func(x *x509.Certificate) {
		x.ExtraExtensions = []pkix.Extension{san(t, true, "id:49465800", "", "seven")}
	})
	if v := a.Examine([][]byte{odd}, nil, now); v.Denied() == nil {
		t.Errorf("a version that cannot be read: %v", v.Err())
	}
	if err := a.Rules.DenyKey(sha256.Sum256(nil)); err != nil {
		t.Error(err)
	}
	if a.Rules.DenyFirmware(Manufacturer{'I', 'F', 'X', 0}, FirmwareOf(0x0001_0000_0000_0005)) == nil {
		t.Error("a quote with firmware 1.0.5 passes")
	}
}

// TestDefaultManufacturers: without a rule, makers whose roots ship may be named
// below shipped roots, and anybody below the operator's.
func TestDefaultManufacturers(t *testing.T) {
	ours := &Authority{Origin: OriginShipped}
	theirs := &Authority{Origin: OriginOperator}
	r := new(Rules)
	qualcomm, infineon := Manufacturer{'Q', 'C', 'O', 'M'}, Manufacturer{'I', 'F', 'X', 0}
	if r.allow(infineon, ours) != nil || r.allow(qualcomm, theirs) != nil || r.allow(qualcomm, ours) == nil {
		t.Error("defaults")
	}
	r = rules(t, "allow manufacturer QCOM")
	if r.allow(qualcomm, ours) != nil || r.allow(infineon, ours) == nil || r.allow(infineon, theirs) == nil {
		t.Error("an allow rule is the whole list")
	}
}

func TestRulesRefused(t *testing.T) {
	for _, bad := range []string{
		"deny", "allow", "deny manufacturer", "deny manufacturer XXXX", "deny manufacturer id:49", "deny manufacturer id:4946580g", "permit manufacturer IFX",
		"Deny manufacturer IFX", "allow firmware IFX 1.0", "deny firmware IFX", "deny firmware IFX 7", "deny firmware IFX 7.x", "deny firmware IFX 7.70000",
		"deny firmware IFX 7.2-7.1", "deny firmware IFX 7.1-", "deny firmware IFX 7.1.1.1", "deny key 00", "deny key sha-256:00", "deny key " + strings.Repeat("0", 64),
		"deny certificate 12", "deny certificate xyz CN=a", "deny certificate -12 CN=a", "deny manufacturer IFX STM", "allow manufacturer IFX\ndeny x",
		"deny manufacturer \xff", "# " + strings.Repeat("x", maxRule), "deny\x00manufacturer IFX",
	} {
		if _, err := ParseRules([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if _, err := ParseRules(make([]byte, maxRules+1)); err == nil {
		t.Error("too long")
	}
	r := rules(t, "\r", "  # x", "deny manufacturer IFX\r", "", "deny manufacturer STM")
	if r.Len() != 2 {
		t.Errorf("%d rules", r.Len())
	}
	sum := new(Rules)
	sum.add(r)
	sum.add(rules(t, "allow manufacturer NTC", "deny firmware NTC 1.1", "deny key sha-256:"+strings.Repeat("00", 32), "deny certificate 1 CN=a"))
	if sum.Len() != 6 || !sum.manufacturer[Manufacturer{'I', 'F', 'X', 0}] || !sum.allowed[Manufacturer{'N', 'T', 'C', 0}] || len(sum.firmware) != 1 || len(sum.keys) != 1 || len(sum.serials) != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestManufacturer(t *testing.T) {
	for in, want := range map[string]string{
		"id:49465800": "id:49465800 (Infineon)", "IFX": "id:49465800 (Infineon)", "STM": "id:53544D20 (STMicroelectronics)", "INTC": "id:494E5443 (Intel)",
		"id:00001014": "id:00001014 (IBM (software TPM))", "id:deadbeef": "id:DEADBEEF",
	} {
		if m, err := ParseManufacturer(in); err != nil || m.String() != want {
			t.Errorf("%s: %s, %v", in, m, err)
		}
	}
	for _, bad := range []string{"", "id:", "IF", "ifx", "IFXXX", "id:4946580", "id:494658000", "ID:49465800", "I\x00X"} {
		if m, err := ParseManufacturer(bad); err == nil {
			t.Errorf("%q: %s", bad, m)
		}
	}
}

func TestFirmware(t *testing.T) {
	for in, want := range map[string]string{
		"id:073E": "7.62", "id:00490004": "73.4", "id:20191023": "8217.4131", "id:0007003E00112233": "7.62.1122867",
		"id:": "", "": "", "073E": "", "id:+73E": "", "id:73E": "", "id:0x3E": "", "seven": "",
	} {
		f, ok := parseVersion(in)
		if ok != (want != "") || ok && f.String() != want {
			t.Errorf("%q: %s, %v", in, f, ok)
		}
	}
	if f := FirmwareOf(0x0007003e_00112233); (f != Firmware{7, 62, 0x112233}) {
		t.Errorf("%+v", f)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add([]byte("allow manufacturer IFX # x\ndeny firmware IFX 7.0-7.62\ndeny key sha-256:" + strings.Repeat("0a", 32) + "\ndeny certificate 0a:1b CN=x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRules(data)
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}
