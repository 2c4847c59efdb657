// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// openAnchor reads what was extended, if anything was. A file that is damaged
// counts as none: what the register holds is not known then, and whoever
// compares finds that out. But a log that ends before what was anchored is
// broken itself.
func (l *Log) openAnchor() error {
	f, err := os.OpenFile(filepath.Join(l.dir, anchorName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l.anchor.f = f
	state, err := readAnchor(f)
	if err != nil || state == nil {
		return err
	}
	l.anchor.state = state
	if state.Count == 0 {
		return nil
	}
	if l.last == nil || state.Number > l.last.Number {
		return broken("checkpoint %d was anchored, and is not here", state.Number)
	}
	_, err = l.anchored(state.Number, state.Last)
	return err
}

// readAnchor reads a whole file; nil if it is damaged.
func readAnchor(f io.ReaderAt) (*Anchor, error) {
	data, err := readSlot(f, 0)
	if errors.Is(err, errTorn) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := new(Anchor)
	if err := evidence.Unmarshal(data, &a.AnchorHeader); err != nil {
		return nil, nil
	}
	a.Before, a.Value = a.Base, a.Base
	whole, err := a.readAll(bufio.NewReaderSize(io.NewSectionReader(f, slotSize, 1<<62), 64<<10))
	if err != nil || !whole {
		return nil, err
	}
	return a, nil
}

// readAll takes in the records, and tells whether they are whole. A last one
// that is torn was never acted on, and is written over by the next.
func (a *Anchor) readAll(in io.Reader) (whole bool, err error) {
	var record [anchorRecord]byte
	for {
		_, err := io.ReadFull(in, record[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		number, digest, value, err := parseAnchor(record[:])
		if err != nil {
			_, err := io.ReadFull(in, record[:1])
			return errors.Is(err, io.EOF), ignoreEOF(err)
		}
		if number == 0 {
			a.Broken = true
			return true, nil
		}
		if number <= a.Number || value != fold(a.Value, digest) {
			return false, nil
		}
		a.Before = a.Value
		a.Count, a.Number, a.Last, a.Value = a.Count+1, number, digest, value
	}
}

// ignoreEOF drops the error that says where a file ends.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
