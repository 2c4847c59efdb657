// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package term

import (
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/text/width"
)

// Screen is what there is room for.
type Screen struct {
	Columns int  // 0: lines may be of any length
	Rows    int  // 0: not known
	Unicode bool // it shows more than ASCII
}

// Size returns the size of the terminal v; zeros where it is none, or does not
// say.
func Size(v any) (columns, rows int) {
	f, ok := v.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// On makes the printer fit lists and spans to a screen, and returns it.
func (p *Printer) On(s Screen) *Printer {
	p.screen = s
	return p
}

// Columns returns how many columns a terminal gives a text that is clean:
// wide characters take two, those that only mark another take none.
func Columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r < utf8.RuneSelf {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func (p *Printer) dots() string {
	if p.screen.Unicode {
		return "…"
	}
	return ".."
}

// cut shortens a clean text to so many columns, at its end or at its start,
// and shows that it did.
func (p *Printer) cut(s string, columns int, start bool) string {
	if Columns(s) <= columns {
		return s
	}
	dots := p.dots()
	runes := []rune(s)
	if start {
		slices.Reverse(runes)
	}
	room, kept := columns-Columns(dots), 0
	for kept < len(runes) && runeColumns(runes[kept]) <= room {
		room -= runeColumns(runes[kept])
		kept++
	}
	runes = runes[:kept]
	if start {
		slices.Reverse(runes)
		return dots + string(runes)
	}
	return string(runes) + dots
}

// Spans writes one line of texts in styles, as far as the screen has room.
func (p *Printer) Spans(spans ...Cell) {
	room := p.screen.Columns
	if room == 0 {
		room = int(^uint(0) >> 1)
	}
	var b strings.Builder
	for i, c := range spans {
		text := Clean(c.Text)
		if n := Columns(text); n > room || n == room && hasText(spans[i+1:]) {
			b.WriteString(p.Paint(c.Style, p.cut(text+" ", room, false)))
			break
		} else {
			room -= n
		}
		b.WriteString(p.Paint(c.Style, text))
	}
	p.write(strings.TrimRight(b.String(), " ") + "\n")
}

func hasText(spans []Cell) bool {
	return slices.ContainsFunc(spans, func(c Cell) bool { return strings.TrimSpace(c.Text) != "" })
}

// Column is one column of a list.
type Column struct {
	Title string
	// Least, where it is not 0, is how few columns of the screen its texts may be
	// cut to: at their end, or at their start where the cell says so.
	Least int
}

// List writes rows under titles, cut to fit the screen.
func (p *Printer) List(columns []Column, rows [][]Cell) {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = Columns(c.Title)
	}
	texts := make([][]string, len(rows))
	for n, row := range rows {
		texts[n] = make([]string, len(row))
		for i, c := range row {
			texts[n][i] = Clean(c.Text)
			widths[i] = max(widths[i], Columns(texts[n][i]))
		}
	}
	p.squeeze(columns, widths)
	line := func(text func(i int) string, style func(i int) Style, tail func(i int) bool) {
		var b strings.Builder
		for i := range columns {
			t := p.cut(text(i), widths[i], tail(i))
			b.WriteString(p.Paint(style(i), t))
			if i < len(columns)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-Columns(t)+2))
			}
		}
		p.write(strings.TrimRight(b.String(), " ") + "\n")
	}
	line(func(i int) string { return columns[i].Title }, func(int) Style { return Dim }, func(int) bool { return false })
	for n, row := range rows {
		line(func(i int) string { return texts[n][i] }, func(i int) Style { return row[i].Style }, func(i int) bool { return row[i].Tail })
	}
}

// squeeze takes room from the column that has most above its least, until all
// fit or none gives any more.
func (p *Printer) squeeze(columns []Column, widths []int) {
	if p.screen.Columns == 0 {
		return
	}
	excess := 2*(len(widths)-1) - p.screen.Columns
	for _, w := range widths {
		excess += w
	}
	for ; excess > 0; excess-- {
		richest, most := -1, 0
		for i, c := range columns {
			if spare := widths[i] - max(c.Least, Columns(c.Title)); c.Least > 0 && spare > most {
				richest, most = i, spare
			}
		}
		if richest < 0 {
			return
		}
		widths[richest]--
	}
}

// Width returns how many columns lines may have: most, or what the screen has.
func (p *Printer) Width(most int) int {
	if p.screen.Columns > 0 {
		return min(most, p.screen.Columns)
	}
	return most
}

// Fold breaks a text between words into lines of at most width columns; a
// longer word has a line of its own. No text has no line.
func Fold(text string, width int) []string {
	var lines []string
	length := 0
	for _, word := range strings.Fields(text) {
		n := Columns(word)
		if len(lines) > 0 && length+1+n <= width {
			lines[len(lines)-1] += " " + word
			length += 1 + n
			continue
		}
		lines, length = append(lines, word), n
	}
	return lines
}

// Frame puts a text over what the terminal shows, from the top left corner on,
// without a flicker.
func Frame(text string) string {
	return "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
}
