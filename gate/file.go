// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"bytes"
	"encoding/binary"
	"runtime"

	"github.com/jurat-dev/jurat/evidence"
)

// Form is what the kernel makes of a file it is to execute, told from its
// first bytes.
type Form uint8

// The forms.
const (
	FormUnread  Form = iota // nobody looked
	FormStatic              // ELF of this machine that names no loader
	FormDynamic             // ELF of this machine that names a loader
	FormScript              // begins with "#!"
	FormOther               // anything else: binfmt_misc has a handler for it, or nobody has
)

// program reports whether the kernel ends at a file of this form: no further
// file is opened to run it, but for its loader.
func (f Form) program() bool { return f == FormStatic || f == FormDynamic }

// File is one file that was held before it ran.
type File struct {
	ID          evidence.FileID // as fstat showed it when it was hashed
	Digest      evidence.Value[evidence.Digest]
	Form        Form
	Interpreter string // of a script: what its first line names
	Stacked     bool   // on overlayfs: the file below follows as one of its own
}

// headSize is how much of a file is read to tell its form. The kernel reads
// 256 bytes; the program headers of an ELF file mostly follow its header.
const headSize = 1024

// scriptLine is how much of a script the kernel looks at (BINPRM_BUF_SIZE).
const scriptLine = 256

// form tells the form of a file from its first bytes. more reads what else is
// needed of it: the program headers, where they are elsewhere.
func form(head []byte, more func(at int64, size int) []byte) (Form, string) {
	if bytes.HasPrefix(head, []byte("#!")) {
		name, ok := interpreter(head[:min(len(head), scriptLine)])
		if !ok {
			return FormOther, ""
		}
		return FormScript, name
	}
	if !bytes.HasPrefix(head, []byte("\x7fELF")) || len(head) < 52 || head[5] != 1 {
		return FormOther, ""
	}
	wide := head[4] == 2
	if !native(binary.LittleEndian.Uint16(head[18:]), wide) {
		return FormOther, ""
	}
	at, size, count := int64(binary.LittleEndian.Uint32(head[28:])), 32, int(binary.LittleEndian.Uint16(head[44:]))
	if wide {
		if len(head) < 64 {
			return FormOther, ""
		}
		at, size, count = int64(binary.LittleEndian.Uint64(head[32:])), 56, int(binary.LittleEndian.Uint16(head[56:]))
	}
	table := headers(head, at, size*count, more)
	if table == nil {
		return FormOther, ""
	}
	for ; len(table) >= size; table = table[size:] {
		if binary.LittleEndian.Uint32(table) == 3 { // PT_INTERP
			return FormDynamic, ""
		}
	}
	return FormStatic, ""
}

// headers returns the program headers of an ELF file; nil where the kernel
// would take none: it reads at most a page for every 64 KiB of them.
func headers(head []byte, at int64, size int, more func(int64, int) []byte) []byte {
	if size <= 0 || size > 64<<10 || at < 0 {
		return nil
	}
	if at+int64(size) <= int64(len(head)) {
		return head[at:][:size]
	}
	if table := more(at, size); len(table) == size {
		return table
	}
	return nil
}

// native reports whether this kernel may run ELF files of that machine itself.
func native(machine uint16, wide bool) bool {
	const i386, x8664, arm, aarch64 = 3, 62, 40, 183
	switch runtime.GOARCH {
	case "amd64":
		return machine == x8664 || machine == i386 && !wide
	case "arm64":
		return machine == aarch64 && wide || machine == arm && !wide
	}
	return false
}

// interpreter returns what the first line of a script names, as load_script of
// the kernel reads it: the first word behind "#!", and only if the line or the
// word ends within what the kernel looks at.
func interpreter(head []byte) (string, bool) {
	line, whole := head[2:], false
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line, whole = line[:end], true
	}
	line = bytes.TrimLeft(line, " \t")
	if end := bytes.IndexAny(line, " \t\x00"); end >= 0 {
		line, whole = line[:end], true
	}
	whole = whole || len(head) < scriptLine // the file ends here
	return string(line), whole && len(line) > 0
}
