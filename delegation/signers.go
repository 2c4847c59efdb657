// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ParseAllowedSigners reads a file of allowed signers as ssh-keygen(1)
// describes it, for persons known to issuer:
//
//	alice@example.test namespaces="jurat.dev/delegation/v1",valid-before="20270101Z" ssh-ed25519 AAAA…
//
// Names stand for themselves: patterns are refused, and so are certificate
// authorities and unknown options. A key whose namespaces leave one of the
// three out is refused too, since it would count for what it must not sign.
// Times without Z are refused: they mean another moment on every machine.
func ParseAllowedSigners(text []byte, issuer string) ([]Approver, error) {
	if len(text) > maxAllowedSigners {
		return nil, fmt.Errorf("allowed signers of %d bytes, at most %d", len(text), maxAllowedSigners)
	}
	var out []Approver
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		names, key, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("allowed signers line %d: %v", number, err)
		}
		for _, name := range names {
			p := Person{Issuer: issuer, Subject: name}
			if err := p.check(); err != nil {
				return nil, fmt.Errorf("allowed signers line %d: %v", number, err)
			}
			if out, err = addKey(out, p, key); err != nil {
				return nil, fmt.Errorf("allowed signers line %d: %v", number, err)
			}
		}
	}
	return out, nil
}

// addKey adds a key to a person. A key is one person's.
func addKey(list []Approver, p Person, key Registered) ([]Approver, error) {
	at := -1
	for i, a := range list {
		if a.Person == p {
			at = i
		}
		if slices.ContainsFunc(a.Keys, func(r Registered) bool { return r.Key.Equal(key.Key) }) {
			return nil, fmt.Errorf("key %s is that of %q already", key.Key.Fingerprint(), a.Person.Subject)
		}
	}
	if at < 0 {
		return append(list, Approver{p, []Registered{key}}), nil
	}
	list[at].Keys = append(list[at].Keys, key)
	return list, nil
}

func parseSigner(line string) ([]string, Registered, error) {
	principals, rest, _ := strings.Cut(line, " ")
	names := strings.Split(principals, ",")
	var r Registered
	options, rest := cutOptions(strings.TrimLeft(rest, " \t"))
	namespaces := []string{NamespaceApproval, NamespaceRefusal, NamespaceRevocation}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		var err error
		switch strings.ToLower(name) {
		case "namespaces":
			have := strings.Split(value, ",")
			for _, n := range namespaces {
				if !slices.Contains(have, n) {
					err = fmt.Errorf("namespaces leave out %s", n)
				}
			}
		case "valid-after":
			r.After, err = parseSignerTime(value)
		case "valid-before":
			r.Before, err = parseSignerTime(value)
		default:
			err = fmt.Errorf("option %q is not supported", name)
		}
		if err != nil {
			return nil, r, err
		}
	}
	var err error
	r.Key, err = ParseKey(rest)
	return names, r, err
}

// cutOptions splits leading options off a line. Options are parted by commas,
// and end at the first space outside quotes; a line that begins with a key
// type has none.
func cutOptions(line string) (options []string, rest string) {
	word, _, _ := strings.Cut(line, " ")
	if strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-") {
		return nil, line
	}
	quoted, start := false, 0
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			options, start = append(options, line[start:i]), i+1
		case c == ' ' || c == '\t':
			return append(options, line[start:i]), strings.TrimLeft(line[i:], " \t")
		}
	}
	return append(options, line[start:]), ""
}

// parseSignerTime reads YYYYMMDDZ or YYYYMMDDHHMM[SS]Z.
func parseSignerTime(text string) (time.Time, error) {
	for _, layout := range []string{"20060102Z", "200601021504Z", "20060102150405Z"} {
		if t, err := time.Parse(layout, text); err == nil && len(text) == len(layout) {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want YYYYMMDDZ or YYYYMMDDHHMM[SS]Z", text)
}
