// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// maxLine is the longest line of an ASCII list: data in hexadecimal.
const maxLine = 2*MaxEntry + 1

// IsText reports whether a list that begins so is an ASCII list. No entry of a
// binary list begins with a digit or a space, as no TPM has that many registers.
func IsText(data []byte) bool {
	return len(data) > 0 && (data[0] == ' ' || data[0] >= '0' && data[0] <= '9')
}

// TextReader reads an ASCII list (ascii_runtime_measurements). It makes the
// entries that the binary list would have, which works where the template is
// known and nothing was lost in writing: where [Entry.CheckTemplateDigest]
// agrees, the entry is exact. Where it does not, the template digest is all that
// is left of the entry. A line feed in a path breaks the form, and is an error.
type TextReader struct {
	lines  *bufio.Scanner
	entry  Entry
	raw    []byte
	count  uint64
	offset uint64
	width  int // of the line read last, with its end
}

// NewTextReader returns a reader of the list that in gives.
func NewTextReader(in io.Reader) *TextReader {
	r := &TextReader{lines: bufio.NewScanner(in)}
	r.lines.Buffer(nil, maxLine)
	r.lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			r.width = i + 1
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			r.width = len(data)
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	return r
}

// Next returns the next entry, which is good until Next is called again. At the
// end of the list it returns [io.EOF]; an [*Error] names the line, as its entry.
func (r *TextReader) Next() (*Entry, error) {
	if !r.lines.Scan() {
		switch err := r.lines.Err(); {
		case err == nil:
			return nil, io.EOF
		case errors.Is(err, bufio.ErrTooLong):
			return nil, r.malformed("a line of more than " + strconv.Itoa(maxLine) + " bytes")
		default:
			return nil, err
		}
	}
	if text := r.parse(r.lines.Bytes()); text != "" {
		return nil, r.malformed(text)
	}
	r.count++
	r.offset += uint64(r.width)
	return &r.entry, nil
}

func (r *TextReader) malformed(text string) error {
	return &Error{Code: CodeText, Entry: r.count + 1, Offset: r.offset, Text: text}
}

// parse makes the entry of a line, and says what is wrong with the line.
//
//	%2d PCR, template digest in hexadecimal, template name, fields
func (r *TextReader) parse(line []byte) string {
	number, rest, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	pcr, err := strconv.ParseUint(string(number), 10, 32)
	if err != nil || pcr > MaxPCR {
		return fmt.Sprintf("the line begins with %.20q, want a PCR", number)
	}
	text, rest, _ := bytes.Cut(rest, []byte{' '})
	size := hex.DecodedLen(len(text))
	if len(text)%2 != 0 || size != 20 && size != 32 && size != 48 && size != 64 {
		return fmt.Sprintf("template digest of %d digits, want 40, 64, 96 or 128", len(text))
	}
	name, rest, more := bytes.Cut(rest, []byte{' '})
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Sprintf("template name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	le := binary.LittleEndian
	raw := le.AppendUint32(r.raw[:0], uint32(pcr))
	raw, err = hex.AppendDecode(raw, text)
	if err != nil {
		return fmt.Sprintf("template digest %.20q, want hexadecimal", text)
	}
	raw = append(le.AppendUint32(raw, uint32(len(name))), name...)
	at := len(raw)
	legacy := string(name) == "ima"
	if !legacy {
		raw = append(raw, 0, 0, 0, 0)
	}
	if l := layout(name); l != nil && more {
		if with, ok := appendFields(raw, l, rest, legacy); ok {
			raw = with
		}
	}
	if legacy && len(raw) == at { // its data have a least length
		raw = append(raw, make([]byte, 24)...)
	} else if !legacy {
		le.PutUint32(raw[at:], uint32(len(raw)-at-4))
	}
	r.raw = raw
	entry, tail, err := Format{DigestSize: size}.Next(raw)
	if err != nil || len(tail) != 0 {
		return fmt.Sprintf("no entry of a binary list: %v", err)
	}
	r.entry = entry
	return ""
}

// appendFields writes the fields of a line as the binary list has them. What
// does not fit its form makes the whole entry one that cannot be had back.
func appendFields(dst, layout, rest []byte, legacy bool) ([]byte, bool) {
	more, known := true, true
	for len(layout) > 0 {
		if !known || !more {
			return nil, false
		}
		var id, text []byte
		id, layout, _ = bytes.Cut(layout, []byte{'|'})
		if len(layout) == 0 {
			text, more = rest, false // a name may have anything in it
		} else {
			text, rest, more = bytes.Cut(rest, []byte{' '})
		}
		bare := legacy && string(id) == "d"
		at := len(dst)
		if !bare {
			dst = append(dst, 0, 0, 0, 0)
		}
		start := len(dst)
		dst, known = appendField(dst, id, text, legacy)
		if known && !bare {
			binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-start))
		}
	}
	return dst, known
}

// appendField writes one field; false says that the text has another form.
func appendField(dst, id, text []byte, legacy bool) ([]byte, bool) {
	switch fieldForm(id) {
	case formDigest, formHex:
		dst, err := hex.AppendDecode(dst, text)
		return dst, err == nil
	case formAlgorithm:
		if len(text) == 0 {
			return dst, true
		}
		i := bytes.LastIndexByte(text, ':')
		dst = append(append(dst, text[:max(i, 0)]...), ':', 0)
		dst, err := hex.AppendDecode(dst, text[i+1:])
		return dst, err == nil
	case formString:
		dst = append(dst, text...)
		if !legacy && (len(text) > 0 || string(id) == "n-ng") {
			dst = append(dst, 0)
		}
		return dst, true
	case formNumber:
		n, err := strconv.ParseUint(string(text), 10, 32)
		if string(id) == "imode" {
			return binary.LittleEndian.AppendUint16(dst, uint16(n)), err == nil && n <= math.MaxUint16
		}
		return binary.LittleEndian.AppendUint32(dst, uint32(n)), err == nil
	}
	return dst, false
}
