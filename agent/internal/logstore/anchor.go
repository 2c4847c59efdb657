// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/jurat-dev/jurat/evidence"
)

// AnchorHeader says which register the digests behind it were extended into,
// and since which start of the TPM.
type AnchorHeader struct {
	_            struct{}       `cbor:",toarray"`
	Mode         string         // evidence.AnchorNVLatch or evidence.AnchorNvPCR
	Name         evidence.Bytes // of the NV index
	Index        uint32
	Latch        uint8 // PCR; 0 with evidence.AnchorNvPCR
	BootID       evidence.Bytes
	ResetCount   uint32
	RestartCount uint32
	Base         evidence.Hash // value of the register before the first digest
}

// Anchor is what the file says was extended. The digest of a checkpoint is in
// it before the TPM gets to see it, so the register has the last one or lacks
// it, and lacks no other.
type Anchor struct {
	AnchorHeader
	Count  uint64        // digests
	Number uint64        // of the checkpoint that the last one is of
	Last   evidence.Hash // that digest
	Before evidence.Hash // value of the register without it
	Value  evidence.Hash // value of the register with it
	Broken bool          // [Log.BreakAnchor] was called
}

// A record is [number u64 | digest | value | crc32c u32]: the number of a
// checkpoint, its digest, and what the register is after it. A record of zeros
// with its checksum says that the register does not bear the others out.
//
//	value = SHA-256(value before || digest)
const (
	anchorRecord = 8 + 2*sha256.Size + 4
	anchorName   = "anchor"
)

// anchorFile is the register as this host wrote it down.
type anchorFile struct {
	f     *os.File // nil: there is none
	state *Anchor  // nil: none, or one that is damaged
}

// Anchor returns what was extended into the register; nil where there was
// none, or where what is on disk is not whole.
func (l *Log) Anchor() *Anchor {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	if l.anchor.state == nil {
		return nil
	}
	state := *l.anchor.state
	return &state
}

// BeginAnchor begins anew, with a register that the TPM has just started. What
// was there before is gone when it returns, and the header is on disk.
func (l *Log) BeginAnchor(h AnchorHeader) error {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	data, err := evidence.Marshal(&h)
	if err != nil {
		return err
	}
	const fresh = anchorName + ".new"
	if err := os.Remove(filepath.Join(l.dir, fresh)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return l.stop(err)
	}
	s, err := openSlots(l.dir, fresh)
	if err != nil {
		return l.stop(err)
	}
	if err = s.write(0, data); err == nil {
		err = os.Rename(s.f.Name(), filepath.Join(l.dir, anchorName))
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		return l.stop(errors.Join(err, s.f.Close()))
	}
	if l.anchor.f != nil {
		if err := l.anchor.f.Close(); err != nil {
			return l.stop(err)
		}
	}
	l.anchor = anchorFile{f: s.f, state: &Anchor{AnchorHeader: h, Before: h.Base, Value: h.Base}}
	return nil
}

// AppendAnchor writes down that the digest of a checkpoint will be extended.
// Only when it has returned may the TPM get to see it.
func (l *Log) AppendAnchor(number uint64, digest evidence.Hash) error {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	state := l.anchor.state
	if state == nil || number <= state.Number {
		return fmt.Errorf("checkpoint %d cannot be anchored: there is no register, or a later one is in it", number)
	}
	next := *state
	next.Count++
	next.Number, next.Last, next.Before = number, digest, state.Value
	next.Value = fold(state.Value, digest)
	return l.writeAnchor(state.Count, number, digest, next.Value, &next)
}

// BreakAnchor writes down that the register was found to hold something else:
// no later start may take it for whole.
func (l *Log) BreakAnchor() error {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	state := l.anchor.state
	if state == nil || state.Broken {
		return nil
	}
	next := *state
	next.Broken = true
	return l.writeAnchor(state.Count, 0, evidence.Hash{}, evidence.Hash{}, &next)
}

// writeAnchor writes one record; the caller holds anchoring.
func (l *Log) writeAnchor(at, number uint64, digest, value evidence.Hash, next *Anchor) error {
	if l.anchor.state.Broken {
		return errors.New("the register is broken: nothing more is anchored")
	}
	record := make([]byte, 0, anchorRecord)
	record = binary.BigEndian.AppendUint64(record, number)
	record = append(append(record, digest[:]...), value[:]...)
	record = binary.BigEndian.AppendUint32(record, crc32.Checksum(record, castagnoli))
	if _, err := l.anchor.f.WriteAt(record, anchorOffset(at)); err != nil {
		return l.stop(err)
	}
	if err := syncData(l.anchor.f); err != nil {
		return l.stop(err)
	}
	l.anchor.state = next
	return nil
}

// stop keeps the error like fail; the caller does not hold mu.
func (l *Log) stop(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fail(err)
}

func anchorOffset(at uint64) int64 { return slotSize + int64(at)*anchorRecord }

// fold is what TPM2_NV_Extend does.
//
//	new = SHA-256(old || digest)
func fold(value, digest evidence.Hash) evidence.Hash {
	return sha256.Sum256(append(value[:], digest[:]...))
}

// AnchorTail returns the value of the register after the first from digests,
// and the digests behind them, 32 bytes each.
func (l *Log) AnchorTail(from uint64) (base evidence.Hash, tail []byte, err error) {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	state := l.anchor.state
	if state == nil || from > state.Count || state.Count-from > evidence.MaxRegister {
		return base, nil, fmt.Errorf("no tail of the register from %d on", from)
	}
	base = state.Base
	if from > 0 {
		_, _, base, err = l.anchor.read(from - 1)
	}
	tail = make([]byte, 0, (state.Count-from)*sha256.Size)
	for at := from; at < state.Count && err == nil; at++ {
		var digest evidence.Hash
		_, digest, _, err = l.anchor.read(at)
		tail = append(tail, digest[:]...)
	}
	return base, tail, err
}

// AnchorSize returns how many entries the log had at the checkpoint that is
// number count in the register, from 1; 0 if there is none.
func (l *Log) AnchorSize(count uint64) (uint64, error) {
	l.anchoring.Lock()
	defer l.anchoring.Unlock()
	if state := l.anchor.state; state == nil || count == 0 || count > state.Count {
		return 0, nil
	}
	number, digest, _, err := l.anchor.read(count - 1)
	if err != nil {
		return 0, err
	}
	c, err := l.anchored(number, digest)
	if err != nil {
		return 0, err
	}
	return c.Size, nil
}

// anchored returns the checkpoint of that number, if it has that digest.
func (l *Log) anchored(number uint64, digest evidence.Hash) (*evidence.Checkpoint, error) {
	raw, err := l.checks.read(int64(number - 1))
	if err != nil {
		return nil, broken("checkpoint %d, which was anchored: %v", number, err)
	}
	if evidence.CheckpointDigest(raw) != digest {
		return nil, broken("checkpoint %d is not the one that was anchored", number)
	}
	return evidence.ParseCheckpoint(raw)
}

// read reads one record; errTorn if there is none that is whole.
func (a *anchorFile) read(at uint64) (number uint64, digest, value evidence.Hash, err error) {
	var record [anchorRecord]byte
	n, err := a.f.ReadAt(record[:], anchorOffset(at))
	if n < len(record) {
		return 0, digest, value, errors.Join(errTorn, ignoreEOF(err))
	}
	return parseAnchor(record[:])
}

func parseAnchor(record []byte) (number uint64, digest, value evidence.Hash, err error) {
	sum := anchorRecord - 4
	if crc32.Checksum(record[:sum], castagnoli) != binary.BigEndian.Uint32(record[sum:]) {
		return 0, digest, value, errTorn
	}
	return binary.BigEndian.Uint64(record), evidence.Hash(record[8:40]), evidence.Hash(record[40:72]), nil
}
