// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// slots is a file of records of one size, each [length u16 | crc32c u32 |
// data | zeros]: a torn one is known as such, and none moves another.
type slots struct {
	f     *os.File
	count int64
	torn  bool // the file ended within a slot
}

const (
	slotSize   = 512
	slotHeader = 6
)

func openSlots(dir, name string) (*slots, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &slots{f: f, count: info.Size() / slotSize, torn: info.Size()%slotSize != 0}, nil
}

// write puts data into slot i and returns when it is on disk.
func (s *slots) write(i int64, data []byte) error {
	if len(data) == 0 || len(data) > slotSize-slotHeader {
		return fmt.Errorf("%s: record of %d bytes, at most %d", s.f.Name(), len(data), slotSize-slotHeader)
	}
	var slot [slotSize]byte
	binary.BigEndian.PutUint16(slot[:2], uint16(len(data)))
	binary.BigEndian.PutUint32(slot[2:6], crc32.Checksum(data, castagnoli))
	copy(slot[slotHeader:], data)
	if _, err := s.f.WriteAt(slot[:], i*slotSize); err != nil {
		return err
	}
	if err := syncData(s.f); err != nil {
		return err
	}
	s.count = max(s.count, i+1)
	return nil
}

// read returns what slot i holds; errTorn if that is nothing whole.
func (s *slots) read(i int64) ([]byte, error) { return readSlot(s.f, i) }

func readSlot(f io.ReaderAt, i int64) ([]byte, error) {
	var slot [slotSize]byte
	if _, err := f.ReadAt(slot[:], i*slotSize); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errTorn
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(slot[:2]))
	if n == 0 || n > slotSize-slotHeader {
		return nil, errTorn
	}
	data := slot[slotHeader : slotHeader+n]
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(slot[2:6]) {
		return nil, errTorn
	}
	return data, nil
}

// Commit makes everything appended so far durable and writes a checkpoint of
// it. fill sets what the log does not know; it is called after the size is
// fixed, so what it counts is never less than what the entries say.
func (l *Log) Commit(fill func(*evidence.Checkpoint)) (*evidence.Checkpoint, []byte, error) {
	l.commit.Lock()
	defer l.commit.Unlock()
	c, raw, err := l.next(fill)
	if err != nil {
		return nil, nil, err
	}
	err = syncAll(l.entries.f, l.offsets.f, l.hashes.f)
	if err == nil {
		err = l.checks.write(int64(c.Number-1), raw)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return nil, nil, l.fail(err)
	}
	l.last, l.lastRaw = c, raw
	return c, raw, nil
}

// next flushes the buffers and makes the next checkpoint of what was in them.
func (l *Log) next(fill func(*evidence.Checkpoint)) (*evidence.Checkpoint, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, nil, l.err
	}
	if err := l.flush(); err != nil {
		return nil, nil, err
	}
	root, err := l.tree.Root(l.size)
	if err != nil {
		return nil, nil, l.fail(err)
	}
	c := new(evidence.Checkpoint)
	fill(c)
	c.Version, c.Number, c.Size, c.Root, c.Previous = evidence.CheckpointVersion, 1, l.size, root, evidence.Hash{}
	if l.last != nil {
		c.Number = l.last.Number + 1
		c.Previous = evidence.CheckpointDigest(l.lastRaw)
	}
	raw := c.Marshal()
	if _, err := evidence.ParseCheckpoint(raw); err != nil {
		return nil, nil, fmt.Errorf("checkpoint %d: %w", c.Number, err)
	}
	return c, raw, nil
}

// Last returns the last checkpoint and its bytes; nil before the first.
func (l *Log) Last() (*evidence.Checkpoint, []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.lastRaw
}

// Mark is what the log remembers of the last quote: its sequence number must
// never be used again, and the next header names its digest.
type Mark struct {
	_        struct{}      `cbor:",toarray"`
	Sequence uint64        // of the quote; 0: none was made yet
	Attest   evidence.Hash // SHA-256 of its TPMS_ATTEST
	Number   uint64        // of the checkpoint it is about
}

// Mark writes the mark of a quote. Only then may the quote leave the host.
func (l *Log) Mark(m Mark) error {
	l.commit.Lock()
	defer l.commit.Unlock()
	data, err := evidence.Marshal(&m)
	if err != nil {
		return err
	}
	if m.Sequence != l.mark.Sequence+1 {
		return fmt.Errorf("mark of quote %d after %d", m.Sequence, l.mark.Sequence)
	}
	if err := l.quotes.write(int64(m.Sequence%2), data); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fail(err)
	}
	l.mark = m
	return nil
}

// Quoted returns the mark of the last quote.
func (l *Log) Quoted() Mark {
	l.commit.Lock()
	defer l.commit.Unlock()
	return l.mark
}

// FirstOf returns how many entries the log had at the first of its last
// checkpoints that are all of this boot; 0 if the last one is of another.
func (l *Log) FirstOf(bootID evidence.Bytes) (uint64, error) {
	last, _ := l.Last()
	if last == nil || !bytes.Equal(last.BootID, bootID) {
		return 0, nil
	}
	// Checkpoint first is of this boot, checkpoint low, if there is one, is not.
	first, low := last, uint64(0)
	for first.Number-low > 1 {
		middle := low + (first.Number-low)/2
		raw, err := l.checks.read(int64(middle - 1))
		if err != nil {
			return 0, broken("checkpoint %d: %v", middle, err)
		}
		c, err := evidence.ParseCheckpoint(raw)
		if err != nil {
			return 0, broken("checkpoint %d: %v", middle, err)
		}
		if bytes.Equal(c.BootID, bootID) {
			first = c
		} else {
			low = middle
		}
	}
	return first.Size, nil
}
