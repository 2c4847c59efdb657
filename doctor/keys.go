// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/tpm"
)

// The levels that enrolling gives.
const (
	levelCert = "ek-cert"
	levelPin  = "ek-pin"
)

// keys looks at the endorsement keys as the broker does when a host enrols:
// one that it believes is enough.
func (e *examination) keys(r *Report) []Check {
	const name = "EK"
	if e.chip == nil {
		return []Check{{name, Unknown, noTPM, ""}}
	}
	if err := e.chip.keysErr; err != nil {
		if late := slow(0); errors.As(err, &late) {
			return []Check{{name, Unknown, "keys " + late.Error(), "a slow TPM needs longer: --patience 60s"}}
		}
		return []Check{{name, Bad, err.Error(), "without an endorsement key the host cannot enrol; the hierarchies above may say why"}}
	}
	var checks []Check
	believed := false
	for _, key := range e.chip.keys {
		k, c := e.key(key)
		believed = believed || k.Level == levelCert
		r.EK, checks = append(r.EK, k), append(checks, c)
	}
	for i := range checks {
		if k := r.EK[i]; believed && k.Level == levelPin && !k.Certificate {
			checks[i].Status, checks[i].Text, checks[i].Hint = OK, "no certificate, and none needed beside the one above", ""
		}
	}
	return checks
}

// key looks at one of them.
func (e *examination) key(key tpm.EK) (Key, Check) {
	k, c := Key{Algorithm: key.Algorithm, Certificate: key.Certificate != nil}, Check{Name: "EK " + key.Algorithm}
	parsed, err := ek.ParseEK(key.Public)
	if err != nil {
		k.Code = codeOf(err)
		c.Status, c.Text, c.Hint = Bad, err.Error(), "the broker will not take this key; update the TPM's firmware"
		return k, c
	}
	k.Pin, k.Level = parsed.Pin.String(), levelPin
	pin := "jurat host add NAME --ek-pin " + k.Pin
	if e.Authorities != nil && e.Authorities.Rules != nil {
		if err := e.Authorities.Rules.DenyKey(parsed.Pin); err != nil {
			k.Level, k.Code = "", codeOf(err)
			c.Status, c.Text, c.Hint = Bad, "denied by a rule", "the rule is in "+ek.RulesFile+" of --ek-roots"
			return k, c
		}
	}
	switch {
	case key.Certificate == nil && key.CertificateErr != nil:
		c.Status, c.Text, c.Hint = Warn, key.CertificateErr.Error(), pin
	case key.Certificate == nil:
		c.Status, c.Text, c.Hint = Warn, "no certificate in the TPM", pin
	case e.Authorities == nil:
		c.Status, c.Text, c.Hint = Unknown, "has a certificate, and nobody's are believed here", "name the makers: --ek-roots DIR"
	default:
		c = e.certified(&k, c, key, parsed.SPKI, pin)
	}
	return k, c
}

// certified judges a key's certificate.
func (e *examination) certified(k *Key, c Check, key tpm.EK, spki []byte, pin string) Check {
	v := e.Authorities.Examine(append([][]byte{key.Certificate}, key.Chain...), spki, e.Now)
	if v.OK() {
		k.Level = levelCert
		root := v.Path[len(v.Path)-1]
		c.Status, c.Text = OK, fmt.Sprintf("%s: chain of %d to %s", levelCert, len(v.Path), clip(root.Certificate.Subject.CommonName, 48))
		return c
	}
	found := v.Findings[0]
	k.Code = string(found.Code)
	if v.Denied() != nil {
		k.Level = ""
		c.Status, c.Text, c.Hint = Bad, fmt.Sprintf("%s: %s", found.Code, clip(found.Text, 70)), "a deny rule beats everything: see "+ek.RulesFile
		return c
	}
	c.Status, c.Text = Warn, fmt.Sprintf("certificate not believed, %s: %s", found.Code, clip(found.Text, 60))
	switch found.Code {
	case ek.CodeROCA, ek.CodeKey, ek.CodeMismatch:
		k.Level = ""
		c.Status, c.Hint = Bad, "update the TPM's firmware, or use another TPM"
	case ek.CodeChain, ek.CodeAuthority, ek.CodeManufacturer:
		c.Hint = "the maker's certificates for the broker and --ek-roots, or pin the key:\n" + pin
	case ek.CodeNotYet:
		c.Hint = "is this machine's clock right? 'timedatectl'"
	default:
		c.Hint = pin
	}
	return c
}

func codeOf(err error) string {
	var said *ek.Error
	if errors.As(err, &said) {
		return string(said.Code)
	}
	return ""
}
