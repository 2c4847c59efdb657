// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Fingerprint returns six words made of d, to read aloud or compare between a
// terminal and a chat: its first 96 bits, 16 for each word, as consonants and
// vowels in turn. It tells delegations apart for people; only d itself stands
// for one.
func Fingerprint(d evidence.Hash) string {
	const consonants, vowels = "bdfghjklmnprstvz", "aiou"
	var words [6]string
	for i := range words {
		n := uint16(d[2*i])<<8 | uint16(d[2*i+1])
		words[i] = string([]byte{
			consonants[n>>12], vowels[n>>10&3], consonants[n>>6&15], vowels[n>>4&3], consonants[n&15],
		})
	}
	return strings.Join(words[:], " ")
}

// Describe answers "what am I approving?" in plain words, from the very bytes
// that an approval signs. Nothing in it can move a cursor or turn the
// direction of writing: [Parse] has let none of that through.
func Describe(enc []byte) (string, error) {
	o, err := Parse(enc)
	if err != nil {
		return "", err
	}
	d := Digest(enc)
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s is asked to let a program act for them.\n\n", o.Approver.Subject)
	line("purpose", "%q", o.Purpose)
	if s := scripts(o.Purpose); len(s) > 1 || len(s) == 1 && s[0] != "Latin" {
		line("", "(written in letters of %s)", strings.Join(s, ", "))
	}
	line("may", "%s", strings.Join(o.Actions, ", "))
	if len(o.Limits.Datatypes) > 0 {
		line("on", "%s", strings.Join(o.Limits.Datatypes, ", "))
	}
	line("at", "%s", o.Audience)
	line("program", "%s", o.Workload.ID)
	for _, h := range o.Workload.Code {
		line("", "executable sha256:%s", h)
	}
	for _, h := range o.Workload.Models {
		line("", "model sha256:%s", h)
	}
	l := o.Workload.Levels
	line("proved by", "host key %s, log anchor %s, sensor %s, or better", l.EK, l.Anchor, l.Tier)
	line("uses", "%s", o.uses())
	line("from", "%s", o.NotBeforeTime().Format(time.RFC3339))
	line("until", "%s", o.ExpiresTime().Format(time.RFC3339))
	if o.FourEyes > 1 {
		line("approved by", "%d persons, %s among them", o.FourEyes, o.Approver.Subject)
	} else {
		line("approved by", "%s", o.Approver)
	}
	line("asked by", "%s, %s", o.Requester, time.Unix(int64(o.RequestedAt), 0).UTC().Format(time.RFC3339))
	line("broker", "%s", o.Broker)
	line("id", "%s", o.ID)
	line("digest", "sha256:%s", d)
	line("in words", "%s", Fingerprint(d))
	return b.String(), nil
}

func (o *Delegation) uses() string {
	unit := "credential"
	if o.Limits.Per == PerInstance {
		unit = "run"
	}
	if o.Uses != 1 {
		unit += "s"
	}
	text := fmt.Sprintf("%d %s", o.Uses, unit)
	if o.Limits.Credential != 0 {
		text += fmt.Sprintf(", each credential good for at most %d seconds", o.Limits.Credential)
	}
	return text
}
