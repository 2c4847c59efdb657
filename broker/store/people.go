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

// Approver returns a person with all their keys, removed ones too.
func (r *Reader) Approver(issuer, subject string) (Approver, error) {
	a := Approver{Issuer: issuer, Subject: subject}
	err := one(r.c, []any{&a.Salt, instant{&a.Added}}, `SELECT salt, added FROM approver WHERE issuer = $1 AND subject = $2`, issuer, subject)
	if err != nil {
		return a, err
	}
	a.Keys, err = r.keys(issuer, subject)
	return a, err
}

// Approvers returns all persons with their keys, by name.
func (r *Reader) Approvers() ([]Approver, error) {
	people, err := all(r.c, func(scan func(...any) error) (a Approver, err error) {
		return a, scan(&a.Issuer, &a.Subject, &a.Salt, instant{&a.Added})
	}, `SELECT issuer, subject, salt, added FROM approver ORDER BY subject, issuer`)
	if err != nil {
		return nil, err
	}
	at := make(map[[2]string]int, len(people))
	for i := range people {
		at[[2]string{people[i].Issuer, people[i].Subject}] = i
	}
	_, err = all(r.c, func(scan func(...any) error) (struct{}, error) {
		var who [2]string
		var k ApproverKey
		err := scan(&who[0], &who[1], &k.Fingerprint, &k.Key, instant{&k.Added}, instant{&k.Removed})
		if i, ok := at[who]; ok {
			people[i].Keys = append(people[i].Keys, k)
		}
		return struct{}{}, err
	}, `SELECT issuer, subject, fingerprint, key, added, removed FROM approver_key ORDER BY added, fingerprint`)
	return people, err
}

func (r *Reader) keys(issuer, subject string) ([]ApproverKey, error) {
	return all(r.c, func(scan func(...any) error) (k ApproverKey, err error) {
		return k, scan(&k.Fingerprint, &k.Key, instant{&k.Added}, instant{&k.Removed})
	}, `SELECT fingerprint, key, added, removed FROM approver_key WHERE issuer = $1 AND subject = $2 ORDER BY added, fingerprint`, issuer, subject)
}

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
