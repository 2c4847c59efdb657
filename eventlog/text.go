// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// clean makes text of a log safe to show in one line: what does not print as
// itself becomes a question mark in a box (U+FFFD), and a long text is cut.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxText {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
	return b.String()
}

// hexadecimal writes bytes, at most 16 of them.
func hexadecimal(b []byte) string {
	const most = 16
	if len(b) > most {
		return fmt.Sprintf("%x… (%d bytes)", b[:most], len(b))
	}
	if len(b) == 0 {
		return "nothing"
	}
	return hex.EncodeToString(b)
}

// ascii returns text of one byte per character, its trailing zeros cut, if it
// is printable as a whole.
func ascii(b []byte) (string, bool) {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 || !utf8.Valid(b) {
		return "", false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return "", false
		}
	}
	return string(b), true
}

// ucs2 returns text in UTF-16, as firmware writes it, its trailing zeros cut, if
// it is printable as a whole. An odd last byte that is zero is taken for half of
// the terminator, which some boot loaders cut.
func ucs2(b []byte) (string, bool) {
	if len(b)%2 == 1 {
		if b[len(b)-1] != 0 {
			return "", false
		}
		b = b[:len(b)-1]
	}
	for len(b) >= 2 && b[len(b)-1] == 0 && b[len(b)-2] == 0 {
		b = b[:len(b)-2]
	}
	if len(b) == 0 {
		return "", false
	}
	s := decodeUTF16(b)
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return "", false
		}
	}
	return s, true
}

// decodeUTF16 decodes little-endian UTF-16, whatever it is.
func decodeUTF16(b []byte) string {
	var s strings.Builder
	s.Grow(len(b) / 2)
	for len(b) >= 2 {
		r := rune(binary.LittleEndian.Uint16(b))
		b = b[2:]
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if len(b) >= 2 {
				low = rune(binary.LittleEndian.Uint16(b))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				b = b[2:]
			}
		}
		s.WriteRune(r)
	}
	return s.String()
}

// text returns what is printable in b, in UTF-16 or in bytes. UTF-16 is tried
// first where every second byte is zero, as in all text firmware writes.
func text(b []byte) (string, bool) {
	if len(b) >= 4 && b[1] == 0 && b[0] != 0 {
		if s, ok := ucs2(b); ok {
			return s, true
		}
	}
	return ascii(b)
}

// words returns text of b, or says that it is not text.
func words(b []byte) string {
	if s, ok := text(b); ok {
		return "\"" + clean(s) + "\""
	}
	if len(b) == 0 {
		return "nothing"
	}
	return hexadecimal(b)
}

// guid is a GUID as it is in memory: the first three fields little-endian.
type guid [16]byte

func (g guid) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// GUIDs of variables and signature types (UEFI 2.10 sections 3.3 and 32.4, shim).
var (
	guidGlobal        = guid{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	guidImageSecurity = guid{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	guidShim          = guid{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	guidMicrosoft     = guid{0xbd, 0x9a, 0xfa, 0x77, 0x59, 0x03, 0x32, 0x4d, 0xbd, 0x60, 0x28, 0xf4, 0xe7, 0x8f, 0x78, 0x4b}

	guidX509   = guid{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	guidSHA256 = guid{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
)

var guidNames = map[guid]string{
	guidGlobal: "EFI global", guidImageSecurity: "image security database", guidShim: "shim", guidMicrosoft: "Microsoft",
}

func (g guid) name() string {
	if n, ok := guidNames[g]; ok {
		return n
	}
	return g.String()
}
