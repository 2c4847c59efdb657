// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"

	"github.com/jurat-dev/jurat/evidence"
)

// ErrBroken is what every error about a log that cannot be honoured wraps.
var ErrBroken = errors.New("E_LOG_BROKEN")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s; the broker will not take a log that begins anew: find out who changed it, then have the host removed and enrol again",
		ErrBroken, fmt.Sprintf(format, args...))
}

const (
	recordHeader = 8
	offsetSize   = 8
	hashSize     = 32
	flushAt      = 256 << 10 // bytes of entries in memory before they are written
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Log is an open log. Its methods may be called from several goroutines.
type Log struct {
	lock *os.File
	dir  string

	commit sync.Mutex // held while a checkpoint or a mark is written; taken before mu
	checks *slots
	quotes *slots
	mark   Mark

	anchoring sync.Mutex // guards anchor; taken before mu
	anchor    anchorFile

	mu      sync.Mutex // guards what follows
	entries *tail
	offsets *tail
	hashes  *tail
	tree    evidence.Tree
	size    uint64
	last    *evidence.Checkpoint // nil before the first
	lastRaw []byte
	err     error // the first failure to write; nothing goes on after it
}

// Append adds one entry in canonical form and returns its index and leaf hash.
// It is durable with the next checkpoint.
func (l *Log) Append(entry []byte) (uint64, evidence.Hash, error) {
	leaf := evidence.LeafHash(entry)
	if len(entry) == 0 || len(entry) > evidence.MaxEntry {
		return 0, leaf, fmt.Errorf("entry of %d bytes, at most %d", len(entry), evidence.MaxEntry)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, leaf, l.err
	}
	hashes, err := l.tree.StoredHashes(l.size, leaf)
	if err != nil {
		return 0, leaf, l.fail(err)
	}
	l.push(entry, hashes)
	index := l.size
	l.size++
	if len(l.entries.buf) >= flushAt {
		if err := l.flush(); err != nil {
			return 0, leaf, err
		}
	}
	return index, leaf, nil
}

// push writes one entry to the buffers; the caller holds mu.
func (l *Log) push(entry []byte, hashes []evidence.Hash) {
	at := l.entries.size()
	l.entries.buf = binary.BigEndian.AppendUint32(l.entries.buf, uint32(len(entry)))
	l.entries.buf = binary.BigEndian.AppendUint32(l.entries.buf, crc32.Checksum(entry, castagnoli))
	l.entries.buf = append(l.entries.buf, entry...)
	l.derive(at, hashes)
}

// derive writes what follows from an entry that begins at offset at.
func (l *Log) derive(at int64, hashes []evidence.Hash) {
	l.offsets.buf = binary.BigEndian.AppendUint64(l.offsets.buf, uint64(at))
	for i := range hashes {
		l.hashes.buf = append(l.hashes.buf, hashes[i][:]...)
	}
}

// fail keeps the first error: after a failed write or sync nobody knows what
// is on disk, so nothing is added any more. The caller holds mu.
func (l *Log) fail(err error) error {
	if l.err == nil {
		l.err = fmt.Errorf("measurement log in %s: %w", l.dir, err)
	}
	return l.err
}

// Flush hands what is in memory to the operating system, so that the end of
// this process does not lose it. Durable it is with the next checkpoint.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	return l.flush()
}

func (l *Log) flush() error {
	for _, t := range []*tail{l.entries, l.offsets, l.hashes} {
		if err := t.flush(); err != nil {
			return l.fail(err)
		}
	}
	return nil
}

func (l *Log) readHashes(indexes []int64) ([]evidence.Hash, error) {
	out := make([]evidence.Hash, len(indexes))
	for i, at := range indexes {
		if err := l.hashes.readAt(out[i][:], at*hashSize); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Err returns the failure after which nothing is added any more, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Size returns the number of entries.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Entry returns the bytes of one entry, held against its leaf hash.
func (l *Log) Entry(index uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entry(index)
}

func (l *Log) entry(index uint64) ([]byte, error) {
	if index >= l.size {
		return nil, fmt.Errorf("entry %d of a log of %d", index, l.size)
	}
	var at [offsetSize]byte
	if err := l.offsets.readAt(at[:], int64(index)*offsetSize); err != nil {
		return nil, err
	}
	entry, err := l.record(int64(binary.BigEndian.Uint64(at[:])))
	if err != nil {
		return nil, broken("entry %d: %v", index, err)
	}
	leaf, err := l.readHashes([]int64{evidence.LeafIndex(index)})
	if err != nil {
		return nil, err
	}
	if evidence.LeafHash(entry) != leaf[0] {
		return nil, broken("entry %d is not the one whose hash is in the tree", index)
	}
	return entry, nil
}

// errTorn says that bytes were read and are no whole record, as against bytes
// that could not be read.
var errTorn = errors.New("not a whole record")

// record reads one whole record of the entries file.
func (l *Log) record(at int64) ([]byte, error) {
	var head [recordHeader]byte
	if err := l.entries.readAt(head[:], at); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n == 0 || n > evidence.MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes at %d, want 1 to %d", errTorn, n, at, evidence.MaxEntry)
	}
	entry := make([]byte, n)
	if err := l.entries.readAt(entry, at+recordHeader); err != nil {
		return nil, err
	}
	if crc32.Checksum(entry, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: wrong checksum at %d", errTorn, at)
	}
	return entry, nil
}

// Inclusion proves that entry index is in the tree of size entries. The proof
// has been checked against root: damage on disk shows here, not at the broker.
func (l *Log) Inclusion(size uint64, root evidence.Hash, index uint64, leaf evidence.Hash) (evidence.Proof, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	proof, err := l.tree.Inclusion(size, index)
	if err != nil {
		return nil, err
	}
	if err := evidence.CheckInclusion(proof, size, root, index, leaf); err != nil {
		return nil, broken("entry %d is not in the tree of %d entries: %v", index, size, err)
	}
	return proof, nil
}

// Consistency proves that the tree of size entries begins with that of from.
func (l *Log) Consistency(size, from uint64) (evidence.Proof, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from > size {
		return nil, broken("the broker has seen %d entries, the log has %d", from, size)
	}
	return l.tree.Consistency(size, from)
}

// Close writes what is in memory and gives the directory back. Commit before,
// or the end of the log rests on recovery.
func (l *Log) Close() error {
	l.commit.Lock()
	defer l.commit.Unlock()
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := []error{l.flush()}
	for _, f := range l.files() {
		errs = append(errs, f.Close())
	}
	if l.err == nil {
		l.err = errors.New("measurement log is closed")
	}
	return errors.Join(errs...)
}

func (l *Log) files() []*os.File {
	var out []*os.File
	for _, t := range []*tail{l.entries, l.offsets, l.hashes} {
		if t != nil {
			out = append(out, t.f)
		}
	}
	for _, s := range []*slots{l.checks, l.quotes} {
		if s != nil {
			out = append(out, s.f)
		}
	}
	for _, f := range []*os.File{l.anchor.f, l.lock} {
		if f != nil {
			out = append(out, f)
		}
	}
	return out
}
