// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// Most bytes that are read of a file.
const (
	maxSmall    = 64 << 10  // of what has a few lines
	maxIMA      = 256 << 20 // of the list of IMA, more than a million entries
	maxCrypttab = 1 << 20
)

const securityFS = "/sys/kernel/security"

// asRoot is what to do where a file may not be read.
const asRoot = "run it with sudo"

// regular opens a file. Nothing may make the doctor wait, so that a pipe or a
// device in its place is an error.
func regular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// read returns a whole file below the root, of at most limit bytes.
func (e *examination) read(path string, limit int) ([]byte, error) {
	return readAll(e.Root+path, limit)
}

func readAll(path string, limit int) ([]byte, error) {
	f, err := regular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, err
}

// line returns the one line of a file.
func (e *examination) line(path string) (string, error) {
	raw, err := e.read(path, maxSmall)
	return strings.TrimSpace(string(raw)), err
}

// missing reports whether err says that there is no such file.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// mounted reports whether the kernel's security file system is there at all.
func (e *examination) mounted() bool {
	entries, err := os.ReadDir(e.Root + securityFS)
	return err != nil || len(entries) > 0
}

// mountHint is what to do where securityfs is empty.
const mountHint = "mount -t securityfs securityfs " + securityFS

// unread is a check of a file that is there and could not be read.
func unread(name, path string, err error) Check {
	if errors.Is(err, fs.ErrPermission) {
		return Check{name, Unknown, "no permission to read " + path, asRoot}
	}
	if missing(err) {
		return Check{name, Unknown, "no " + path, ""}
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return Check{name, Unknown, fmt.Sprintf("%s: %v", path, err), "read the file by hand to see why"}
}

// list puts numbers into a sentence: "8, 9 and 14".
func list(numbers []int) string {
	var b strings.Builder
	for i, n := range numbers {
		switch {
		case i > 0 && i == len(numbers)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// clip cuts a text that others wrote to what fits into a line.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
