// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package term

import (
	"strings"
	"testing"
)

func TestColumns(t *testing.T) {
	for in, want := range map[string]int{"": 0, "abc": 3, "Übersicht": 9, "日本": 4, "e\u0301": 1, "│ └─": 4} {
		if got := Columns(in); got != want {
			t.Errorf("%q takes %d columns, want %d", in, got, want)
		}
	}
}

func TestListFits(t *testing.T) {
	columns := []Column{{Title: "PID"}, {Title: "UNIT", Least: 10}, {Title: "PROGRAM", Least: 12}}
	rows := [][]Cell{
		{{Text: "4711"}, {Text: "invoice-agent@production.service"}, {Text: "/opt/invoice/lib/日本/agent.py", Tail: true}},
		{{Text: "1", Style: Red}, {Text: "-"}, {Text: "/sbin/init\x1b[2J\n"}},
	}
	for name, row := range map[string]struct {
		screen Screen
		want   string
	}{
		"no screen": {Screen{}, "PID   UNIT                              PROGRAM\n" +
			"4711  invoice-agent@production.service  /opt/invoice/lib/日本/agent.py\n" +
			"1     -                                 /sbin/init\\u{1b}[2J\\u{a}\n"},
		"narrow": {Screen{Columns: 40, Unicode: true}, "PID   UNIT             PROGRAM\n" +
			"4711  invoice-agent@…  …ib/日本/agent.py\n" +
			"1     -                /sbin/init\\u{1b}…\n"},
		"ASCII": {Screen{Columns: 40}, "PID   UNIT             PROGRAM\n" +
			"4711  invoice-agent..  ..b/日本/agent.py\n" +
			"1     -                /sbin/init\\u{1b..\n"},
		"too narrow": {Screen{Columns: 5, Unicode: true}, "PID   UNIT        PROGRAM\n" +
			"4711  invoice-a…  …本/agent.py\n" +
			"1     -           /sbin/init\\…\n"},
	} {
		var b strings.Builder
		New(&b, false).On(row.screen).List(columns, rows)
		if b.String() != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, b.String(), row.want)
		}
		for line := range strings.Lines(b.String()) {
			if n := Columns(strings.TrimSuffix(line, "\n")); row.screen.Columns >= 40 && n > row.screen.Columns {
				t.Errorf("%s: line of %d columns", name, n)
			}
		}
	}
}

func TestSpansFit(t *testing.T) {
	spans := []Cell{{Text: "1 "}, {Text: "tainted", Style: Red}, {Text: "  /usr/bin/x\x1b]0;title\a"}}
	for columns, want := range map[int]string{
		0:  "1 tainted  /usr/bin/x\\u{1b}]0;title\\u{7}\n",
		14: "1 tainted  /u…\n", 9: "1 tainte…\n", 8: "1 taint…\n", 2: "1…\n", 1: "…\n",
	} {
		var b strings.Builder
		New(&b, false).On(Screen{Columns: columns, Unicode: true}).Spans(spans...)
		if b.String() != want {
			t.Errorf("%d columns: %q, want %q", columns, b.String(), want)
		}
	}
	var b strings.Builder
	New(&b, true).On(Screen{Columns: 9, Unicode: true}).Spans(Cell{Text: "ab "}, Cell{Text: "cdefgh", Style: Green})
	if want := "ab \x1b[32mcdefgh\x1b[0m\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestFrame(t *testing.T) {
	if got, want := Frame("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""}, {"a b c", 3, "a b|c"}, {"abcdef g", 3, "abcdef|g"}, {"ab  cd", 5, "ab cd"}, {"äö ü", 4, "äö ü"}, {"日本 x", 5, "日本|x"},
	} {
		if got := strings.Join(Fold(c.text, c.width), "|"); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestFieldsFit(t *testing.T) {
	fields := []Field{{Label: "unit", Value: "none"}, {Label: "environment", Value: "LANG=C PATH=/usr/local/sbin:/bin X=\x1b[2J", Style: Red}}
	var b strings.Builder
	New(&b, false).On(Screen{Columns: 24}).Fields("  ", fields...)
	want := "  unit         none\n  environment  LANG=C\n               PATH=/usr/local/sbin:/bin\n               X=\\u{1b}[2J\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}
