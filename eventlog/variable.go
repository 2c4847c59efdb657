// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
)

// variable is a UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile
// section 10.2.6).
type variable struct {
	owner guid
	name  string
	data  []byte
	// extra is what follows the variable. Shim before 15.3 counted some bytes
	// too many into the event, and did not measure the last of them.
	extra []byte
}

func parseVariable(b []byte) (variable, bool) {
	const fixed = 32
	if len(b) < fixed {
		return variable{}, false
	}
	v := variable{owner: guid(b)}
	chars, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	b = b[fixed:]
	if chars > uint64(len(b))/2 || size > uint64(len(b))-2*chars {
		return variable{}, false
	}
	v.name = decodeUTF16(b[:2*chars])
	b = b[2*chars:]
	v.data, v.extra = b[:size], b[size:]
	return v, len(v.extra) <= 8
}

// signature is an EFI_SIGNATURE_DATA with the type of its list (UEFI 2.10
// section 32.4.1).
type signature struct {
	kind  guid
	owner guid
	data  []byte
}

// signatures reads the lists in a variable such as db, and whether it was
// lists and nothing else. At most max signatures are returned.
func signatures(b []byte, most int) (found []signature, total int, ok bool) {
	const header = 28
	for len(b) > 0 {
		if len(b) < header {
			return found, total, false
		}
		kind := guid(b)
		list, head, each := binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:]), binary.LittleEndian.Uint32(b[24:])
		if uint64(list) > uint64(len(b)) || list < header || head > list-header || each < 16 {
			return found, total, false
		}
		body := b[header+head : list]
		if uint32(len(body))%each != 0 {
			return found, total, false
		}
		total += len(body) / int(each)
		for ; len(body) > 0 && len(found) < most; body = body[each:] {
			found = append(found, signature{kind, guid(body), body[16:each]})
		}
		b = b[list:]
	}
	return found, total, true
}

// certificate names a certificate in words; one that Go cannot read is named by
// its digest, which is what matters.
func certificate(der []byte) (string, bool) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", false
	}
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	return clean(name), true
}

func (s signature) describe() string {
	switch s.kind {
	case guidX509:
		if name, ok := certificate(s.data); ok {
			return "certificate \"" + name + "\""
		}
		return fmt.Sprintf("certificate with SHA-256 %x (unreadable)", sha256.Sum256(s.data))
	case guidSHA256:
		return "SHA-256 " + hexadecimal(s.data)
	}
	return "signature of type " + s.kind.String()
}

// describe says what a variable has in it.
func (v variable) describe() string {
	name := clean(v.name)
	switch {
	case v.owner == guidGlobal && name == "SecureBoot":
		return "variable SecureBoot = " + v.flag()
	case v.owner == guidGlobal && (name == "PK" || name == "KEK"), v.owner == guidImageSecurity:
		return "variable " + name + ": " + describeSignatures(v.data)
	case v.owner == guidGlobal && name == "BootOrder":
		return "boot order " + describeOrder(v.data)
	case v.owner == guidGlobal && isBootOption(v.name):
		return "boot option " + name + ": " + describeLoadOption(v.data)
	case v.owner == guidGlobal || v.owner == guidShim:
		return "variable " + name + " = " + words(v.data)
	}
	return fmt.Sprintf("variable %s (%s), %d bytes", name, v.owner.name(), len(v.data))
}

func (v variable) flag() string {
	switch {
	case len(v.data) == 1 && v.data[0] == 1:
		return "1 (on)"
	case len(v.data) == 1 && v.data[0] == 0:
		return "0 (off)"
	}
	return words(v.data)
}

func describeSignatures(b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	found, total, ok := signatures(b, maxEntries)
	if !ok {
		return fmt.Sprintf("%d bytes that are not signature lists", len(b))
	}
	var named []string
	hashes := 0
	for _, s := range found {
		if s.kind == guidX509 {
			named = append(named, s.describe())
		} else {
			hashes++
		}
	}
	if rest := total - len(named); rest > 0 {
		named = append(named, plural(rest, "entry", "entries"))
	}
	if total == 0 {
		return "lists without entries"
	}
	return strings.Join(named, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func describeOrder(b []byte) string {
	var parts []string
	for len(b) >= 2 {
		if len(parts) == 2*maxEntries {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
		b = b[2:]
	}
	if len(parts) == 0 {
		return "empty"
	}
	return strings.Join(parts, ", ")
}

// isBootOption reports whether a variable is Boot0000 and so on, or one of its
// relatives.
func isBootOption(name string) bool {
	for _, prefix := range []string{"Boot", "Driver", "SysPrep", "PlatformRecovery"} {
		if digits, ok := strings.CutPrefix(name, prefix); ok && len(digits) == 4 && strings.Trim(digits, "0123456789ABCDEFabcdef") == "" {
			return true
		}
	}
	return false
}

// describeLoadOption reads an EFI_LOAD_OPTION (UEFI 2.10 section 3.1.3).
func describeLoadOption(b []byte) string {
	if len(b) < 8 {
		return words(b)
	}
	attributes, size := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:]))
	b = b[6:]
	end := 0
	for end+1 < len(b) && (b[end] != 0 || b[end+1] != 0) {
		end += 2
	}
	if end+2 > len(b) {
		return "malformed"
	}
	out := "\"" + clean(decodeUTF16(b[:end])) + "\""
	b = b[end+2:]
	if size > len(b) {
		return out + ", malformed"
	}
	if path := devicePath(b[:size]); path != "" {
		out += " " + path
	}
	if options := b[size:]; len(options) > 0 {
		out += ", with options " + words(options)
	}
	if attributes&1 == 0 {
		out += ", inactive"
	}
	return out
}
