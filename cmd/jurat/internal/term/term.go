// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package term shows things to people: aligned tables, labelled fields, colour
// where it helps, and a yes-or-no question.
//
// It belongs to the jurat command. Its door is the terminal. What it prints
// comes from hosts, brokers and files, so it passes on no control character,
// no escape sequence and nothing that turns the direction of writing.
package term

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Style is how a text stands out.
type Style string

// The styles. They carry no meaning that the words do not carry as well.
const (
	Plain  Style = ""
	Bold   Style = "\x1b[1m"
	Dim    Style = "\x1b[2m"
	Red    Style = "\x1b[31m"
	Green  Style = "\x1b[32m"
	Yellow Style = "\x1b[33m"
	reset        = "\x1b[0m"
)

// IsTerminal reports whether v is a file that is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Clean makes a text safe to show: every character that does not print as
// itself becomes its number.
func Clean(s string) string {
	plain := utf8.ValidString(s)
	for _, r := range s {
		plain = plain && unicode.IsPrint(r)
	}
	if plain {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// CleanJSON makes JSON safe to show that may have characters in its texts which
// do not print as themselves. It stays the same value.
func CleanJSON(s string) string {
	if strings.IndexFunc(s, escaped) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !escaped(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func escaped(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// Cell is one cell of a table.
type Cell struct {
	Text  string
	Style Style
	Tail  bool // its end says more than its start: a list cuts it there
}

// Printer writes for people. The first error of the writer sticks, and nothing
// is written after it.
type Printer struct {
	w      io.Writer
	color  bool
	screen Screen
	err    error
}

// New returns a printer on w, with colour or without.
func New(w io.Writer, color bool) *Printer { return &Printer{w: w, color: color} }

// Err returns the first error of the writer.
func (p *Printer) Err() error { return p.err }

func (p *Printer) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

// Paint returns the cleaned text in a style, where colour is on.
func (p *Printer) Paint(style Style, s string) string {
	s = Clean(s)
	if !p.color || style == Plain || s == "" {
		return s
	}
	return string(style) + s + reset
}

// Line writes one line.
func (p *Printer) Line(format string, args ...any) {
	p.Styled(Plain, format, args...)
}

// Styled writes one line in a style.
func (p *Printer) Styled(style Style, format string, args ...any) {
	p.write(p.Paint(style, fmt.Sprintf(format, args...)) + "\n")
}

// Row writes one line that begins with a word in a style.
func (p *Printer) Row(style Style, word, rest string) {
	p.write(p.Paint(style, word) + Clean(rest) + "\n")
}

// Blank writes an empty line.
func (p *Printer) Blank() { p.write("\n") }

// Field is one labelled value.
type Field struct {
	Label, Value string
	Style        Style // of the value
}

// Fields writes labels and values in two columns. Fields without a value are
// left out. On a screen, values go on in further lines, between words.
func (p *Printer) Fields(indent string, fields ...Field) {
	width := 0
	for _, f := range fields {
		if f.Value != "" {
			width = max(width, utf8.RuneCountInString(f.Label))
		}
	}
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		p.write(indent + p.Paint(Dim, f.Label) + pad(f.Label, width) + "  ")
		lines := []string{f.Value}
		if p.screen.Columns > 0 {
			lines = Fold(Clean(f.Value), p.screen.Columns-len(indent)-width-2)
		}
		for i, line := range lines {
			if i > 0 {
				p.write(strings.Repeat(" ", len(indent)+width+2))
			}
			p.write(p.Paint(f.Style, line) + "\n")
		}
	}
}

// Table writes rows under a header, in columns. The last column is not padded.
func (p *Printer) Table(indent string, header []string, rows [][]Cell) {
	head := make([]Cell, len(header))
	for i, h := range header {
		head[i] = Cell{Text: h, Style: Dim}
	}
	all := append([][]Cell{head}, rows...)
	width := make([]int, len(header))
	for _, row := range all {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(Clean(c.Text)))
		}
	}
	for _, row := range all {
		var b strings.Builder
		b.WriteString(indent)
		for i, c := range row {
			b.WriteString(p.Paint(c.Style, c.Text))
			if i < len(row)-1 {
				b.WriteString(pad(Clean(c.Text), width[i]) + "  ")
			}
		}
		p.write(strings.TrimRight(b.String(), " ") + "\n")
	}
}

func pad(s string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// Ask puts a question to whoever sits at in, and returns whether the answer
// was yes. Everything but y and yes is no, and so is the end of the input.
func Ask(in io.Reader, out io.Writer, question string) (bool, error) {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", Clean(question)); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
