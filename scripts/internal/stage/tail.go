// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package stage

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// tail keeps the last lines that several programs wrote.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 40

func (t *tail) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		t.add(string(bytes.TrimRight(line, "\n")))
	}
	return len(p), nil
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if over := len(t.lines) - tailLines; over > 0 {
		t.lines = t.lines[over:]
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return strings.Join(t.lines, "\n") + "\n"
}

// prefixed returns a writer whose lines carry a name.
func (t *tail) prefixed(name string) io.Writer { return prefixed{t, name} }

type prefixed struct {
	tail *tail
	name string
}

func (w prefixed) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		w.tail.add(w.name + ": " + string(bytes.TrimRight(line, "\n")))
	}
	return len(p), nil
}
