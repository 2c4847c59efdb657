// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// AddToken remembers a credential that will be issued after the commit.
func (tx *Tx) AddToken(t Token) error {
	return moved(tx.c, ErrExists, `INSERT INTO token (jti, txn, delegation, workload, host, epoch, instance, audience, thumbprint, issued, expires, revoked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0) ON CONFLICT DO NOTHING`,
		t.JTI[:], t.Txn, t.Delegation, t.Workload, t.Host, count(t.Epoch), t.Instance, t.Audience, bytesOf(t.Thumbprint), millis(t.Issued), millis(t.Expires))
}

// Token returns what is remembered of the credential with SHA-256 of its jti.
func (r *Reader) Token(jti evidence.Hash) (Token, error) {
	t := Token{JTI: jti}
	err := one(r.c, []any{&t.Txn, &t.Delegation, &t.Workload, &t.Host, counter{&t.Epoch}, &t.Instance, &t.Audience, optional{&t.Thumbprint}, instant{&t.Issued}, instant{&t.Expires}, instant{&t.Revoked}},
		`SELECT txn, delegation, workload, host, epoch, instance, audience, thumbprint, issued, expires, revoked FROM token WHERE jti = $1`, jti[:])
	return t, err
}

// LiveTokens returns how many credentials of a host's epochs before one are
// neither over nor revoked.
func (r *Reader) LiveTokens(host string, before uint64, now time.Time) (n uint64, err error) {
	err = one(r.c, []any{counter{&n}}, `SELECT COUNT(*) FROM token WHERE host = $1 AND epoch < $2 AND expires > $3 AND revoked = 0`,
		host, count(before), millis(now))
	return n, err
}

// RevokeToken ends one credential. It returns [ErrNotFound] if it is unknown
// or was revoked before: the first revocation stands.
func (tx *Tx) RevokeToken(jti evidence.Hash, at time.Time) error {
	return moved(tx.c, ErrNotFound, `UPDATE token SET revoked = $1 WHERE jti = $2 AND revoked = 0`, millis(at), jti[:])
}

// RevokeDelegation ends the credentials of a delegation, and returns how many
// were still good.
func (tx *Tx) RevokeDelegation(id string, at time.Time) (int64, error) {
	return tx.c.Exec(`UPDATE token SET revoked = $1 WHERE delegation = $2 AND revoked = 0`, millis(at), id)
}

// RevokeHost ends the credentials of everything on a host.
func (tx *Tx) RevokeHost(host string, at time.Time) (int64, error) {
	return tx.c.Exec(`UPDATE token SET revoked = $1 WHERE host = $2 AND revoked = 0`, millis(at), host)
}

// RevokeInstance ends the credentials of one process instance on a host.
func (tx *Tx) RevokeInstance(host, instance string, at time.Time) (int64, error) {
	return tx.c.Exec(`UPDATE token SET revoked = $1 WHERE host = $2 AND instance = $3 AND revoked = 0`, millis(at), host, instance)
}
