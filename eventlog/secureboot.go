// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
)

// SecureBoot is what a log says about UEFI Secure Boot.
type SecureBoot string

// The states. Unknown is neither of the others: a log that does not say, says
// it twice or says it in a form that is not understood.
const (
	SecureBootOn      SecureBoot = "on"
	SecureBootOff     SecureBoot = "off"
	SecureBootUnknown SecureBoot = "unknown"
)

// secureBootVariables must each be measured once (Platform Firmware Profile
// section 3.3.4.8).
var secureBootVariables = [...]struct {
	owner guid
	name  string
}{{guidGlobal, "SecureBoot"}, {guidGlobal, "PK"}, {guidGlobal, "KEK"}, {guidImageSecurity, "db"}, {guidImageSecurity, "dbx"}}

// policy is what PCR 7 has before its separator.
type policy struct {
	variables  [len(secureBootVariables)]variable
	count      [len(secureBootVariables)]int
	separators int
	problem    string // the first thing that makes the state unknown
}

func (p *policy) unknown(format string, args ...any) {
	if p.problem == "" {
		p.problem = fmt.Sprintf(format, args...)
	}
}

// policy reads PCR 7. Everything in it that is not understood makes the state
// unknown: an attacker may call an event what he likes, only its digest counts.
func (l *Log) policy() *policy {
	p := new(policy)
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 7 || !e.Measured() {
			continue
		}
		switch e.Type {
		case Separator:
			p.separators++
			if e.coverage() != covered || string(e.Data) != string(separatorZero) {
				p.unknown("the separator of PCR 7 (event %d) is not what it should be", e.Number)
			}
		case EFIVariableDriverConfig:
			p.readVariable(e)
		case EFIVariableAuthority:
			// What authorises drivers may come before the separator.
			if e.coverage() != covered {
				p.unknown("authority (event %d): its digest is not that of its data", e.Number)
			}
		case EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		case EFIAction, Action:
			p.unknown("PCR 7 has an action (event %d): %s", e.Number, words(e.Data))
		default:
			if p.separators == 0 {
				p.unknown("PCR 7 has an event that does not belong there (event %d, %v)", e.Number, e.Type)
			}
		}
	}
	if p.separators != 1 {
		p.unknown("PCR 7 has %s, want exactly one", plural(p.separators, "separator", "separators"))
	}
	return p
}

func (p *policy) readVariable(e *Event) {
	v, ok := parseVariable(e.Data)
	if !ok || len(v.extra) > 0 {
		p.unknown("a variable in PCR 7 (event %d) is malformed", e.Number)
		return
	}
	name, i := clean(v.name), securityVariable(v)
	switch {
	case i >= 0 && p.separators > 0:
		p.unknown("variable %s (event %d) comes after the separator", name, e.Number)
	case i >= 0:
		p.variables[i] = v
		if p.count[i]++; p.count[i] == 2 {
			p.unknown("variable %s comes twice, again in event %d", name, e.Number)
		}
	}
	if e.coverage() != covered {
		p.unknown("variable %s (event %d): its digest is not that of its data", name, e.Number)
	}
}

func securityVariable(v variable) int {
	for i, want := range secureBootVariables {
		if v.owner == want.owner && v.name == want.name {
			return i
		}
	}
	return -1
}

// SecureBoot returns whether UEFI Secure Boot was on, and in words why. The
// answer is worth what the replayed PCR 7 is worth, and says nothing about what
// was started afterwards: see [Log.KernelMeasured] and [Log.Authorities].
//
// On needs SecureBoot = 1 and SecureBoot, PK, KEK, db and dbx once each before
// the separator, well formed, with the digest of their data; and no debug mode.
// Off needs SecureBoot = 0 under the same conditions for what is there.
func (l *Log) SecureBoot() (SecureBoot, string) {
	p := l.policy()
	if p.problem == "" && p.count[0] == 0 {
		p.problem = "the log has no variable SecureBoot before the separator of PCR 7"
	}
	if p.problem != "" {
		return SecureBootUnknown, p.problem
	}
	value := p.variables[0].data
	switch {
	case len(value) == 1 && value[0] == 0:
		return SecureBootOff, "variable SecureBoot is 0"
	case len(value) != 1 || value[0] != 1:
		return SecureBootUnknown, "variable SecureBoot is " + words(value) + ", neither 0 nor 1"
	}
	for i, want := range secureBootVariables {
		if p.count[i] == 0 {
			return SecureBootUnknown, "variable SecureBoot is 1, but variable " + want.name + " was not measured"
		}
		if _, _, ok := signatures(p.variables[i].data, 0); i > 0 && !ok {
			return SecureBootUnknown, "variable " + want.name + " is malformed"
		}
	}
	if len(p.variables[1].data) == 0 {
		return SecureBootUnknown, "variable SecureBoot is 1, but there is no platform key (PK)"
	}
	return SecureBootOn, "variable SecureBoot is 1, and PK, KEK, db and dbx were measured"
}

// Authority is one event by which firmware or shim said what made it trust an
// image, or what it goes by.
type Authority struct {
	Event    int
	Variable string // the database it came from: "db", "MokList", "Shim", "SbatLevel" ...
	Owner    string // who put it there, by GUID; empty: not said
	Subject  string // of a certificate; empty: it is none, or cannot be read
	Issuer   string
	SHA256   []byte // of the certificate, or the hash of the image that is allowed
	Image    bool   // it authorises images; false: it is a setting, such as SbatLevel
	Covered  bool   // the digest is of these data
	Text     string // in words
}

// settings are authority events of shim that authorise no image.
var settings = []string{"SbatLevel", "SBAT", "MokListTrusted", "MokSBState", "MokDBState", "MokListX", "HSIStatus", "MokPolicy"}

// authority reads an EV_EFI_VARIABLE_AUTHORITY: a variable whose data is one
// EFI_SIGNATURE_DATA or, of shim, a certificate without an owner or a setting.
func (e *Event) authority() (Authority, bool) {
	v, ok := parseVariable(e.Data)
	if !ok || e.Type != EFIVariableAuthority {
		return Authority{}, false
	}
	a := Authority{Event: e.Number, Variable: clean(v.name), Covered: e.coverage() == covered}
	if slices.Contains(settings, v.name) {
		a.Text = "shim setting " + a.Variable + " = " + words(v.data)
		return a, true
	}
	a.Image = true
	der, owner := v.data, ""
	c, err := x509.ParseCertificate(der)
	if err != nil && len(v.data) > 16 {
		der, owner = v.data[16:], guid(v.data).name()
		c, err = x509.ParseCertificate(der)
	}
	a.Owner = owner
	switch {
	case err == nil:
		sum := sha256.Sum256(der)
		a.Subject, a.Issuer, a.SHA256 = clean(c.Subject.String()), clean(c.Issuer.String()), sum[:]
		name := c.Subject.CommonName
		if name == "" {
			name = c.Subject.String()
		}
		a.Text = "image authorised by certificate \"" + clean(name) + "\" in " + a.Variable
	case len(v.data) == 16+32:
		a.SHA256 = v.data[16:]
		a.Text = fmt.Sprintf("image authorised by its hash %x in %s", a.SHA256, a.Variable)
	default:
		sum := sha256.Sum256(v.data)
		a.SHA256 = sum[:]
		a.Text = fmt.Sprintf("image authorised by %d bytes in %s", len(v.data), a.Variable)
	}
	return a, true
}

// Authorities returns what authorised the images that were loaded, in the order
// of the log. Firmware writes each authority down once, before the first image
// that it allows.
func (l *Log) Authorities() []Authority {
	var out []Authority
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 7 {
			continue
		}
		if a, ok := e.authority(); ok {
			out = append(out, a)
		}
	}
	return out
}
