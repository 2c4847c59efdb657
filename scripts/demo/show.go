// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// show prints what happens: one line a step, with progress while it runs when
// the output is a terminal.
type show struct {
	out      io.Writer
	terminal bool
	color    bool
	width    int // columns of the terminal; 0: do not cut
}

func newShow(out *os.File) *show {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	terminal := err == nil && os.Getenv("TERM") != "dumb"
	s := &show{out: out, terminal: terminal, color: terminal && os.Getenv("NO_COLOR") == ""}
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil && terminal {
		s.width = int(size.Col)
	}
	return s
}

// cut makes text fit behind an indent; wrapped lines could not be taken back.
func (s *show) cut(text string, indent int) string {
	room := s.width - indent
	if letters := []rune(text); s.width > 0 && room > 3 && len(letters) > room {
		return string(letters[:room-3]) + "..."
	}
	return text
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	reset = "\x1b[0m"
)

func (s *show) paint(color, text string) string {
	if !s.color {
		return text
	}
	return color + text + reset
}

func (s *show) title(text string) { fmt.Fprintln(s.out, s.paint(bold, text)) }

func (s *show) note(text string) { fmt.Fprintln(s.out, s.paint(dim, text)) }

func (s *show) act(number int, title string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, fmt.Sprintf("%d  %s", number, title)))
}

// begin announces a step; the function it returns ends the line.
func (s *show) begin(name string) func(error) {
	start := time.Now()
	quit := make(chan struct{})
	var running sync.WaitGroup
	if s.terminal {
		running.Go(func() { s.spin(name, quit) })
	}
	return func(err error) {
		close(quit)
		running.Wait()
		if s.terminal {
			fmt.Fprint(s.out, "\r\x1b[K")
		}
		mark := s.paint(green, "ok  ")
		if err != nil {
			mark = s.paint(red, "FAIL")
		}
		fmt.Fprintf(s.out, "   %s %s%s\n", mark, name, s.paint(dim, fmt.Sprintf("  %.1f s", time.Since(start).Seconds())))
	}
}

func (s *show) spin(name string, quit <-chan struct{}) {
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		fmt.Fprintf(s.out, "\r   %s    %s", s.paint(dim, string(`|/-\`[i%4])), s.cut(name, 9))
		select {
		case <-quit:
			return
		case <-tick.C:
		}
	}
}

func (s *show) detail(lines []string) {
	for _, line := range lines {
		fmt.Fprintf(s.out, "        %s\n", s.paint(dim, s.cut(strings.TrimRight(line, "\n"), 8)))
	}
}

func (s *show) failed(err error) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint(red, "Not as expected: "+err.Error()))
}

func (s *show) done(took time.Duration) {
	fmt.Fprintf(s.out, "\n%s %s\n", s.paint(green, "Everything went as it should."), s.paint(dim, fmt.Sprintf("%.0f s, all parts removed again.", took.Seconds())))
}
