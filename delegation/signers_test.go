// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// allThree is the namespaces option that lets a key give every answer.
const allThree = `namespaces="` + NamespaceApproval + `,` + NamespaceRefusal + `,` + NamespaceRevocation + `"`

func TestAllowedSigners(t *testing.T) {
	a, _ := newSigner(t)
	b, _ := newSigner(t)
	c, _ := newSigner(t)
	text := fmt.Sprintf("# who may approve\n\nalice@example.test %s comment here\r\n  bob %s %s\nalice@example.test %s,valid-after=\"20261123Z\",valid-before=\"20261124120000Z\" %s\n",
		a, allThree, b, allThree, c)
	got, err := ParseAllowedSigners([]byte(text), broker)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Person != alice || len(got[0].Keys) != 2 || !got[0].Keys[0].Key.Equal(a) || !got[1].Keys[0].Key.Equal(b) {
		t.Fatalf("%+v", got)
	}
	k := got[0].Keys[1]
	if !k.Key.Equal(c) || !k.After.Equal(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) || !k.Before.Equal(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("window %v to %v", k.After, k.Before)
	}
	// ssh-keygen reads the same file the same way.
	m := makeKey(t, "-t", "ed25519")
	file := "alice@example.test " + allThree + ",valid-after=\"20200101Z\" " + m.line
	enc := encoded(t, sample())
	if !agrees(t, file, "alice@example.test", NamespaceApproval, m.sign(t, NamespaceApproval, enc), enc) {
		t.Error("ssh-keygen does not take the file")
	}
	who, err := ParseAllowedSigners([]byte(file), broker)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ParseArmored(m.sign(t, NamespaceApproval, enc))
	if err != nil {
		t.Fatal(err)
	}
	answer := Answer{Act: Approval, Method: MethodSSH, Person: alice, At: uint64(start.Unix()), Signature: sig.Blob()}
	s, err := Verify(bundle(enc, answer), who)
	if err != nil || s.At(start) != Approved {
		t.Errorf("%s: %v", s.At(start), err)
	}
}

func TestAllowedSignersRefuses(t *testing.T) {
	k, _ := newSigner(t)
	key := k.String()
	for name, line := range map[string]string{
		"no key":                    "alice",
		"no name":                   " " + key,
		"pattern":                   "*@example.test " + key,
		"negated":                   "!alice " + key,
		"empty name":                "alice,,bob " + key,
		"two persons, one key":      "alice,bob " + key,
		"the same key again":        "alice " + key + "\nbob " + key,
		"certificate authority":     "alice cert-authority " + key,
		"unknown option":            "alice no-touch-required " + key,
		"namespaces for something":  `alice namespaces="git" ` + key,
		"namespaces for a yes only": `alice namespaces="` + NamespaceApproval + `" ` + key,
		"no namespaces":             `alice namespaces="" ` + key,
		"local time":                `alice valid-before="20270101" ` + key,
		"no time":                   `alice valid-after="" ` + key,
		"thirteenth month":          `alice valid-after="20271301Z" ` + key,
		"quote not closed":          `alice namespaces="x ` + key,
		"broken key":                "alice ssh-ed25519 AAAA",
		"too long":                  strings.Repeat("#\n", maxAllowedSigners),
	} {
		if got, err := ParseAllowedSigners([]byte(line), broker); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
	if _, err := ParseAllowedSigners([]byte("alice "+key), "broker"); err == nil {
		t.Error("persons of nobody")
	}
	if got, err := ParseAllowedSigners(nil, broker); err != nil || len(got) != 0 {
		t.Errorf("%+v %v", got, err)
	}
}
