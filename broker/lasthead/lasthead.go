// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package lasthead keeps the newest signed head of the broker's log outside the
// database (station 9, at the start and once a second), so that a database that
// was put back to an earlier state is told from one that went on.
//
// Its door is one file in the broker's data directory. It refuses a file that
// somebody else signed, and a store whose log does not begin with the one that
// the kept head ends (*store.Rollback). Behind several brokers on one database
// each keeps what it has seen.
package lasthead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/store"
)

// File is the name of the file: a signed note (c2sp.org/tlog-checkpoint).
const File = "log.head"

// Keeper keeps the head. One goroutine uses it at a time.
type Keeper struct {
	path string
	log  *audit.Signer
	note []byte // as it is in the file; nil: there is none
	seen audit.Checkpoint
}

// Open reads the head that was kept in dir, which must be there.
func Open(dir string, log *audit.Signer) (*Keeper, error) {
	k := &Keeper{path: filepath.Join(dir, File), log: log}
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if k.note, err = io.ReadAll(io.LimitReader(f, audit.MaxCheckpoint+1)); err != nil {
		return nil, err
	}
	if k.seen, err = log.Open(k.note); err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	return k, nil
}

// Has reports whether a head was kept.
func (k *Keeper) Has() bool { return k.note != nil }

// Follow refuses a store whose log is not the continuation of the one that was
// seen last, by whoever kept the file or by this broker since, and keeps its head
// from now on.
func (k *Keeper) Follow(ctx context.Context, s *store.Store) error {
	seen := k.seen
	last := s.Last()
	if last.Size > seen.Size {
		seen = audit.Checkpoint{Size: last.Size, Root: last.Root}
	}
	var note []byte
	err := s.View(ctx, func(r *store.Reader) error {
		head, err := r.Head()
		if err != nil || bytes.Equal(head.Checkpoint, k.note) && seen == k.seen {
			return err
		}
		note = bytes.Clone(head.Checkpoint)
		if seen.Size == 0 {
			return nil
		}
		return r.Continues(seen)
	})
	if err != nil || note == nil {
		return err
	}
	if seen, err = k.log.Open(note); err != nil {
		return err
	}
	if err := k.write(note); err != nil {
		return fmt.Errorf("keeping the head of the log: %w", err)
	}
	k.note, k.seen = note, seen
	return nil
}

// write replaces the file by one that is whole on the disk.
func (k *Keeper) write(note []byte) error {
	fresh := k.path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(note)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, k.path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(k.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
