// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import "fmt"

// Opened is a file that a process opened for reading.
type Opened struct {
	File  File  // as the kernel holds it: not the file below on a stacked file system
	Class Class // why it is told
	Path  Path
}

// Class says what an opened file is, by its name or size.
type Class uint8

// The classes, decided in the kernel in this order.
const (
	ClassCode  Class = iota + 1 // the suffix of a source or bytecode file
	ClassModel                  // the suffix of a model, or a name of 64 hex digits as content-addressed stores have
	ClassLarge                  // 64 MiB or more
)

var classNames = [...]string{"", "code", "model", "large"}

// String returns the name of the class.
func (c Class) String() string {
	if int(c) < len(classNames) && c != 0 {
		return classNames[c]
	}
	return fmt.Sprintf("class-%d", uint8(c))
}

// Path is where a file was found in the opener's mount namespace at that
// moment: a hint for people, never an identity.
type Path struct {
	Cut bool // only the end of it fits: String does not begin at the root
	n   uint16
	b   [pathMax]byte
}

// NewPath returns s, or as much of its end as a record carries.
func NewPath(s string) Path {
	var p Path
	p.Cut = len(s) > pathMax
	p.n = uint16(copy(p.b[:], s[max(0, len(s)-pathMax):]))
	return p
}

// String returns the path.
func (p *Path) String() string { return string(p.b[:p.n]) }

// Bytes returns the path without a copy; it is valid as long as p.
func (p *Path) Bytes() []byte { return p.b[:p.n] }
