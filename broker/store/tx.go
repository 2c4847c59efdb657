// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"bytes"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Reader reads from one consistent view.
type Reader struct{ c Conn }

// Tx reads and writes in one transaction.
type Tx struct {
	Reader
	log *logWriter
}

// Once marks key as used in space. The second time, whoever asks and through
// whichever broker, it returns [ErrReplay]. The mark may be forgotten after
// expires, when the thing itself is refused for its age.
func (tx *Tx) Once(space Space, key evidence.Hash, expires time.Time) error {
	return moved(tx.c, ErrReplay, `INSERT INTO once (space, key, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		string(space), key[:], millis(expires))
}

// Purge forgets what expired before now: one-time marks, evidence references,
// invitations, enrolments, and tokens a day after they ended. It returns how
// many rows went.
func (tx *Tx) Purge(now time.Time) (int64, error) {
	var total int64
	for _, s := range []struct {
		query string
		at    time.Time
	}{
		{`DELETE FROM once WHERE expires < $1`, now},
		{`DELETE FROM evidence WHERE expires < $1`, now},
		{`DELETE FROM enrolment WHERE expires < $1`, now},
		{`DELETE FROM invitation WHERE expires < $1`, now},
		{`DELETE FROM token WHERE expires < $1`, now.Add(-24 * time.Hour)},
	} {
		n, err := tx.c.Exec(s.query, millis(s.at))
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

var evidenceRows = newInserter("evidence (ref, txn, request, host, d, appraisal, expires)", 7, " ON CONFLICT DO NOTHING")

// AddEvidence keeps believed requests until they are spent.
func (tx *Tx) AddEvidence(requests ...Evidence) error {
	args := make([]any, 0, 7*len(requests))
	for i := range requests {
		e := &requests[i]
		args = append(args, e.Ref[:], e.Txn, int64(e.Request), e.Host, e.D[:], bytesOf(e.Appraisal), millis(e.Expires))
	}
	n, err := evidenceRows.insert(tx.c, args)
	if err == nil && n != int64(len(requests)) {
		return ErrExists
	}
	return err
}

// TakeEvidence spends an evidence reference: it is gone, whatever happens to
// it then. It returns [ErrNotFound] for one that is unknown or spent, and
// [ErrExpired].
func (tx *Tx) TakeEvidence(ref evidence.Hash, now time.Time) (Evidence, error) {
	e := Evidence{Ref: ref}
	var request int64
	err := one(tx.c, []any{&e.Txn, &request, &e.Host, digest{&e.D}, optional{&e.Appraisal}, instant{&e.Expires}},
		`DELETE FROM evidence WHERE ref = $1 RETURNING txn, request, host, d, appraisal, expires`, ref[:])
	e.Request = int(request)
	if err == nil && !now.Before(e.Expires) {
		err = ErrExpired
	}
	return e, err
}

// Setting returns a value of the broker's own, or [ErrNotFound].
func (r *Reader) Setting(name string) ([]byte, error) {
	var value []byte
	err := one(r.c, []any{&value}, `SELECT value FROM setting WHERE name = $1`, name)
	return bytesOf(value), err
}

// SetSetting changes a value of the broker's own from previous, which is nil
// for one that was not there. It returns [ErrStale] if it was another.
func (tx *Tx) SetSetting(name string, value, previous []byte) error {
	if previous == nil {
		return moved(tx.c, ErrStale, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, bytesOf(value))
	}
	return moved(tx.c, ErrStale, `UPDATE setting SET value = $1 WHERE name = $2 AND value = $3`, bytesOf(value), name, bytes.Clone(previous))
}
