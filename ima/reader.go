// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"errors"
	"io"
)

// window is how much of a list a [Reader] reads at a time. It grows for an entry
// that is larger, up to [MaxEntry], as the bytes of that entry come in.
const window = 64 << 10

// Reader reads a binary list of any length and any [Format] in bounded memory.
type Reader struct {
	in       io.Reader
	buf      []byte // buf[from:to] is read and not yet returned
	from, to int
	started  bool
	end      error // what in said last
	format   Format
	entry    Entry
	count    uint64
	offset   uint64
}

// NewReader returns a reader of the list that in gives, from its first entry on.
func NewReader(in io.Reader) *Reader { return &Reader{in: in, buf: make([]byte, window)} }

// Next returns the next entry, which is good until Next is called again. At the
// end of the list it returns [io.EOF]; an [*Error] names the entry and where it
// begins; other errors are those of the reader below.
func (r *Reader) Next() (*Entry, error) {
	if !r.started {
		r.started = true
		for r.end == nil && r.to < len(r.buf) {
			r.fill()
		}
		r.format = Detect(r.buf[:r.to])
	}
	for {
		if r.from < r.to {
			e, rest, err := r.format.Next(r.buf[r.from:r.to])
			if err == nil {
				r.entry = e
				r.count++
				r.offset += uint64(len(e.Raw))
				r.from = r.to - len(rest)
				return &r.entry, nil
			}
			var malformed *Error
			if errors.As(err, &malformed) {
				malformed.Entry, malformed.Offset = r.count+1, r.offset
				return nil, malformed
			}
		}
		if r.end != nil {
			return nil, r.atEnd()
		}
		r.fill()
	}
}

// atEnd is what the end of the input means: that of the list, or a tear.
func (r *Reader) atEnd() error {
	if !errors.Is(r.end, io.EOF) {
		return r.end
	}
	if r.from < r.to {
		return &Error{Code: CodeShort, Entry: r.count + 1, Offset: r.offset, Text: ErrShort.Error()}
	}
	return io.EOF
}

// fill reads more, behind what is not yet returned.
func (r *Reader) fill() {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	if r.to == len(r.buf) { // one entry fills it all
		grown := make([]byte, 2*len(r.buf))
		copy(grown, r.buf)
		r.buf = grown
	}
	for range 100 {
		n, err := r.in.Read(r.buf[r.to:])
		r.to += n
		r.end = err
		if n > 0 || err != nil {
			return
		}
	}
	r.end = io.ErrNoProgress
}

// Rest returns what was read and is in no entry yet: after an error, the
// beginning of the entry that is malformed.
func (r *Reader) Rest() []byte { return r.buf[r.from:r.to] }

// Format returns the format of the list, once Next was called.
func (r *Reader) Format() Format { return r.format }

// Count returns how many entries were returned so far.
func (r *Reader) Count() uint64 { return r.count }

// Offset returns how many bytes the entries returned so far take.
func (r *Reader) Offset() uint64 { return r.offset }
