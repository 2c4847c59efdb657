// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/ima"
)

// imaList is the kernel's list of the files it measured, read as it grows. The
// kernel cannot say how long it is, only give it from some byte on, and no copy
// is kept: memory does not grow with it.
type imaList struct {
	path string

	mu   sync.Mutex // guards what follows
	file *os.File   // stands behind the entries that were read; nil: not open
	at   imaPlace
	sum  hash.Hash // over those entries

	// Of the goroutine that answers: a place that was asked for, so that the
	// next one, which is further on, is found without reading all before it.
	known imaPlace
}

// imaPlace is a place between two entries of the list.
type imaPlace struct {
	count  uint64 // entries before it
	offset int64  // bytes before it
}

func (p *imaPlace) pass(entry []byte) {
	p.count++
	p.offset += int64(len(entry))
}

// imaWindow is how much of the list is read at a time. It grows for an entry
// that is larger.
const imaWindow = 64 << 10

func newIMAList(path string) *imaList { return &imaList{path: path, sum: sha256.New()} }

// restart begins anew, with a list that begins anew.
func (l *imaList) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	l.at, l.known = imaPlace{}, imaPlace{}
	l.sum.Reset()
}

// close closes the file; the caller holds mu.
func (l *imaList) close() {
	if l.file != nil {
		l.file.Close() // it was only read
		l.file = nil
	}
}

// advance reads what is new, and returns how many entries there are now and the
// digest over all of them.
func (l *imaList) advance() (uint64, evidence.Value[evidence.Hash]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(); err != nil {
		// It is tried again the next time, from where it went wrong.
		l.close()
		if errors.Is(err, fs.ErrNotExist) {
			return 0, evidence.Unknown[evidence.Hash]("no-ima")
		}
		return 0, evidence.Unknown[evidence.Hash]("unreadable")
	}
	return l.at.count, evidence.Known(evidence.Hash(l.sum.Sum(nil)))
}

// read takes in what is new; the caller holds mu.
func (l *imaList) read() (err error) {
	if l.file == nil {
		if l.file, err = openAt(l.path, l.at.offset); err != nil {
			return err
		}
	}
	rest, err := scanIMA(l.file, func(entry []byte) bool {
		l.at.pass(entry)
		l.sum.Write(entry)
		return true
	})
	if err != nil {
		return fmt.Errorf("IMA list, entry %d: %w", l.at.count, err)
	}
	if rest > 0 { // an entry that is not whole yet
		_, err = l.file.Seek(l.at.offset, io.SeekStart)
	}
	return err
}

// find returns the place behind the first count entries; false if there are
// not as many.
func (l *imaList) find(count uint64) (imaPlace, bool, error) {
	at := l.known
	if count < at.count {
		at = imaPlace{}
	}
	if count > at.count {
		f, err := openAt(l.path, at.offset)
		if err != nil {
			return at, false, err
		}
		defer f.Close()
		if _, err := scanIMA(f, func(entry []byte) bool {
			at.pass(entry)
			return at.count < count
		}); err != nil {
			return at, false, err
		}
	}
	if at.count != count {
		return at, false, nil
	}
	l.known = at
	return at, true, nil
}

// tail appends the entries from a place on to data, as long as data has at most
// limit bytes then. It returns the place behind them, and whether the list goes
// on there.
func (l *imaList) tail(data []byte, at imaPlace, limit int) ([]byte, imaPlace, bool, error) {
	f, err := openAt(l.path, at.offset)
	if err != nil {
		return data, at, false, err
	}
	defer f.Close()
	more := false
	_, err = scanIMA(f, func(entry []byte) bool {
		if more = len(data)+len(entry) > limit; !more {
			data = append(data, entry...)
			at.pass(entry)
		}
		return !more
	})
	return data, at, more, err
}

func openAt(path string, offset int64) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// scanIMA hands every whole entry to take, until take wants no more or in
// gives none. It returns how many bytes it read behind those.
func scanIMA(in io.Reader, take func(entry []byte) bool) (rest int, err error) {
	buf := make([]byte, imaWindow)
	from, to := 0, 0
	for {
		for from < to {
			entry, _, err := ima.Next(buf[from:to])
			if errors.Is(err, ima.ErrShort) {
				break
			}
			if err != nil {
				return to - from, err
			}
			from += len(entry.Raw)
			if !take(entry.Raw) {
				return to - from, nil
			}
		}
		to = copy(buf, buf[from:to])
		from = 0
		if to == len(buf) { // ima.Next refuses an entry of more than ima.MaxEntry
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := in.Read(buf[to:])
		to += n
		switch {
		case errors.Is(err, io.EOF) || err == nil && n == 0:
			return to, nil
		case err != nil:
			return to, err
		}
	}
}
