// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a list. The kernel names a template by at most 15 fields of at most
// 16 characters; the largest data it lists are appended signatures and buffers.
const (
	MaxName = 255     // bytes of a template's name
	MaxData = 1 << 20 // bytes of template data
	MaxPCR  = 31      // index of a register

	// MaxEntry is the largest entry there can be, in any [Format].
	MaxEntry = 4 + maxDigest + 4 + MaxName + 4 + MaxData

	maxDigest  = 64  // SHA-512
	legacyName = 256 // IMA_EVENT_NAME_LEN_MAX + 1: what the "ima" template pads a name to
)

// ErrShort says that the data ends within an entry: a list that was cut, or a
// tail of which more is still to come.
var ErrShort = errors.New("the list ends within an entry")

// Code is the class of an [Error].
type Code string

// The classes of errors.
const (
	CodePCR   Code = "pcr"   // no register of a TPM
	CodeName  Code = "name"  // a template's name that no kernel gives
	CodeData  Code = "data"  // template data larger than any kernel lists
	CodeShort Code = "short" // the list ends within the entry: errors.Is(err, ErrShort)
	CodeText  Code = "text"  // a line of an ASCII list that is not an entry
)

// Error says which entry of a list is malformed, and how.
type Error struct {
	Code   Code
	Entry  uint64 // number of the entry, from 1; 0 where only [Next] was asked, which does not count
	Offset uint64 // of the entry in the list, in bytes
	Text   string
}

func (e *Error) Error() string {
	if e.Entry == 0 {
		return "malformed entry: " + e.Text
	}
	return fmt.Sprintf("malformed entry: number %d, at byte %d: %s", e.Entry, e.Offset, e.Text)
}

// Is makes a list that was cut an [ErrShort].
func (e *Error) Is(target error) bool { return target == ErrShort && e.Code == CodeShort }

// Format is how a list is written. The zero value is the list that every kernel
// has, binary_runtime_measurements.
type Format struct {
	// DigestSize is the length of the template digests in bytes. 0 stands for
	// 20, SHA-1. Kernels since 6.10 also have a list for each bank, such as
	// binary_runtime_measurements_sha256 with 32.
	DigestSize int
	// BigEndian says that numbers are written so. They are in the kernel's own
	// byte order, unless ima_canonical_fmt makes it little-endian.
	BigEndian bool
}

// Entry is one measurement. Its slices point into the list it was read from.
type Entry struct {
	PCR            uint32
	TemplateDigest []byte // as listed; all zero for a violation
	Template       []byte // name of the template, or its fields if it has no name; printable ASCII
	Data           []byte // template data as listed; of "ima" digest, length and name
	Raw            []byte // the whole entry
	bigEndian      bool
}

// Next returns the first entry of a little-endian list with SHA-1 template
// digests and what follows that entry. It returns [ErrShort] if data is empty or
// ends within the entry, and an [*Error] if it is malformed. It copies and
// allocates nothing, and looks at the frame only: see [Entry.Field] for what is
// inside.
func Next(data []byte) (Entry, []byte, error) { return Format{}.Next(data) }

// Next is the function [Next] for lists of another format.
//
//	PCR (4) || template digest || length (4) || name || length (4) || data
//
// The template "ima" has no length of its data, which is a digest (20), a
// length (4) and a name.
func (f Format) Next(data []byte) (Entry, []byte, error) {
	size := f.digestSize()
	head := 4 + size + 4
	if len(data) < head {
		return Entry{}, data, ErrShort
	}
	e := Entry{PCR: f.u32(data), TemplateDigest: data[4 : 4+size : 4+size], bigEndian: f.BigEndian}
	n := int(f.u32(data[4+size:]))
	if e.PCR > MaxPCR {
		return Entry{}, data, &Error{Code: CodePCR, Text: fmt.Sprintf("PCR %d, want at most %d", e.PCR, MaxPCR)}
	}
	if n == 0 || n > MaxName {
		return Entry{}, data, &Error{Code: CodeName, Text: fmt.Sprintf("template name of %d bytes, want 1 to %d", n, MaxName)}
	}
	at := head + n
	if len(data) < at {
		return Entry{}, data, ErrShort
	}
	e.Template = data[head:at:at]
	for _, c := range e.Template {
		if c <= ' ' || c > '~' {
			return Entry{}, data, &Error{Code: CodeName, Text: fmt.Sprintf("template name %q, want printable ASCII", e.Template)}
		}
	}
	lead, limit := 0, MaxData // bytes of data before a length, longest part behind it
	if e.legacy() {
		lead, limit = sha1.Size, legacyName
	}
	if len(data) < at+lead+4 {
		return Entry{}, data, ErrShort
	}
	m := f.u32(data[at+lead:])
	if uint64(m) > uint64(limit) {
		return Entry{}, data, &Error{Code: CodeData, Text: fmt.Sprintf("%d bytes of data, want at most %d", m, limit)}
	}
	end := at + lead + 4 + int(m)
	if len(data) < end {
		return Entry{}, data, ErrShort
	}
	if !e.legacy() {
		at += 4
	}
	e.Data, e.Raw = data[at:end:end], data[:end:end]
	return e, data[end:], nil
}

// legacy reports whether this is the template "ima", whose data are framed and
// hashed in a way of their own.
func (e *Entry) legacy() bool { return string(e.Template) == "ima" }

// Violation reports whether the kernel saw the file change while it measured
// it, or could not measure it. The data of such an entry are covered by nothing.
func (e *Entry) Violation() bool {
	for _, b := range e.TemplateDigest {
		if b != 0 {
			return false
		}
	}
	return true
}

func (f Format) digestSize() int {
	switch f.DigestSize {
	case 32, 48, 64:
		return f.DigestSize
	}
	return sha1.Size
}

func (f Format) u32(b []byte) uint32 {
	if f.BigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// Detect finds out the format of a list from its beginning, which should hold
// the whole first entry. A format in which the first template digest is that of
// its data is preferred; where nothing fits it is the zero value, so that
// reading the list says what is wrong with it.
func Detect(data []byte) Format {
	var found Format
	parsed := false
	for _, big := range []bool{false, true} {
		for _, size := range []int{20, 32, 48, 64} {
			f := Format{DigestSize: size, BigEndian: big}
			e, _, err := f.Next(data)
			if err != nil {
				continue
			}
			if !e.Violation() && e.CheckTemplateDigest() {
				return f
			}
			if !parsed {
				found, parsed = f, true
			}
		}
	}
	return found
}
