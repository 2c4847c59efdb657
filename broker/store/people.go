// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// AddApprover adds a person, without keys.
func (tx *Tx) AddApprover(a Approver) error {
	if a.Issuer == "" || a.Subject == "" || len(a.Salt) == 0 {
		return errors.New("approver without a name or a salt")
	}
	return moved(tx.c, ErrExists, `INSERT INTO approver (issuer, subject, salt, added) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		a.Issuer, a.Subject, a.Salt, millis(a.Added))
}

// AddKey registers a key for a person. A key is one person's: it returns
// [ErrExists] if anybody has it. A key that was removed before comes back for
// the same person only.
func (tx *Tx) AddKey(issuer, subject string, k ApproverKey) error {
	if k.Fingerprint == "" || len(k.Key) == 0 {
		return errors.New("key without a fingerprint or bytes")
	}
	if _, err := tx.Approver(issuer, subject); err != nil {
		return err
	}
	n, err := tx.c.Exec(`UPDATE approver_key SET removed = 0, added = $1
		WHERE fingerprint = $2 AND issuer = $3 AND subject = $4 AND removed <> 0`, millis(k.Added), k.Fingerprint, issuer, subject)
	if err != nil || n > 0 {
		return err
	}
	return moved(tx.c, ErrExists, `INSERT INTO approver_key (fingerprint, issuer, subject, key, added, removed)
		VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT DO NOTHING`, k.Fingerprint, issuer, subject, k.Key, millis(k.Added))
}

// RemoveKey ends a key. What it signed no longer counts.
func (tx *Tx) RemoveKey(fingerprint string, at time.Time) error {
	return moved(tx.c, ErrNotFound, `UPDATE approver_key SET removed = $1 WHERE fingerprint = $2 AND removed = 0`, millis(at), fingerprint)
}

// EraseApprover forgets a person: keys and salt. Their pseudonym in the log
// stays and says nothing any more.
func (tx *Tx) EraseApprover(issuer, subject string) error {
	if _, err := tx.c.Exec(`DELETE FROM approver_key WHERE issuer = $1 AND subject = $2`, issuer, subject); err != nil {
		return err
	}
	return moved(tx.c, ErrNotFound, `DELETE FROM approver WHERE issuer = $1 AND subject = $2`, issuer, subject)
}

// people returns persons with their keys, in one query.
func (r *Reader) people(where string, args ...any) ([]Approver, error) {
	var out []Approver
	_, err := all(r.c, func(scan func(...any) error) (struct{}, error) {
		var a Approver
		var k ApproverKey
		if err := scan(&a.Issuer, &a.Subject, &a.Salt, instant{&a.Added}, &k.Fingerprint, &k.Key, instant{&k.Added}, instant{&k.Removed}); err != nil {
			return struct{}{}, err
		}
		if n := len(out); n == 0 || out[n-1].Issuer != a.Issuer || out[n-1].Subject != a.Subject {
			out = append(out, a)
		}
		if k.Fingerprint != "" { // a person without keys is a row with none
			last := &out[len(out)-1]
			last.Keys = append(last.Keys, k)
		}
		return struct{}{}, nil
	}, `SELECT a.issuer, a.subject, a.salt, a.added, COALESCE(k.fingerprint, ''), COALESCE(k.key, a.salt), COALESCE(k.added, 0), COALESCE(k.removed, 0)
		FROM approver a LEFT JOIN approver_key k ON k.issuer = a.issuer AND k.subject = a.subject `+where+` ORDER BY a.subject, a.issuer, k.added, k.fingerprint`, args...)
	return out, err
}

// Approver returns a person with all their keys, removed ones too.
func (r *Reader) Approver(issuer, subject string) (Approver, error) {
	found, err := r.people(`WHERE a.issuer = $1 AND a.subject = $2`, issuer, subject)
	if err != nil {
		return Approver{}, err
	}
	if len(found) == 0 {
		return Approver{}, ErrNotFound
	}
	return found[0], nil
}

// Approvers returns all persons with their keys, by name.
func (r *Reader) Approvers() ([]Approver, error) { return r.people("") }

// PutResource adds a protected system or replaces it, its secret included.
func (tx *Tx) PutResource(s Resource) error {
	_, err := tx.c.Exec(`INSERT INTO resource (id, audience, secret, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET audience = excluded.audience, secret = excluded.secret, updated = excluded.updated`,
		s.ID, s.Audience, s.Secret[:], millis(s.Updated))
	return err
}

// RemoveResource forgets a protected system.
func (tx *Tx) RemoveResource(id string) error {
	return moved(tx.c, ErrNotFound, `DELETE FROM resource WHERE id = $1`, id)
}

func scanResource(scan func(...any) error) (s Resource, err error) {
	return s, scan(&s.ID, &s.Audience, digest{&s.Secret}, instant{&s.Updated})
}

// Resource returns a protected system.
func (r *Reader) Resource(id string) (Resource, error) {
	found, err := all(r.c, scanResource, `SELECT id, audience, secret, updated FROM resource WHERE id = $1`, id)
	if err != nil {
		return Resource{}, err
	}
	if len(found) == 0 {
		return Resource{}, ErrNotFound
	}
	return found[0], nil
}

// Resources returns all protected systems.
func (r *Reader) Resources() ([]Resource, error) {
	return all(r.c, scanResource, `SELECT id, audience, secret, updated FROM resource ORDER BY id`)
}

// DocumentDigest returns the digest that a document is changed by.
//
//	digest = SHA-256(body)
func DocumentDigest(body []byte) evidence.Hash { return sha256.Sum256(body) }

// PutDocument writes a registration over the one with digest previous, which
// is zero when there must be none. It returns [ErrStale] when there is another.
// d.Digest is computed, not read.
func (tx *Tx) PutDocument(d Document, previous evidence.Hash) error {
	if d.Kind == "" || d.Name == "" || len(d.Body) == 0 {
		return errors.New("document without a kind, a name or a body")
	}
	h := DocumentDigest(d.Body)
	if previous.IsZero() {
		return moved(tx.c, ErrStale, `INSERT INTO document (kind, name, body, digest, updated) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			d.Kind, d.Name, d.Body, h[:], millis(d.Updated))
	}
	return moved(tx.c, ErrStale, `UPDATE document SET body = $1, digest = $2, updated = $3 WHERE kind = $4 AND name = $5 AND digest = $6`,
		d.Body, h[:], millis(d.Updated), d.Kind, d.Name, previous[:])
}

// RemoveDocument forgets a registration.
func (tx *Tx) RemoveDocument(kind, name string) error {
	return moved(tx.c, ErrNotFound, `DELETE FROM document WHERE kind = $1 AND name = $2`, kind, name)
}

func scanDocument(scan func(...any) error) (d Document, err error) {
	return d, scan(&d.Kind, &d.Name, &d.Body, digest{&d.Digest}, instant{&d.Updated})
}

// Document returns a registration.
func (r *Reader) Document(kind, name string) (Document, error) {
	found, err := all(r.c, scanDocument, `SELECT kind, name, body, digest, updated FROM document WHERE kind = $1 AND name = $2`, kind, name)
	if err != nil {
		return Document{}, err
	}
	if len(found) == 0 {
		return Document{}, ErrNotFound
	}
	return found[0], nil
}

// Documents returns all registrations of a kind, by name.
func (r *Reader) Documents(kind string) ([]Document, error) {
	return all(r.c, scanDocument, `SELECT kind, name, body, digest, updated FROM document WHERE kind = $1 ORDER BY name`, kind)
}
