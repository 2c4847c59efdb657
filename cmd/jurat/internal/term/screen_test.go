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
	columns := []Column{{Title: "PID"}, {Title: "UNIT", Give: true}, {Title: "PROGRAM", Give: true, Tail: true}}
	rows := [][]Cell{
		{{"4711", Plain}, {"invoice-agent@production.service", Plain}, {"/opt/invoice/lib/日本/agent.py", Plain}},
		{{"1", Red}, {"-", Plain}, {"/sbin/init\x1b[2J\n", Plain}},
	}
	for name, row := range map[string]struct {
		screen Screen
		want   string
	}{
		"no screen": {Screen{}, "PID   UNIT                              PROGRAM\n" +
			"4711  invoice-agent@production.service  /opt/invoice/lib/日本/agent.py\n" +
			"1     -                                 /sbin/init\\u{1b}[2J\\u{a}\n"},
		"narrow": {Screen{Columns: 40, Unicode: true}, "PID   UNIT              PROGRAM\n" +
			"4711  invoice-agent@p…  …b/日本/agent.py\n" +
			"1     -                 …t\\u{1b}[2J\\u{a}\n"},
		"ASCII": {Screen{Columns: 40}, "PID   UNIT              PROGRAM\n" +
			"4711  invoice-agent@..  ../日本/agent.py\n" +
			"1     -                 ..\\u{1b}[2J\\u{a}\n"},
		"too narrow": {Screen{Columns: 5, Unicode: true}, "PID   UNIT        PROGRAM\n" +
			"4711  invoice-a…  …/agent.py\n" +
			"1     -           …}[2J\\u{a}\n"},
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
	spans := []Cell{{"1 ", Plain}, {"tainted", Red}, {"  /usr/bin/x\x1b]0;title\a", Plain}}
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
	New(&b, true).On(Screen{Columns: 9, Unicode: true}).Spans(Cell{"ab ", Plain}, Cell{"cdefgh", Green})
	if want := "ab \x1b[32mcdefgh\x1b[0m\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestFrame(t *testing.T) {
	if got, want := Frame("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
