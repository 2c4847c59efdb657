// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/broker"
	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/lasthead"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/postgres"
	"github.com/jurat-dev/jurat/broker/store/sqlite"
)

// headTime is how often the head of the log is looked at and kept outside the
// store.
const headTime = time.Second

// memory is the store, and what is known of its log outside it.
type memory struct {
	store   *store.Store
	where   string
	head    *lasthead.Keeper
	had     bool  // a head was kept before this start
	refused error // what watch ended for
}

// openMemory opens the store and refuses one that does not fit the keys, or that
// was put back to an earlier state.
func (s *settings) openMemory(ctx context.Context, k *keys.Keys, signer *audit.Signer) (*memory, error) {
	m := &memory{where: "SQLite"}
	var err error
	if m.head, err = lasthead.Open(s.data, signer); err != nil {
		return nil, fmt.Errorf("%w%s", err, madeHint(k))
	}
	m.had = m.head.Has()
	if s.store == "" {
		m.store, err = sqlite.Open(ctx, filepath.Join(s.data, "broker.db"), signer, time.Now())
	} else {
		m.where = "PostgreSQL"
		m.store, err = postgres.Open(ctx, s.store, signer, time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, madeHint(k))
	}
	err = checkMade(ctx, m.store, k)
	if err == nil && s.store != "" {
		err = s.sameKeys(ctx, m.store, k)
	}
	if err == nil && m.had {
		err = rolledBack(m.head.Follow(ctx, m.store), filepath.Join(s.data, lasthead.File))
	}
	if err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	return m, nil
}

// rolledBack says what there is to be done about a store that was put back.
func rolledBack(err error, file string) error {
	var r *store.Rollback
	if errors.As(err, &r) {
		return fmt.Errorf("%w. Restore a newer backup; if there is none, revoke what the lost entries allowed, then move %s away: a broker that starts without it says so in the log", err, file)
	}
	return err
}

// admit puts into the log that this broker goes on with one whose earlier length
// it does not know.
func (m *memory) admit(ctx context.Context, b *broker.Broker, log *slog.Logger) error {
	if m.had {
		return nil
	}
	size, err := b.AdmitLog(ctx)
	if err != nil {
		return err
	}
	if size > 0 {
		log.Warn("no head of the log was kept here: whether entries are missing at its end cannot be told", "entries", size)
	}
	return m.head.Follow(ctx, m.store)
}

// watch keeps the head of the log until ctx ends, and once more then. It ends
// the serving of a store that was put back meanwhile.
func (m *memory) watch(ctx context.Context, refuse context.CancelFunc, log *slog.Logger) {
	tick := time.NewTicker(headTime)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := m.head.Follow(last, m.store)
		stop()
		var r *store.Rollback
		switch {
		case errors.As(err, &r) && m.refused == nil:
			m.refused = err
			refuse()
		case err != nil && m.refused == nil:
			log.Error("the head of the log was not kept", "err", err)
		}
	}
}

func (m *memory) close() error { return m.store.Close() }

// madeHint says that a key which the store belongs to was missing.
func madeHint(k *keys.Keys) string {
	if slices.Contains(k.Made, keys.LogFile) {
		return " (" + keys.LogFile + " was missing and has just been made: restore the old one, or copy that of the other brokers)"
	}
	return ""
}

// checkMade refuses to go on with a log when the key behind the humans' names
// was lost: they would all become others.
func checkMade(ctx context.Context, db *store.Store, k *keys.Keys) error {
	return db.View(ctx, func(r *store.Reader) error {
		head, err := r.Head()
		if err == nil && head.Size > 0 && slices.Contains(k.Made, keys.PairwiseFile) {
			err = fmt.Errorf("the log has %d entries, but %s was missing and has just been made: restore the old one", head.Size, keys.PairwiseFile)
		}
		return err
	})
}

// sameKeys refuses keys that are not those of the other brokers on this store:
// none would believe the others' challenges and tokens.
func (s *settings) sameKeys(ctx context.Context, db *store.Store, k *keys.Keys) error {
	digests, err := k.Digests()
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *store.Tx) error {
		for name, digest := range digests {
			had, err := tx.Setting(name)
			switch {
			case errors.Is(err, store.ErrNotFound):
				err = tx.SetSetting(name, digest[:], nil)
			case err == nil && slices.Equal(had, digest[:]):
			case err == nil && s.newKeys && (name == keys.TokenFile || name == keys.ChallengeFile):
				err = tx.SetSetting(name, digest[:], had)
			case err == nil:
				err = fmt.Errorf("%s is not that of the other brokers on this store: copy theirs into %s%s", name, s.data, newKeysHint(name))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// newKeysHint says how a key that may change is changed.
func newKeysHint(name string) string {
	if name == keys.TokenFile || name == keys.ChallengeFile {
		return ", or say -new-keys to replace it, and then copy yours to all of them"
	}
	return ""
}
