// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/evidence"
)

// MaxExplanation bounds the JSON of one explanation, in bytes.
const MaxExplanation = 256 << 10

// logWriter appends to the log inside one transaction. What was appended waits
// in memory, and goes in with the hashes and the head once at the end: a few
// statements for all updates together.
type logWriter struct {
	c      Conn
	head   Head
	leaves []pending
}

// pending is an entry with its explanation, on its way into the log.
type pending struct {
	txn                string
	entry, explanation []byte // explanation: nil where there is none
}

// openLog reads the end of the log. In PostgreSQL the driver's lock, in SQLite
// the single writer keeps it from moving until the transaction ends. A log that
// is not as far as this broker has brought it is refused, and an end that
// another broker put there unless it is signed.
func (s *Store) openLog(c Conn) (*logWriter, error) {
	head, err := (&Reader{c}).Head()
	if err != nil {
		return nil, err
	}
	last := s.last.Load()
	switch e := (&Rollback{Remembered: last.Size, Stored: head.Size, Want: last.Root}); {
	case head.Size < last.Size:
		return nil, e
	case head.Size == last.Size && head.Root != last.Root:
		e.Have = head.Root
		return nil, e
	case head.Size > last.Size:
		if err := checkSigned(s.signer, head); err != nil {
			return nil, err
		}
	}
	return &logWriter{c: c, head: head}, nil
}

// Append puts entry at the end of the log, and explanation, which is JSON,
// beside it. A decision must have one. The index is final, and the entry under
// a signed checkpoint, once Update has returned nil.
func (tx *Tx) Append(entry *audit.Entry, explanation []byte) (index uint64, err error) {
	data, err := entry.Marshal()
	if err != nil {
		return 0, err
	}
	if entry.Type == audit.TypeDecision && len(explanation) == 0 {
		return 0, errors.New("decision without an explanation")
	}
	if len(explanation) > MaxExplanation {
		return 0, fmt.Errorf("explanation of %d bytes, at most %d", len(explanation), MaxExplanation)
	}
	if len(explanation) > 0 && !json.Valid(explanation) {
		return 0, errors.New("explanation is not JSON")
	}
	if _, over := tx.c.(closedConn); over {
		return 0, errOver
	}
	index = tx.log.head.Size + uint64(len(tx.log.leaves))
	tx.log.leaves = append(tx.log.leaves, pending{entry.Txn, data, explanation})
	return index, nil
}

// Rows of the log go in together.
var (
	leafRows        = newInserter("log_leaf (idx, txn, entry)", 3, "")
	explanationRows = newInserter("explanation (idx, txn, body)", 3, "")
	hashRows        = newInserter("log_hash (idx, hash)", 2, "")
)

// seal stores the new entries, the hashes that they complete, and the signed
// head.
func (l *logWriter) seal(signer Signer) error {
	if len(l.leaves) == 0 {
		return nil
	}
	base := evidence.StoredHashCount(l.head.Size)
	var fresh []evidence.Hash
	tree := evidence.NewTree(func(indexes []int64) ([]evidence.Hash, error) {
		return readHashes(l.c, indexes, base, fresh)
	})
	leaves, explanations := make([]any, 0, 3*len(l.leaves)), make([]any, 0, 3*len(l.leaves))
	size := l.head.Size
	for i := range l.leaves {
		leaf := &l.leaves[i]
		hashes, err := tree.StoredHashes(size, evidence.LeafHash(leaf.entry))
		if err != nil {
			return err
		}
		fresh = append(fresh, hashes...)
		leaves = append(leaves, count(size), leaf.txn, leaf.entry)
		if len(leaf.explanation) > 0 {
			explanations = append(explanations, count(size), leaf.txn, leaf.explanation)
		}
		size++
	}
	hashes := make([]any, 0, 2*len(fresh))
	for i := range fresh {
		hashes = append(hashes, base+int64(i), fresh[i][:])
	}
	for _, part := range []struct {
		in   inserter
		rows []any
	}{{leafRows, leaves}, {explanationRows, explanations}, {hashRows, hashes}} {
		if _, err := part.in.insert(l.c, part.rows); err != nil {
			return err
		}
	}
	root, err := tree.Root(size)
	if err != nil {
		return err
	}
	checkpoint, err := signer.Checkpoint(size, root)
	if err != nil {
		return fmt.Errorf("signing the head of the log: %w", err)
	}
	before := l.head.Size
	l.head = Head{Size: size, Root: root, Checkpoint: checkpoint}
	return moved(l.c, ErrStale, `UPDATE log_head SET size = $1, root = $2, checkpoint = $3 WHERE id = 1 AND size = $4`,
		count(size), root[:], checkpoint, count(before))
}

// readHashes reads stored hashes; those from base on are in fresh.
func readHashes(c Conn, indexes []int64, base int64, fresh []evidence.Hash) ([]evidence.Hash, error) {
	out := make([]evidence.Hash, len(indexes))
	var stored []int64
	for i, at := range indexes {
		switch {
		case at < base:
			stored = append(stored, at)
		case at-base >= int64(len(fresh)):
			return nil, fmt.Errorf("hash %d of the log is not there", at)
		default:
			out[i] = fresh[at-base]
		}
	}
	if len(stored) == 0 {
		return out, nil
	}
	found, err := storedHashes(c, stored)
	if err != nil {
		return nil, err
	}
	for i, at := range indexes {
		if at >= base {
			continue
		}
		h, ok := found[at]
		if !ok {
			return nil, fmt.Errorf("hash %d of the log: %w", at, ErrNotFound)
		}
		out[i] = h
	}
	return out, nil
}

// storedHashes asks for hashes by their indexes, all at once.
func storedHashes(c Conn, indexes []int64) (map[int64]evidence.Hash, error) {
	found := make(map[int64]evidence.Hash, len(indexes))
	for len(indexes) > 0 {
		n := min(len(indexes), 1<<(len(hashQueries)-1))
		args := make([]any, 0, n)
		for _, at := range indexes[:n] {
			args = append(args, at)
		}
		which := bits.Len(uint(n - 1))
		for len(args) < 1<<which {
			args = append(args, args[0])
		}
		if _, err := all(c, func(scan func(...any) error) (struct{}, error) {
			var at int64
			var h evidence.Hash
			err := scan(&at, digest{&h})
			found[at] = h
			return struct{}{}, err
		}, hashQueries[which], args...); err != nil {
			return nil, err
		}
		indexes = indexes[n:]
	}
	return found, nil
}

// begin signs the head of an empty log, or checks that of an old one.
func (s *Store) begin(c Conn) error {
	r := &Reader{c}
	head, err := r.Head()
	if errors.Is(err, ErrNotFound) {
		head, err = s.beginLog(c)
	} else if err == nil {
		err = r.checkHead(s.signer, head)
	}
	s.last.Store(&head)
	return err
}

// beginLog signs the head of an empty log.
func (s *Store) beginLog(c Conn) (Head, error) {
	r := &Reader{c}
	if page, err := r.Leaves(0, 1); err != nil || len(page) > 0 {
		return Head{}, errors.Join(errors.New("there are entries, and no head"), err)
	}
	root, err := r.tree().Root(0)
	if err != nil {
		return Head{}, err
	}
	checkpoint, err := s.signer.Checkpoint(0, root)
	if err != nil {
		return Head{}, err
	}
	_, err = c.Exec(`INSERT INTO log_head (id, size, root, checkpoint) VALUES (1, 0, $1, $2)`, root[:], checkpoint)
	return Head{Root: root, Checkpoint: checkpoint}, err
}

// checkSigned refuses a head that signer did not sign.
func checkSigned(signer Signer, head Head) error {
	signed, err := signer.Open(head.Checkpoint)
	if err != nil {
		return fmt.Errorf("stored head: %w", err)
	}
	if signed.Size != head.Size || signed.Root != head.Root {
		return fmt.Errorf("stored head says %d entries, its checkpoint %d", head.Size, signed.Size)
	}
	return nil
}

// checkHead refuses a head that was not signed, or that the stored tree or the
// number of entries contradicts.
func (r *Reader) checkHead(signer Signer, head Head) error {
	if err := checkSigned(signer, head); err != nil {
		return err
	}
	root, err := r.tree().Root(head.Size)
	if err != nil {
		return err
	}
	if root != head.Root {
		return fmt.Errorf("stored tree of %d entries has root %s, its checkpoint %s", head.Size, root, head.Root)
	}
	var leaves uint64
	if err := one(r.c, []any{counter{&leaves}}, `SELECT COALESCE(MAX(idx) + 1, 0) FROM log_leaf`); err != nil {
		return err
	}
	if leaves != head.Size {
		return fmt.Errorf("stored log has %d entries, its checkpoint %d", leaves, head.Size)
	}
	return nil
}

func (r *Reader) tree() evidence.Tree {
	return evidence.NewTree(func(indexes []int64) ([]evidence.Hash, error) {
		return readHashes(r.c, indexes, 1<<62, nil)
	})
}

// Head returns the end of the log.
func (r *Reader) Head() (Head, error) {
	var h Head
	err := one(r.c, []any{counter{&h.Size}, digest{&h.Root}, &h.Checkpoint}, `SELECT size, root, checkpoint FROM log_head WHERE id = 1`)
	return h, err
}

// Leaves returns at most limit entries of the log, from index from on.
func (r *Reader) Leaves(from uint64, limit int) ([]Leaf, error) {
	if err := checkCounts(from); err != nil {
		return nil, err
	}
	return all(r.c, func(scan func(...any) error) (l Leaf, err error) {
		return l, scan(counter{&l.Index}, &l.Txn, &l.Entry)
	}, `SELECT idx, txn, entry FROM log_leaf WHERE idx >= $1 ORDER BY idx LIMIT $2`, count(from), limit)
}

// Explanations returns why the transaction went as it did, in the order of its
// entries in the log.
func (r *Reader) Explanations(txn string) ([]Explanation, error) {
	return all(r.c, func(scan func(...any) error) (e Explanation, err error) {
		return e, scan(counter{&e.Index}, &e.Txn, &e.JSON)
	}, `SELECT idx, txn, body FROM explanation WHERE txn = $1 ORDER BY idx`, txn)
}

// Receipt returns the proof that entry index is under the present checkpoint
// (c2sp.org/tlog-proof).
func (r *Reader) Receipt(index uint64) ([]byte, error) {
	head, err := r.Head()
	if err != nil {
		return nil, err
	}
	if index >= head.Size {
		return nil, ErrNotFound
	}
	proof, err := r.tree().Inclusion(head.Size, index)
	if err != nil {
		return nil, err
	}
	return audit.Receipt{Index: index, Proof: proof, Checkpoint: head.Checkpoint}.Marshal()
}

// Consistency proves that the present log begins with the one of size old.
func (r *Reader) Consistency(old uint64) (evidence.Proof, Head, error) {
	head, err := r.Head()
	if err != nil {
		return nil, head, err
	}
	if old > head.Size {
		return nil, head, ErrNotFound
	}
	proof, err := r.tree().Consistency(head.Size, old)
	return proof, head, err
}

// Rollback says that the store is not the continuation of a log that somebody
// remembers: a backup was restored, or another history written.
type Rollback struct {
	Remembered, Stored uint64        // sizes
	Want, Have         evidence.Hash // roots at size Remembered; zero when the store is too short
}

// Error names both sizes.
func (e *Rollback) Error() string {
	if e.Stored < e.Remembered {
		return fmt.Sprintf("log has %d entries, but %d were seen before: the store was rolled back", e.Stored, e.Remembered)
	}
	return fmt.Sprintf("first %d entries of the log have root %s, but %s was seen before: the store holds another history", e.Remembered, e.Have, e.Want)
}

// Continues returns a *[Rollback] unless the stored log begins with the one
// that seen describes: the newest checkpoint that the broker, an agent or a
// witness remembers. The caller has checked its signature.
func (r *Reader) Continues(seen audit.Checkpoint) error {
	head, err := r.Head()
	if err != nil {
		return err
	}
	e := &Rollback{Remembered: seen.Size, Stored: head.Size, Want: seen.Root}
	if head.Size < seen.Size {
		return e
	}
	if e.Have, err = r.tree().Root(seen.Size); err != nil {
		return err
	}
	if !bytes.Equal(e.Have[:], e.Want[:]) {
		return e
	}
	return nil
}
