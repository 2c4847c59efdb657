// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// Recovery is what opening found behind the last checkpoint.
type Recovery struct {
	Kept  uint64 // whole entries behind the last checkpoint
	Cut   int64  // bytes behind them that were no whole entry, and are gone
	Epoch uint64 // the highest epoch that a checkpoint or a start entry names
}

// Open opens the log in dir and makes it if there is none. It takes the
// directory for this process alone.
func Open(dir string) (*Log, Recovery, error) {
	if err := makeDir(dir); err != nil {
		return nil, Recovery{}, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	l := &Log{lock: lock, dir: dir}
	r, err := l.open()
	if err != nil {
		for _, f := range l.files() {
			err = errors.Join(err, f.Close())
		}
		return nil, Recovery{}, err
	}
	return l, r, nil
}

func (l *Log) open() (Recovery, error) {
	var err error
	if l.entries, err = openTail(l.dir, "entries"); err != nil {
		return Recovery{}, err
	}
	if l.offsets, err = openTail(l.dir, "offsets"); err != nil {
		return Recovery{}, err
	}
	if l.hashes, err = openTail(l.dir, "hashes"); err != nil {
		return Recovery{}, err
	}
	if l.checks, err = openSlots(l.dir, "checkpoints"); err != nil {
		return Recovery{}, err
	}
	if l.quotes, err = openSlots(l.dir, "quotes"); err != nil {
		return Recovery{}, err
	}
	l.tree = evidence.NewTree(l.readHashes)
	if err := l.readMark(); err != nil {
		return Recovery{}, err
	}
	if err := l.readLast(); err != nil {
		return Recovery{}, err
	}
	if err := l.openAnchor(); err != nil {
		return Recovery{}, err
	}
	end, err := l.honour()
	if err != nil {
		return Recovery{}, err
	}
	r, err := l.keepTail(end)
	if err != nil {
		return Recovery{}, err
	}
	if l.last != nil {
		r.Epoch = max(r.Epoch, l.last.Epoch)
	}
	err = errors.Join(l.entries.f.Sync(), l.offsets.f.Sync(), l.hashes.f.Sync(), syncDir(l.dir))
	return r, err
}

// readMark finds the newer of the two marks. One of them may be torn: then its
// quote was not sent.
func (l *Log) readMark() error {
	whole := 0
	for i := range int64(2) {
		data, err := l.quotes.read(i)
		if errors.Is(err, errTorn) {
			continue
		}
		if err != nil {
			return err
		}
		var m Mark
		if err := evidence.Unmarshal(data, &m); err != nil {
			return broken("mark of a quote: %v", err)
		}
		whole++
		if m.Sequence >= l.mark.Sequence {
			l.mark = m
		}
	}
	if whole == 0 && l.quotes.count == 2 {
		return broken("no mark of a quote is whole")
	}
	return nil
}

// readLast finds the last checkpoint. Only the very last slot can be torn, and
// only if nothing referred to it yet.
func (l *Log) readLast() error {
	n := l.checks.count
	if n == 0 {
		return l.checkMark(0)
	}
	raw, err := l.checks.read(n - 1)
	if errors.Is(err, errTorn) {
		if l.checks.torn {
			return broken("checkpoint %d is damaged", n)
		}
		if n--; n == 0 {
			return l.checkMark(0)
		}
		raw, err = l.checks.read(n - 1)
	}
	if err != nil {
		return broken("checkpoint %d: %v", n, err)
	}
	c, err := evidence.ParseCheckpoint(raw)
	if err != nil {
		return broken("checkpoint %d: %v", n, err)
	}
	if c.Number != uint64(n) {
		return broken("checkpoint %d calls itself %d", n, c.Number)
	}
	if n > 1 {
		before, err := l.checks.read(n - 2)
		if err != nil || evidence.CheckpointDigest(before) != c.Previous {
			return broken("checkpoint %d is not the successor of the one before it", n)
		}
	}
	l.last, l.lastRaw = c, append([]byte(nil), raw...)
	return l.checkMark(c.Number)
}

// checkMark refuses a log whose last checkpoint is older than a quote that was
// made about it: that would be a rewind.
func (l *Log) checkMark(number uint64) error {
	if l.mark.Number > number {
		return broken("quote %d was made about checkpoint %d, the last one here is %d", l.mark.Sequence, l.mark.Number, number)
	}
	return nil
}

// honour holds the files against the last checkpoint and returns where in the
// entries file its last entry ends.
func (l *Log) honour() (int64, error) {
	if l.last == nil {
		return 0, l.cutDerived(0)
	}
	size := l.last.Size
	count := evidence.StoredHashCount(size)
	if size > 1<<40 || l.hashes.disk < count*hashSize || l.offsets.disk < int64(size)*offsetSize {
		return 0, broken("checkpoint %d has %d entries, on disk are hashes of %d bytes and %d offsets",
			l.last.Number, size, l.hashes.disk, l.offsets.disk/offsetSize)
	}
	root, err := l.tree.Root(size)
	if err != nil {
		return 0, broken("tree of checkpoint %d: %v", l.last.Number, err)
	}
	if root != l.last.Root {
		return 0, broken("the %d entries of checkpoint %d have root %s, it says %s", size, l.last.Number, root, l.last.Root)
	}
	if l.size = size; size == 0 {
		return 0, l.cutDerived(0)
	}
	entry, err := l.entry(size - 1)
	if err != nil {
		return 0, err
	}
	var at [offsetSize]byte
	if err := l.offsets.readAt(at[:], int64(size-1)*offsetSize); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(at[:])) + recordHeader + int64(len(entry)), l.cutDerived(size)
}

// cutDerived drops offsets and hashes behind the first size entries: they are
// made again from the entries themselves.
func (l *Log) cutDerived(size uint64) error {
	return errors.Join(l.offsets.cut(int64(size)*offsetSize), l.hashes.cut(evidence.StoredHashCount(size)*hashSize))
}

// keepTail takes in the whole entries from offset at on and cuts what follows.
func (l *Log) keepTail(at int64) (Recovery, error) {
	var r Recovery
	for at < l.entries.disk {
		entry, err := l.record(at)
		if errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			return r, fmt.Errorf("taking in entry %d: %w", l.size, err)
		}
		if parsed, err := evidence.ParseEntry(entry); err == nil && parsed.Start != nil {
			r.Epoch = max(r.Epoch, parsed.Start.Epoch)
		}
		hashes, err := l.tree.StoredHashes(l.size, evidence.LeafHash(entry))
		if err != nil {
			return r, fmt.Errorf("taking in entry %d: %w", l.size, err)
		}
		l.derive(at, hashes)
		l.size++
		r.Kept++
		at += recordHeader + int64(len(entry))
	}
	r.Cut = l.entries.disk - at
	return r, errors.Join(l.offsets.flush(), l.hashes.flush(), l.entries.cut(at))
}
