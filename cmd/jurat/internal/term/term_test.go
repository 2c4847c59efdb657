// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package term

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Close Übersicht 日本": "Close Übersicht 日本",
		"a\x1b[2Jb":          `a\u{1b}[2Jb`,
		"a\nb\tc":            `a\u{a}b\u{9}c`,
		"pay \u202e001":      `pay \u{202e}001`,
		"bad\xffbyte":        `bad\xffbyte`,
		"zero\u200bwidth":    `zero\u{200b}width`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCleanJSON(t *testing.T) {
	in := "{\n \"a\u202e\": \"Ü\u009b\U000e0041\x7f日本\\n\"\n}\n"
	got := CleanJSON(in)
	if want := "{\n \"a\\u202e\": \"Ü\\u009b\\udb40\\udc41\\u007f日本\\n\"\n}\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var before, after map[string]string
	if json.Unmarshal([]byte(in), &before) != nil || json.Unmarshal([]byte(got), &after) != nil || !maps.Equal(before, after) {
		t.Errorf("%q became %q", before, after)
	}
}

func TestTable(t *testing.T) {
	rows := [][]Cell{{{Text: "1"}, {Text: "denied", Style: Red}, {Text: "x"}}, {{Text: "100"}, {Text: "allöwed", Style: Green}, {Text: "\x1b[0m"}}}
	for color, want := range map[bool]string{
		false: "  N    SAID     WHY\n  1    denied   x\n  100  allöwed  \\u{1b}[0m\n",
		true: "  \x1b[2mN\x1b[0m    \x1b[2mSAID\x1b[0m     \x1b[2mWHY\x1b[0m\n  1    \x1b[31mdenied\x1b[0m   x\n" +
			"  100  \x1b[32mallöwed\x1b[0m  \\u{1b}[0m\n",
	} {
		var b strings.Builder
		p := New(&b, color)
		p.Table("  ", []string{"N", "SAID", "WHY"}, rows)
		if b.String() != want || p.Err() != nil {
			t.Errorf("colour %v:\n%q, want\n%q (%v)", color, b.String(), want, p.Err())
		}
	}
}

func TestFields(t *testing.T) {
	var b strings.Builder
	New(&b, false).Fields("  ", Field{Label: "a", Value: "1"}, Field{Label: "empty one"}, Field{Label: "abc", Value: "2\n3"})
	if want := "  a    1\n  abc  2\\u{a}3\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestAsk(t *testing.T) {
	for in, want := range map[string]bool{
		"y\n": true, "Yes\n": true, " YES \n": true, "y": true,
		"": false, "\n": false, "n\n": false, "yess\n": false, "yes please\n": false, "no\nyes\n": false,
	} {
		got, err := Ask(strings.NewReader(in), new(strings.Builder), "Go on?")
		if got != want || err != nil {
			t.Errorf("answer %q: %v, %v", in, got, err)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestBrokenWriter(t *testing.T) {
	p := New(broken{}, false)
	p.Line("x")
	if p.Err() == nil {
		t.Error("no error")
	}
}
