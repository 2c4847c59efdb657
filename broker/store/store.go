// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/evidence"
)

// MaxBatch is how many updates commit together at most.
const MaxBatch = 512

// Signer signs the end of the log and knows its own signature. The key is the
// broker's; the store never sees it.
type Signer interface {
	Checkpoint(size uint64, root evidence.Hash) ([]byte, error)
	Open(checkpoint []byte) (audit.Checkpoint, error)
}

// Store is the broker's memory. It is safe for use by many goroutines.
type Store struct {
	db      Database
	signer  Signer
	waiting chan *update
	closing chan struct{}
	ended   chan struct{}
	once    sync.Once
	err     error // of Close

	last atomic.Pointer[Head] // that this broker knows was committed
}

// New returns the store in db, whose tables exist. It signs the empty log of a
// new database, and refuses an old one whose log does not end in a head that
// signer signed and the stored tree agrees with.
func New(ctx context.Context, db Database, signer Signer) (*Store, error) {
	s := &Store{db: db, signer: signer, waiting: make(chan *update, MaxBatch), closing: make(chan struct{}), ended: make(chan struct{})}
	s.last.Store(&Head{})
	if err := db.Write(ctx, s.begin); err != nil {
		return nil, fmt.Errorf("broker's log: %w", err)
	}
	go s.run()
	return s, nil
}

// Last returns the newest head of the log that this broker knows was committed.
func (s *Store) Last() Head { return *s.last.Load() }

// Close waits for the updates that are under way, and closes the database.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.ended
		s.err = s.db.Close()
	})
	return s.err
}

// View runs fn on one consistent view of the store. Nothing of r may be used
// after fn returned.
func (s *Store) View(ctx context.Context, fn func(r *Reader) error) error {
	return s.db.Read(ctx, func(c Conn) error {
		r := &Reader{c}
		defer func() { r.c = closedConn{} }()
		return fn(r)
	})
}

// update is one caller of Update. The writer hands it the transaction when its
// turn has come; the function runs in the caller's own goroutine, so that its
// panic is the caller's.
type update struct {
	state  atomic.Int32 // taken: by the writer, or given up by the caller
	turn   chan *Tx
	ran    chan error
	result chan error
}

const (
	updateWaits int32 = iota
	updateTaken
	updateGivenUp
)

var errAborted = errors.New("update did not return")

// Update runs fn in the next transaction, together with the updates of others
// that wait. When it returns nil, all that fn did is durable, and what it
// appended to the log is under a signed checkpoint. When it returns an error,
// fn has left nothing behind. Nothing of tx may be used after fn returned.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) error {
	u := &update{turn: make(chan *Tx), ran: make(chan error, 1), result: make(chan error, 1)}
	select {
	case s.waiting <- u:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return ErrClosed
	}
	select {
	case tx := <-u.turn:
		return u.call(tx, fn)
	case <-ctx.Done():
		if u.state.CompareAndSwap(updateWaits, updateGivenUp) {
			return ctx.Err()
		}
	case <-s.ended:
		if u.state.CompareAndSwap(updateWaits, updateGivenUp) {
			return ErrClosed
		}
	}
	return u.call(<-u.turn, fn)
}

func (u *update) call(tx *Tx, fn func(tx *Tx) error) error {
	if tx == nil {
		return <-u.result
	}
	err := errAborted
	func() {
		defer func() { u.ran <- err }()
		err = fn(tx)
	}()
	return <-u.result
}

// run is the only writer.
func (s *Store) run() {
	defer close(s.ended)
	for {
		select {
		case u := <-s.waiting:
			s.commit(s.gather(u))
		case <-s.closing:
			for len(s.waiting) > 0 {
				s.commit(s.gather(<-s.waiting))
			}
			return
		}
	}
}

// gather takes whatever waits already, and waits for nobody.
func (s *Store) gather(first *update) []*update {
	batch := []*update{first}
	for len(batch) < MaxBatch {
		select {
		case u := <-s.waiting:
			batch = append(batch, u)
		default:
			return batch
		}
	}
	return batch
}

// errNothing ends a batch in which no update succeeded.
var errNothing = errors.New("nothing to commit")

func (s *Store) commit(batch []*update) {
	taken := batch[:0]
	for _, u := range batch {
		if u.state.CompareAndSwap(updateWaits, updateTaken) {
			taken = append(taken, u)
		}
	}
	if len(taken) == 0 {
		return
	}
	results := make([]error, len(taken))
	started := 0
	var log *logWriter
	err := s.db.Write(context.Background(), func(c Conn) error {
		var err error
		if log, err = s.openLog(c); err != nil {
			return err
		}
		kept := 0
		for i, u := range taken {
			if _, err := c.Exec("SAVEPOINT turn"); err != nil {
				return err
			}
			started = i + 1
			if results[i], err = u.take(c, log); err != nil {
				return err
			}
			if results[i] == nil {
				kept++
			}
		}
		if kept == 0 {
			return errNothing
		}
		return log.seal(s.signer)
	})
	if err == nil {
		s.last.Store(&log.head)
	}
	for i, u := range taken {
		if i >= started {
			u.turn <- nil // its turn will not come
		}
		if err != nil && results[i] == nil {
			results[i] = fmt.Errorf("committing: %w", err)
		}
		u.result <- results[i]
	}
}

// take gives u its turn, and takes back what it did if it fails.
func (u *update) take(c Conn, log *logWriter) (result, fatal error) {
	before := len(log.leaves)
	tx := &Tx{Reader: Reader{c}, log: log}
	u.turn <- tx
	result = <-u.ran
	tx.c = closedConn{}
	if result == nil {
		// It fails where a statement failed and fn did not say so.
		if _, result = c.Exec("RELEASE SAVEPOINT turn"); result == nil {
			return nil, nil
		}
	}
	log.leaves = log.leaves[:before]
	if _, err := c.Exec("ROLLBACK TO SAVEPOINT turn"); err != nil {
		return result, err
	}
	_, fatal = c.Exec("RELEASE SAVEPOINT turn")
	return result, fatal
}
