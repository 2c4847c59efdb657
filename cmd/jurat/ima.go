// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/ima"
)

// maxIMAList is the longest list that is read, in bytes: some millions of
// entries, more than a host measures in months.
const maxIMAList = 1 << 30

func (a *app) imaCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "ima",
		Short:   "look at lists of what the kernel measured (IMA)",
		Example: "  jurat ima show binary_runtime_measurements\n  jurat ima replay binary_runtime_measurements --pcr10 3f2a…",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.imaShowCommand(), a.imaReplayCommand())
	return c
}

// imaList is an IMA list that is being read, in either form.
type imaList struct {
	name   string
	text   bool // ASCII
	reader *ima.Reader
	lines  *ima.TextReader
	in     *counted
	file   io.Closer // nil for standard input
	count  uint64
	// lineFeed says that a lone line feed followed the last entry, as editors
	// and shells leave it.
	lineFeed bool
}

// counted counts what is read of a list, and ends it at maxIMAList.
type counted struct {
	in io.Reader
	n  int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.n > maxIMAList {
		return 0, fmt.Errorf("more than %d bytes", maxIMAList)
	}
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// openIMA opens a list by its name, or standard input when it is called "-".
func (a *app) openIMA(name string) (*imaList, error) {
	l := &imaList{name: name, in: &counted{in: a.in}}
	if name != "-" {
		f, err := openRegular(name)
		if err != nil {
			return nil, err
		}
		l.in.in, l.file = f, f
	}
	in := bufio.NewReaderSize(l.in, 1<<16)
	start, err := in.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		l.close()
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if l.text = ima.IsText(start); l.text {
		l.lines = ima.NewTextReader(in)
	} else {
		l.reader = ima.NewReader(in)
	}
	return l, nil
}

func (l *imaList) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// next returns the next entry, or io.EOF.
func (l *imaList) next() (*ima.Entry, error) {
	var e *ima.Entry
	var err error
	if l.text {
		e, err = l.lines.Next()
	} else {
		e, err = l.reader.Next()
	}
	var malformed *ima.Error
	switch {
	case err == nil:
		l.count++
		return e, nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, ima.ErrShort) && l.count > 0 && bytes.Equal(l.reader.Rest(), []byte{'\n'}):
		l.lineFeed = true
		return nil, io.EOF
	case errors.As(err, &malformed):
		return nil, l.malformed(err)
	case l.in.n > maxIMAList:
		return nil, malformedInput(l.name, err)
	}
	return nil, fmt.Errorf("reading %s: %w", l.name, err)
}

func (l *imaList) malformed(err error) error {
	f := &failure{exit: exitNo, code: "malformed", err: fmt.Errorf("%s: %w", l.name, err)}
	switch {
	case l.text:
		f.hint = "a line feed in a path breaks an ASCII list: use binary_runtime_measurements"
	case errors.Is(err, ima.ErrShort):
		f.hint = "the list was cut, or more of it was still to come"
	case l.count == 0:
		f.hint = "an IMA list is /sys/kernel/security/ima/binary_runtime_measurements, or ascii_runtime_measurements"
	}
	return f
}

// form names the form of the list for people and scripts.
func (l *imaList) form() string {
	if l.text {
		return "ascii"
	}
	return "binary"
}
