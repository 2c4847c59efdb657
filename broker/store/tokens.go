// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// AddToken remembers a credential that will be issued after the commit.
func (tx *Tx) AddToken(t Token) error {
	return moved(tx.c, ErrExists, `INSERT INTO token (jti, txn, delegation, workload, host, instance, audience, thumbprint, issued, expires, revoked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0) ON CONFLICT DO NOTHING`,
		t.JTI[:], t.Txn, t.Delegation, t.Workload, t.Host, t.Instance, t.Audience, bytesOf(t.Thumbprint), millis(t.Issued), millis(t.Expires))
}

// Token returns what is remembered of the credential with SHA-256 of its jti.
func (r *Reader) Token(jti evidence.Hash) (Token, error) {
	t := Token{JTI: jti}
	err := one(r.c, []any{&t.Txn, &t.Delegation, &t.Workload, &t.Host, &t.Instance, &t.Audience, &t.Thumbprint, instant{&t.Issued}, instant{&t.Expires}, instant{&t.Revoked}},
		`SELECT txn, delegation, workload, host, instance, audience, thumbprint, issued, expires, revoked FROM token WHERE jti = $1`, jti[:])
	return t, err
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
