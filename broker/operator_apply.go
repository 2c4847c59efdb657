// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// Results of applying a registration.
const (
	created   = "created"
	changed   = "changed"
	unchanged = "unchanged"
	added     = "added"
)

// operator is who vouches for what comes through the operator's socket.
const operator = "operator"

type applied struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Result string `json:"result"`
}

// postApply takes registrations, all of them or none.
func (b *Broker) postApply(w http.ResponseWriter, r *http.Request) *oauth.Error {
	body, fault := oauth.ReadBody(w, r, registration.MaxInput)
	if fault != nil {
		return fault
	}
	now := b.Now()
	objects, err := registration.Parse(body, b.TrustDomain, operator, now)
	if err != nil {
		return invalid("%v", err)
	}
	var out []applied
	err = b.store.Update(r.Context(), func(tx *store.Tx) error {
		out = []applied{}
		for _, o := range objects {
			kind, name := o.Ref()
			result, err := b.apply(tx, o, now)
			if err != nil {
				return fmt.Errorf("%s %q: %w", kind, name, err)
			}
			out = append(out, applied{kind, name, result})
		}
		return nil
	})
	if errors.As(err, &fault) {
		fault.Description = strings.TrimSuffix(err.Error(), fault.Error()) + fault.Description
		return fault
	}
	if err != nil {
		return b.unwritable("applying registrations", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"applied": out})
	return nil
}

func (b *Broker) apply(tx *store.Tx, o registration.Object, now time.Time) (string, error) {
	switch o := o.(type) {
	case *registration.Workload:
		return b.applyWorkload(tx, o, now)
	case *registration.Machine:
		return b.applyDocument(tx, store.KindMachine, o)
	case *registration.Approver:
		return b.applyApprover(tx, o, now)
	case *registration.Resource:
		return b.applyResource(tx, o, now)
	}
	return "", fmt.Errorf("unknown kind %T", o)
}

func (b *Broker) applyWorkload(tx *store.Tx, w *registration.Workload, now time.Time) (string, error) {
	document, err := tx.Document(store.KindWorkload, w.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if err == nil {
		earlier, err := registration.ParseWorkload(document.Body)
		if err != nil {
			return "", err
		}
		w.Keep(earlier, now)
	}
	return b.applyDocument(tx, store.KindWorkload, w)
}

func (b *Broker) applyDocument(tx *store.Tx, kind string, o registration.Object) (string, error) {
	_, name := o.Ref()
	body, err := registration.Marshal(o)
	if err != nil {
		return "", err
	}
	document, err := tx.Document(kind, name)
	result := changed
	switch {
	case errors.Is(err, store.ErrNotFound):
		result = created
	case err != nil:
		return "", err
	case document.Digest == store.DocumentDigest(body):
		return unchanged, nil
	}
	d := b.newDecision(audit.TypePolicy, result)
	d.entry.Target = name
	return result, b.putDocument(tx, kind, o, document.Digest, d)
}

// applyApprover makes a person's keys those of the list. A key that is not on
// it any more is removed: what it signed no longer counts.
func (b *Broker) applyApprover(tx *store.Tx, a *registration.Approver, now time.Time) (string, error) {
	wanted := make(map[string]delegation.Key)
	for _, line := range a.Keys {
		key, err := delegation.ParseKey(line)
		if err != nil {
			return "", invalid("%v", err)
		}
		wanted[key.Fingerprint()] = key
	}
	person, err := tx.Approver(b.Issuer, a.Name)
	result := unchanged
	if errors.Is(err, store.ErrNotFound) {
		salt := make([]byte, audit.SaltSize)
		if _, err := io.ReadFull(b.Rand, salt); err != nil {
			return "", err
		}
		person, result = store.Approver{Issuer: b.Issuer, Subject: a.Name, Salt: salt, Added: now}, created
		err = tx.AddApprover(person)
	}
	if err != nil {
		return "", err
	}
	for _, k := range person.Keys {
		_, keep := wanted[k.Fingerprint]
		switch {
		case !k.Removed.IsZero():
		case keep:
			delete(wanted, k.Fingerprint)
		default:
			if err := tx.RemoveKey(k.Fingerprint, now); err != nil {
				return "", err
			}
			if result, err = changed, b.keyEntry(tx, a.Name, "removed", k.Key); err != nil {
				return "", err
			}
		}
	}
	for _, fingerprint := range slices.Sorted(maps.Keys(wanted)) {
		key := wanted[fingerprint]
		err := tx.AddKey(b.Issuer, a.Name, store.ApproverKey{Fingerprint: fingerprint, Key: key.Marshal(), Added: now})
		if errors.Is(err, store.ErrExists) {
			return "", conflict("key %s is somebody else's", fingerprint)
		}
		if err == nil {
			err = b.keyEntry(tx, a.Name, added, key.Marshal())
		}
		if err != nil {
			return "", err
		}
		if result == unchanged {
			result = changed
		}
	}
	return result, nil
}

// keyEntry logs that a key came or went: so a broker's insider cannot register
// one for somebody else in silence. The person stands under their pseudonym.
func (b *Broker) keyEntry(tx *store.Tx, name, word string, key []byte) error {
	d := b.newDecision(audit.TypeKey, word)
	human, err := pseudonym(tx, delegation.Person{Issuer: b.Issuer, Subject: name})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(key)
	d.entry.Human, d.entry.Material = human, sum[:]
	return b.append(tx, d)
}

// applyResource registers a protected system. It has no secret until one is
// asked for, and keeps the one it has.
func (b *Broker) applyResource(tx *store.Tx, o *registration.Resource, now time.Time) (string, error) {
	have, err := tx.Resource(o.Name)
	result := changed
	switch {
	case errors.Is(err, store.ErrNotFound):
		result = created
	case err != nil:
		return "", err
	case have.Audience == o.Audience:
		return unchanged, nil
	default:
		// A secret is good for the audience it was given for.
		have.Secret = evidence.Hash{}
	}
	d := b.newDecision(audit.TypePolicy, result)
	d.entry.Target, d.entry.Audience = o.Name, o.Audience
	if err := tx.PutResource(store.Resource{ID: o.Name, Audience: o.Audience, Secret: have.Secret, Updated: now}); err != nil {
		return "", err
	}
	return result, b.append(tx, d)
}

// postResource gives a protected system a new secret.
func (b *Broker) postResource(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in struct {
		Name     string `json:"name"`
		Audience string `json:"audience"`
	}
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	if err := errors.Join(registration.CheckName(in.Name), registration.CheckURL(in.Audience)); err != nil {
		return invalid("%v", err)
	}
	secret, digest, err := b.secret()
	if err != nil {
		return b.unwritable("reading randomness", err)
	}
	d := b.newDecision(audit.TypePolicy, "secret")
	d.entry.Target, d.entry.Audience = in.Name, in.Audience
	err = b.store.Update(r.Context(), func(tx *store.Tx) error {
		if err := tx.PutResource(store.Resource{ID: in.Name, Audience: in.Audience, Secret: digest, Updated: b.Now()}); err != nil {
			return err
		}
		return b.append(tx, d)
	})
	if err != nil {
		return b.unwritable("registering a resource", err)
	}
	oauth.WriteJSON(w, http.StatusCreated, map[string]string{"name": in.Name, "audience": in.Audience, "secret": secret})
	return nil
}

// postRefs pins one more digest for a workload.
func (b *Broker) postRefs(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in struct {
		Workload string `json:"workload"`
		Digest   string `json:"digest"`
		Label    string `json:"label"`
		Reason   string `json:"reason"`
		Group    string `json:"group"`
	}
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	if in.Group == "" {
		in.Group = "executables"
	}
	if len(in.Reason) == 0 || len(in.Reason) > 500 || len(in.Label) > 200 {
		return invalid("reason must be given, in at most 500 bytes; label has at most 200")
	}
	now := b.Now()
	result := added
	d := b.newDecision(audit.TypeRefs, added)
	d.entry.Target, d.why.Reason, d.why.Title = in.Workload, in.Reason, "a digest was accepted: "+in.Digest
	err := b.store.Update(r.Context(), func(tx *store.Tx) error {
		document, err := tx.Document(store.KindWorkload, in.Workload)
		if err != nil {
			return err
		}
		workload, err := registration.ParseWorkload(document.Body)
		if err != nil {
			return err
		}
		group := workload.Group(in.Group)
		if group == nil {
			return invalid("group %q, want %s", in.Group, registration.GroupNames)
		}
		if slices.ContainsFunc(*group, func(v verify.Value) bool { return v.Digest == in.Digest }) {
			result = unchanged
			return nil
		}
		*group = append(*group, verify.Value{Digest: in.Digest, Label: in.Label, Provenance: verify.Pinned, By: operator, At: now.UTC().Truncate(time.Second)})
		reference := workload.Reference(nil)
		if err := reference.Check(); err != nil {
			return invalid("%v", err)
		}
		return b.putDocument(tx, store.KindWorkload, workload, document.Digest, d)
	})
	var fault *oauth.Error
	if errors.As(err, &fault) {
		return fault
	}
	if err != nil {
		return b.found("adding a reference value", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]string{"workload": in.Workload, "group": in.Group, "result": result})
	return nil
}

func (b *Broker) getWorkloads(w http.ResponseWriter, r *http.Request) *oauth.Error {
	return b.documents(w, r, store.KindWorkload, "workloads")
}

func (b *Broker) getMachines(w http.ResponseWriter, r *http.Request) *oauth.Error {
	return b.documents(w, r, store.KindMachine, "machines")
}

// documents lists registrations as they were given, with digest and time.
func (b *Broker) documents(w http.ResponseWriter, r *http.Request, kind, plural string) *oauth.Error {
	out := []map[string]any{}
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		documents, err := s.Documents(kind)
		for _, d := range documents {
			shown := map[string]any{}
			if err := json.Unmarshal(d.Body, &shown); err != nil {
				return err
			}
			shown["digest"], shown["updated"] = tagged(d.Digest), rfc3339(d.Updated)
			out = append(out, shown)
		}
		return err
	})
	if err != nil {
		return b.unwritable("listing registrations", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{plural: out})
	return nil
}
