// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/registration"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

const (
	maxOpenRequests = 32  // delegations that wait for one person
	maxListed       = 500 // delegations, or entries, in one answer
)

func (b *Broker) getApprovers(w http.ResponseWriter, r *http.Request) *oauth.Error {
	type keyView struct {
		Fingerprint string `json:"fingerprint"`
		Key         string `json:"key"`
		Added       string `json:"added"`
		Removed     string `json:"removed,omitempty"`
	}
	type view struct {
		Kind  string    `json:"kind"`
		Name  string    `json:"name"`
		Added string    `json:"added"`
		Keys  []keyView `json:"keys"`
	}
	out := []view{}
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		people, err := s.Approvers()
		for _, p := range people {
			v := view{Kind: registration.KindApprover, Name: p.Subject, Added: rfc3339(p.Added), Keys: []keyView{}}
			for _, k := range p.Keys {
				shown := keyView{Fingerprint: k.Fingerprint, Added: rfc3339(k.Added), Removed: rfc3339(k.Removed)}
				if key, err := delegation.ParseKeyBlob(k.Key); err == nil {
					shown.Key = key.String()
				}
				v.Keys = append(v.Keys, shown)
			}
			out = append(out, v)
		}
		return err
	})
	if err != nil {
		return b.unwritable("listing approvers", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"approvers": out})
	return nil
}

func (b *Broker) getResources(w http.ResponseWriter, r *http.Request) *oauth.Error {
	out := []map[string]any{}
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		resources, err := s.Resources()
		for _, o := range resources {
			out = append(out, map[string]any{"kind": registration.KindResource, "name": o.ID, "audience": o.Audience,
				"secret": !o.Secret.IsZero(), "updated": rfc3339(o.Updated)})
		}
		return err
	})
	if err != nil {
		return b.unwritable("listing resources", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"resources": out})
	return nil
}

type delegationRequest struct {
	Workload  string   `json:"workload"`
	Approver  string   `json:"approver"`
	Purpose   string   `json:"purpose"`
	Actions   []string `json:"actions"`
	Audience  string   `json:"audience"`
	Uses      uint64   `json:"uses"`
	ExpiresIn int64    `json:"expires_in"`
	Datatypes []string `json:"datatypes"`
	StartsIn  int64    `json:"starts_in"`
	Per       string   `json:"per"`
	FourEyes  uint64   `json:"four_eyes"`
	Lifetime  uint64   `json:"lifetime"`
	PinCode   bool     `json:"pin_code"`
}

// maxDelegation is how long a delegation may be good.
const maxDelegation = 366 * 24 * time.Hour

// postDelegation writes down what a person will be asked to sign. It allows
// nothing.
func (b *Broker) postDelegation(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var in delegationRequest
	if fault := readJSON(w, r, &in); fault != nil {
		return fault
	}
	if in.ExpiresIn <= 0 || in.ExpiresIn > int64(maxDelegation/time.Second) || in.StartsIn < 0 || in.StartsIn >= in.ExpiresIn {
		return invalid("expires_in %d, starts_in %d: want 0 <= starts_in < expires_in <= %d seconds", in.ExpiresIn, in.StartsIn, int64(maxDelegation/time.Second))
	}
	id, err := delegation.NewID(b.Rand)
	if err != nil {
		return b.unwritable("reading randomness", err)
	}
	nonce := make([]byte, delegation.NonceSize)
	if _, err := io.ReadFull(b.Rand, nonce); err != nil {
		return b.unwritable("reading randomness", err)
	}
	now := b.Now()
	d := b.newDecision(audit.TypeDelegation, "requested")
	err = b.store.Update(r.Context(), func(tx *store.Tx) error {
		o, enc, err := b.draft(tx, &in, id, nonce, now)
		if err != nil {
			return err
		}
		row := store.Delegation{ID: o.ID, D: delegation.Digest(enc), Object: enc, Workload: o.Workload.ID, Issuer: o.Approver.Issuer, Subject: o.Approver.Subject,
			State: store.StateRequested, PerInstance: o.Limits.Per == delegation.PerInstance, UsesLeft: o.Uses,
			NotBefore: o.NotBeforeTime(), Expires: o.ExpiresTime(), Requested: now}
		if err := tx.AddDelegation(row); err != nil {
			return err
		}
		if d.entry.Human, err = pseudonym(tx, o.Approver); err != nil {
			return err
		}
		d.entry.DelegationID, d.entry.D, d.entry.Agent = o.ID, digestBytes(row.D), o.Workload.ID
		d.entry.Audience, d.entry.Actions = o.Audience, o.Actions
		return b.append(tx, d)
	})
	var fault *oauth.Error
	if errors.As(err, &fault) {
		return fault
	}
	if err != nil {
		return b.unwritable("keeping a delegation", err)
	}
	view, err := b.delegationView(r.Context(), id)
	if err != nil {
		return b.found("reading a delegation", err)
	}
	oauth.WriteJSON(w, http.StatusCreated, view)
	return nil
}

// draft is the object a request asks for, if there is such a workload and such
// a person with a key, who is not asked too much already. What the workload
// must prove at least is taken from its registration now, so that it cannot be
// lowered after the signature.
func (b *Broker) draft(tx *store.Tx, in *delegationRequest, id string, nonce []byte, now time.Time) (*delegation.Delegation, []byte, error) {
	document, err := tx.Document(store.KindWorkload, in.Workload)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, invalid("workload %q is not registered", in.Workload)
	} else if err != nil {
		return nil, nil, err
	}
	workload, err := registration.ParseWorkload(document.Body)
	if err != nil {
		return nil, nil, err
	}
	person, err := tx.Approver(b.Issuer, in.Approver)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err
	}
	if err != nil || !slices.ContainsFunc(person.Keys, func(k store.ApproverKey) bool { return k.Removed.IsZero() }) {
		return nil, nil, invalid("approver %q is not registered, or has no key", in.Approver)
	}
	if open, err := tx.OpenRequests(b.Issuer, in.Approver, now); err != nil {
		return nil, nil, err
	} else if open >= maxOpenRequests {
		return nil, nil, busy(http.StatusTooManyRequests, fmt.Sprintf("%d requests wait for %q already", open, in.Approver), time.Minute)
	}
	o := delegation.Delegation{
		ID: id, Broker: b.Issuer, Requester: "spiffe://" + b.TrustDomain + "/operator",
		Workload: delegation.Workload{ID: in.Workload, Levels: delegation.Levels{EK: workload.Minimum.EK, Anchor: workload.Minimum.Anchor, Tier: workload.Minimum.Tier}},
		Approver: delegation.Person{Issuer: b.Issuer, Subject: in.Approver}, Purpose: in.Purpose, Actions: in.Actions, Audience: in.Audience,
		Limits:    delegation.Limits{Datatypes: in.Datatypes, Per: in.Per, Credential: in.Lifetime},
		NotBefore: uint64(now.Unix() + in.StartsIn), Expires: uint64(now.Unix() + in.ExpiresIn), Uses: in.Uses, FourEyes: max(1, in.FourEyes),
		RequestedAt: uint64(now.Unix()), Nonce: nonce,
	}
	if o.Limits.Per == "" {
		o.Limits.Per = delegation.PerCredential
	}
	if in.PinCode {
		for _, v := range workload.Code.Executables {
			var h evidence.Hash
			if len(v.Digest) < 8 || v.Digest[:8] != "sha-256:" || h.UnmarshalText([]byte(v.Digest[8:])) != nil {
				return nil, nil, invalid("pin_code: executable %s has no SHA-256", v.Digest)
			}
			o.Workload.Code = append(o.Workload.Code, h)
		}
	}
	whole, enc, err := delegation.New(o)
	if err != nil {
		return nil, nil, invalid("%v", err)
	}
	return whole, enc, nil
}

func (b *Broker) getDelegations(w http.ResponseWriter, r *http.Request) *oauth.Error {
	out := []*delegationView{}
	now := b.Now()
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		rows, err := s.Delegations(maxListed)
		if err != nil {
			return err
		}
		for _, row := range rows {
			a, err := readApproval(s, row)
			if err != nil {
				return err
			}
			v, err := a.view(now)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	if err != nil {
		return b.unwritable("listing delegations", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"delegations": out})
	return nil
}

// number reads a query parameter.
func number(r *http.Request, name string, otherwise uint64) (uint64, *oauth.Error) {
	values := r.URL.Query()[name]
	if len(values) == 0 {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 62)
	if err != nil || len(values) > 1 {
		return 0, invalid("%s: want one number", name)
	}
	return n, nil
}

func (b *Broker) getAudit(w http.ResponseWriter, r *http.Request) *oauth.Error {
	type entryView struct {
		Index uint64        `json:"index"`
		Leaf  evidence.Hash `json:"leaf"`
		Entry *audit.Entry  `json:"entry"`
	}
	from, fault := number(r, "from", 0)
	if fault != nil {
		return fault
	}
	limit, fault := number(r, "limit", maxListed)
	if fault != nil {
		return fault
	}
	entries := []entryView{}
	var head store.Head
	err := b.store.View(r.Context(), func(s *store.Reader) (err error) {
		if head, err = s.Head(); err != nil {
			return err
		}
		leaves, err := s.Leaves(from, int(min(limit, maxListed)))
		for _, l := range leaves {
			entry, err := audit.ParseEntry(l.Entry)
			if err != nil {
				return fmt.Errorf("entry %d of the log: %v", l.Index, err)
			}
			entries = append(entries, entryView{l.Index, evidence.LeafHash(l.Entry), entry})
		}
		return err
	})
	if err != nil {
		return b.unwritable("reading the log", err)
	}
	oauth.WriteJSON(w, http.StatusOK, map[string]any{"size": head.Size, "checkpoint": string(head.Checkpoint), "entries": entries, "next": from + uint64(len(entries))})
	return nil
}

func (b *Broker) getCheckpoint(w http.ResponseWriter, r *http.Request) *oauth.Error {
	var head store.Head
	err := b.store.View(r.Context(), func(s *store.Reader) (err error) {
		head, err = s.Head()
		return err
	})
	if err != nil {
		return b.unwritable("reading the head of the log", err)
	}
	return text(w, head.Checkpoint)
}

func (b *Broker) getProof(w http.ResponseWriter, r *http.Request) *oauth.Error {
	index, fault := number(r, "index", 1<<62)
	if fault != nil {
		return fault
	}
	var receipt []byte
	err := b.store.View(r.Context(), func(s *store.Reader) (err error) {
		receipt, err = s.Receipt(index)
		return err
	})
	if err != nil {
		return b.found("reading a receipt", err)
	}
	return text(w, receipt)
}

func text(w http.ResponseWriter, body []byte) *oauth.Error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// The client is gone when this fails; there is nobody left to tell.
	_, _ = w.Write(body)
	return nil
}

// explained reads the last explanation of a transaction: what its outcome was.
func (b *Broker) explained(r *http.Request) (*explanation, *oauth.Error) {
	txn := r.PathValue("txn")
	if !isTxn(txn) {
		return nil, b.found("", store.ErrNotFound)
	}
	e := new(explanation)
	err := b.store.View(r.Context(), func(s *store.Reader) error {
		all, err := s.Explanations(txn)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return store.ErrNotFound
		}
		last := all[len(all)-1]
		e.LogIndex = &last.Index
		return json.Unmarshal(last.JSON, e)
	})
	if err != nil {
		return nil, b.found("reading an explanation", err)
	}
	return e, nil
}

func (b *Broker) getExplanation(w http.ResponseWriter, r *http.Request) *oauth.Error {
	e, fault := b.explained(r)
	if fault != nil {
		return fault
	}
	return problem(w, e)
}

// getShortExplanation is for the workload that was refused: who said no and to
// what, never what was expected.
func (b *Broker) getShortExplanation(w http.ResponseWriter, r *http.Request) *oauth.Error {
	e, fault := b.explained(r)
	if fault != nil {
		return fault
	}
	short := struct {
		Type     string          `json:"type"`
		Title    string          `json:"title"`
		Status   int             `json:"status"`
		Txn      string          `json:"txn"`
		Instance string          `json:"instance"`
		Decision string          `json:"decision"`
		Failed   []oauth.Failure `json:"failed"`
	}{e.Type, e.Title, e.Status, e.Txn, e.Instance, e.Decision, (&decision{why: *e}).failures()}
	if len(short.Failed) == 0 {
		short.Title = e.Decision
	}
	return problem(w, short)
}

func problem(w http.ResponseWriter, v any) *oauth.Error {
	body, err := json.Marshal(v)
	if err != nil {
		return invalid("%v", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	// The client is gone when this fails; there is nobody left to tell.
	_, _ = w.Write(append(body, '\n'))
	return nil
}
