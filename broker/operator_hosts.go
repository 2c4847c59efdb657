// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

func invalid(format string, args ...any) *oauth.Error {
	return oauth.Refuse(oauth.InvalidRequest, oauth.RetryNever, format, args...)
}

func conflict(format string, args ...any) *oauth.Error {
	return &oauth.Error{Status: http.StatusConflict, Code: oauth.Conflict, Retry: oauth.RetryNever, Description: fmt.Sprintf(format, args...)}
}

type hostView struct {
	Name     string         `json:"name"`
	ID       string         `json:"id"`
	UEID     evidence.Bytes `json:"ueid"`
	Level    string         `json:"level"`
	Machine  string         `json:"machine"`
	State    string         `json:"state"` // "invited" or "enrolled"
	Enrolled string         `json:"enrolled,omitempty"`
	Seen     string         `json:"seen,omitempty"`
	Epoch    uint64         `json:"epoch"`
	LogSize  uint64         `json:"log_size"`
}

func (b *Broker) getHosts(w http.ResponseWriter, r *http.Request) *oauth.Error {
	out := []hostView{}
	now := b.Now()
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		hosts, err := s.Hosts()
		if err != nil {
			return err
		}
		for _, h := range hosts {
			out = append(out, hostView{Name: h.Name, ID: h.ID, UEID: h.UEID, Level: h.Level, Machine: h.Machine, State: "enrolled",
				Enrolled: rfc3339(h.Enrolled), Seen: rfc3339(h.Seen), Epoch: h.Last.Epoch, LogSize: h.Last.Size})
		}
		invited, err := s.Invitations()
		for _, i := range invited {
			if now.Before(i.Expires) {
				out = append(out, hostView{Name: i.Name, ID: i.ID, Machine: i.Machine, State: "invited"})
			}
		}
		return err
	})
	if err != nil {
		return b.unwritable("listing hosts", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"hosts": out})
	return nil
}

// postHost invites a host: whoever shows the token may enrol under the name,
// once, with an EK that is certified or pinned.
func (b *Broker) postHost(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in struct {
		Name    string `json:"name"`
		Pin     string `json:"ek_pin"`
		Machine string `json:"machine"`
	}
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	if err := registration.CheckName(in.Name); err != nil {
		return invalid("%v", err)
	}
	if in.Machine != "" {
		if err := registration.CheckName(in.Machine); err != nil {
			return invalid("machine: %v", err)
		}
	}
	pin, err := hex.DecodeString(in.Pin)
	if err != nil || len(pin) != 0 && len(pin) != 32 {
		return invalid("ek_pin: want the SHA-256 of the EK's SubjectPublicKeyInfo, 64 hexadecimal digits")
	}
	if len(pin) == 0 && b.authorities.Load().Roots() == 0 {
		return invalid("ek_pin: must be given, since this broker has no EK authorities")
	}
	token, digest, err := b.secret()
	if err != nil {
		return b.unwritable("reading randomness", err)
	}
	now := b.Now()
	d := b.newDecision(audit.TypeHost, "invited")
	d.entry.Host, d.entry.Target, d.entry.Material = b.HostID(in.Name), in.Machine, pin
	err = b.store.Update(r.Context(), func(tx *store.Tx) error {
		err := tx.Invite(store.Invitation{Token: digest, Name: in.Name, ID: b.HostID(in.Name), Machine: in.Machine, EKPin: pin,
			Created: now, Expires: now.Add(invitationLife)})
		if err != nil {
			return err
		}
		return b.append(tx, d)
	})
	if errors.Is(err, store.ErrExists) {
		return conflict("host %q is enrolled or invited already; remove it first", in.Name)
	}
	if err != nil {
		return b.unwritable("inviting a host", err)
	}
	oauth.WriteJSON(w, http.StatusCreated, map[string]any{"name": in.Name, "host": b.HostID(in.Name), "enrol_token": token,
		"expires_in": int64(invitationLife / time.Second)})
	return nil
}

func (b *Broker) deleteHost(w http.ResponseWriter, r *http.Request) *oauth.Error {
	name := r.PathValue("name")
	d := b.newDecision(audit.TypeHost, "removed")
	d.entry.Host = b.HostID(name)
	err := b.store.Update(r.Context(), func(tx *store.Tx) error {
		if err := tx.RemoveHost(name, b.Now()); err != nil {
			return err
		}
		return b.append(tx, d)
	})
	if err != nil {
		return b.found("removing a host", err)
	}
	b.kept.forget(b.HostID(name))
	oauth.WriteJSON(w, http.StatusOK, map[string]string{"name": name, "result": "removed"})
	return nil
}

// readMachine returns the registration of a class, an empty one if there is
// none, and the digest it is changed by.
func readMachine(tx *store.Reader, class string) (*registration.Machine, evidence.Hash, error) {
	machine := &registration.Machine{Kind: registration.KindMachine, Name: class}
	document, err := tx.Document(store.KindMachine, class)
	if err == nil {
		machine, err = registration.ParseMachine(document.Body)
	} else if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return machine, document.Digest, err
}

// maxDocument bounds a registration as it is stored, however much is learned:
// what may be applied in YAML, and its quotation marks in JSON.
const maxDocument = 2 * registration.MaxInput

// putDocument writes a registration and the entry about it. The entry holds
// the digest of the new text.
func (b *Broker) putDocument(tx *store.Tx, kind string, o registration.Object, previous evidence.Hash, d *decision) error {
	body, err := registration.Marshal(o)
	if err != nil {
		return err
	}
	_, name := o.Ref()
	if len(body) > maxDocument {
		return conflict("%s %q would have %d bytes, at most %d", kind, name, len(body), maxDocument)
	}
	if err := tx.PutDocument(store.Document{Kind: kind, Name: name, Body: body, Updated: b.Now()}, previous); err != nil {
		return err
	}
	digest := digestBytes(store.DocumentDigest(body))
	if d.entry.Refs = digest; d.entry.Type == audit.TypePolicy {
		d.entry.Policy, d.entry.Refs = digest, nil
	}
	return b.append(tx, d)
}
