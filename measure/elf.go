// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// program is what measure needs of an ELF file. debug/elf reads section
// tables too, which whoever made the file can make as large as the file.
type program struct {
	loader bool // it names an interpreter (PT_INTERP)
	bits32 bool
}

var errNotELF = errors.New("not an ELF file")

const (
	ptInterp   = 3
	maxHeaders = 512 // program headers; the kernel takes one page of them
)

// parseProgram reads the headers of an ELF file.
func parseProgram(r io.ReaderAt) (program, error) {
	var head [64]byte
	if n, err := r.ReadAt(head[:], 0); n < 52 {
		return program{}, fmt.Errorf("header of %d bytes: %w", n, errors.Join(errNotELF, err))
	}
	if !bytes.HasPrefix(head[:], []byte("\x7fELF")) || head[5] != 1 {
		return program{}, errNotELF // only little-endian runs where this runs
	}
	var (
		le            = binary.LittleEndian
		p             program
		offset        uint64
		size, n, want uint16
	)
	switch head[4] {
	case 1:
		p.bits32 = true
		offset, size, n, want = uint64(le.Uint32(head[28:])), le.Uint16(head[42:]), le.Uint16(head[44:]), 32
	case 2:
		offset, size, n, want = le.Uint64(head[32:]), le.Uint16(head[54:]), le.Uint16(head[56:]), 56
	default:
		return program{}, errNotELF
	}
	if size != want || n > maxHeaders || offset > 1<<40 {
		return program{}, fmt.Errorf("%d program headers of %d bytes at %d: %w", n, size, offset, errNotELF)
	}
	table := make([]byte, int(n)*int(size))
	if k, err := r.ReadAt(table, int64(offset)); k < len(table) {
		return program{}, fmt.Errorf("program headers end after %d of %d bytes: %w", k, len(table), errors.Join(errNotELF, err))
	}
	for ; len(table) > 0; table = table[size:] {
		if le.Uint32(table) == ptInterp {
			p.loader = true
		}
	}
	return p, nil
}

const atBase = 7 // AT_BASE: where the kernel mapped the ELF interpreter

// loaderBase returns AT_BASE of /proc/PID/auxv, 0 where there is no loader.
func loaderBase(auxv []byte, bits32 bool) (uint64, error) {
	word := 8
	if bits32 {
		word = 4
	}
	number := func(b []byte) uint64 {
		if bits32 {
			return uint64(binary.LittleEndian.Uint32(b))
		}
		return binary.LittleEndian.Uint64(b)
	}
	for len(auxv) >= 2*word {
		key, value := number(auxv), number(auxv[word:])
		if key == 0 {
			return 0, nil
		}
		if key == atBase {
			return value, nil
		}
		auxv = auxv[2*word:]
	}
	return 0, fmt.Errorf("auxiliary vector has no end")
}
