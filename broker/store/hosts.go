// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package store

import (
	"errors"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Invite lets one host enrol under a name. It returns [ErrExists] while a host
// or another invitation has the name.
func (tx *Tx) Invite(i Invitation) error {
	if _, err := tx.c.Exec(`DELETE FROM invitation WHERE name = $1 AND expires <= $2`, i.Name, millis(i.Created)); err != nil {
		return err
	}
	switch _, err := tx.HostByName(i.Name); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return moved(tx.c, ErrExists, `INSERT INTO invitation (token, name, id, machine, ek_pin, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		i.Token[:], i.Name, i.ID, i.Machine, bytesOf(i.EKPin), millis(i.Created), millis(i.Expires))
}

const invitationColumns = `token, name, id, machine, ek_pin, created, expires`

func scanInvitation(i *Invitation) []any {
	return []any{digest{&i.Token}, &i.Name, &i.ID, &i.Machine, optional{&i.EKPin}, instant{&i.Created}, instant{&i.Expires}}
}

// Invitation returns the live invitation with the token.
func (r *Reader) Invitation(token evidence.Hash, now time.Time) (Invitation, error) {
	var i Invitation
	err := one(r.c, scanInvitation(&i), `SELECT `+invitationColumns+` FROM invitation WHERE token = $1`, token[:])
	if err == nil && !now.Before(i.Expires) {
		err = ErrExpired
	}
	return i, err
}

// Invitations returns all invitations, dead ones too, by name.
func (r *Reader) Invitations() ([]Invitation, error) {
	return all(r.c, func(scan func(...any) error) (i Invitation, err error) {
		return i, scan(scanInvitation(&i)...)
	}, `SELECT `+invitationColumns+` FROM invitation ORDER BY name`)
}

// TakeInvitation spends an invitation: it buys one host, once.
func (tx *Tx) TakeInvitation(token evidence.Hash, now time.Time) (Invitation, error) {
	var i Invitation
	err := one(tx.c, scanInvitation(&i), `DELETE FROM invitation WHERE token = $1 RETURNING `+invitationColumns, token[:])
	if err == nil && !now.Before(i.Expires) {
		err = ErrExpired
	}
	return i, err
}

// PutEnrolment keeps an enrolment between its two messages. One that began
// with the same invitation before is forgotten.
func (tx *Tx) PutEnrolment(e Enrolment) error {
	if _, err := tx.c.Exec(`DELETE FROM enrolment WHERE token = $1`, e.Token[:]); err != nil {
		return err
	}
	return moved(tx.c, ErrExists, `INSERT INTO enrolment (id, token, secret, ueid, ek, ak_public, ak_name, level, maker, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		e.ID, e.Token[:], e.Secret[:], e.UEID, e.EK[:], e.AKPublic, e.AKName, e.Level, e.Maker, millis(e.Expires))
}

// TakeEnrolment spends an enrolment: there is one try to answer it. For the
// try to count, the update must return nil also when the answer is wrong.
func (tx *Tx) TakeEnrolment(id string, now time.Time) (Enrolment, error) {
	e := Enrolment{ID: id}
	err := one(tx.c, []any{digest{&e.Token}, digest{&e.Secret}, &e.UEID, digest{&e.EK}, &e.AKPublic, &e.AKName, &e.Level, &e.Maker, instant{&e.Expires}},
		`DELETE FROM enrolment WHERE id = $1 RETURNING token, secret, ueid, ek, ak_public, ak_name, level, maker, expires`, id)
	if err == nil && !now.Before(e.Expires) {
		err = ErrExpired
	}
	return e, err
}

// AddHost adds an enrolled host. It returns [ErrExists] if its name, SPIFFE
// ID, endorsement key or attestation key is that of another.
func (tx *Tx) AddHost(h Host) error {
	if h.Name == "" || h.ID == "" || len(h.UEID) == 0 || h.EK.IsZero() || len(h.AKPublic) == 0 || len(h.AKName) == 0 {
		return errors.New("host without a name or a key")
	}
	return moved(tx.c, ErrExists, `INSERT INTO host (name, id, ueid, ek, ak_public, ak_name, level, maker, machine, enrolled, seen, epoch, sequence, size, root, state, boot_log)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, 0, $11, $12, $11) ON CONFLICT DO NOTHING`,
		h.Name, h.ID, h.UEID, h.EK[:], h.AKPublic, h.AKName, h.Level, h.Maker, h.Machine, millis(h.Enrolled), make([]byte, 32), []byte{})
}

const hostColumns = `name, id, ueid, ek, ak_public, ak_name, level, maker, machine, enrolled, seen, epoch, sequence, size, root, state, boot_log`

func scanHost(scan func(...any) error) (Host, error) {
	var h Host
	l := &h.Last
	err := scan(&h.Name, &h.ID, &h.UEID, digest{&h.EK}, &h.AKPublic, &h.AKName, &h.Level, &h.Maker, &h.Machine, instant{&h.Enrolled}, instant{&h.Seen},
		counter{&l.Epoch}, counter{&l.Sequence}, counter{&l.Size}, digest{&l.Root}, optional{&l.JSON}, digest{&h.BootLog})
	return h, err
}

func (r *Reader) hosts(where string, args ...any) ([]Host, error) {
	return all(r.c, scanHost, `SELECT `+hostColumns+` FROM host `+where, args...)
}

func (r *Reader) host(where string, arg any) (Host, error) {
	found, err := r.hosts(where, arg)
	if err != nil {
		return Host{}, err
	}
	if len(found) == 0 {
		return Host{}, ErrNotFound
	}
	return found[0], nil
}

// HostByName returns the host that the operator calls name.
func (r *Reader) HostByName(name string) (Host, error) { return r.host(`WHERE name = $1`, name) }

// HostByID returns the host with the SPIFFE ID.
func (r *Reader) HostByID(id string) (Host, error) { return r.host(`WHERE id = $1`, id) }

// HostByUEID returns the host with the UEID.
func (r *Reader) HostByUEID(ueid []byte) (Host, error) {
	return r.host(`WHERE ueid = $1`, bytesOf(ueid))
}

// Hosts returns all hosts by name.
func (r *Reader) Hosts() ([]Host, error) { return r.hosts(`ORDER BY name`) }

// AdvanceHost moves what is known of a host's log from what the evidence was
// verified against to what it proved. Forward only: a higher sequence, no
// lower epoch, no smaller log. It returns [ErrStale] if the host is gone, has
// moved in between, or would go backwards.
func (tx *Tx) AdvanceHost(id string, from, to HostState, seen time.Time) error {
	if err := checkCounts(from.Epoch, from.Sequence, from.Size, to.Epoch, to.Sequence, to.Size); err != nil {
		return err
	}
	if len(to.JSON) == 0 {
		return errors.New("host state is empty")
	}
	return moved(tx.c, ErrStale, `UPDATE host SET epoch = $1, sequence = $2, size = $3, root = $4, state = $5, seen = $6
		WHERE id = $7 AND epoch = $8 AND sequence = $9 AND size = $10 AND root = $11 AND state = $12
		AND epoch <= $1 AND size <= $3 AND (sequence < $2 OR state = $13)`,
		count(to.Epoch), count(to.Sequence), count(to.Size), to.Root[:], to.JSON, millis(seen),
		id, count(from.Epoch), count(from.Sequence), count(from.Size), from.Root[:], bytesOf(from.JSON), []byte{})
}

// RemoveHost forgets a host: what it enrolled with, its evidence, how it booted
// and what it measured, an invitation of its name. Its credentials are revoked. It returns
// [ErrNotFound] if there was neither host nor invitation.
func (tx *Tx) RemoveHost(name string, at time.Time) error {
	invited, err := tx.c.Exec(`DELETE FROM invitation WHERE name = $1`, name)
	if err != nil {
		return err
	}
	h, err := tx.HostByName(name)
	if errors.Is(err, ErrNotFound) && invited > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.c.Exec(`DELETE FROM evidence WHERE host = $1`, h.ID); err != nil {
		return err
	}
	if _, err := tx.RevokeHost(h.ID, at); err != nil {
		return err
	}
	if err := tx.ForgetIMAFiles(h.ID); err != nil {
		return err
	}
	if err := moved(tx.c, ErrStale, `DELETE FROM host WHERE name = $1`, name); err != nil {
		return err
	}
	return tx.leaveBootLog(h.BootLog)
}
