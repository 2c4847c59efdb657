// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/challenge"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// maxLines bounds how many requests of a bundle its explanation lists.
const maxLines = 512

// quoteMemory is how long a quote is known again. Its challenge is refused for
// its age long before.
const quoteMemory = 10 * time.Minute

// submission is one bundle on its way through the station.
type submission struct {
	now    time.Time
	txn    string
	bundle *evidence.Bundle
	host   store.Host
	memory *memory
	end    time.Time // of the challenge
	result verify.Result

	// What was known of boot and IMA list, and what came along. See kept.go.
	boot    *verify.Boot
	list    fileList
	begun   *begun // the list is this one, which is not in the store
	rawBoot []byte
}

type evidenceAnswer struct {
	Txn       string           `json:"txn"`
	Verdict   string           `json:"verdict"`
	ExpiresIn int64            `json:"expires_in"`
	Requests  []requestVerdict `json:"requests"`
	EAR       *verify.EAR      `json:"ear"`
}

type requestVerdict struct {
	Index   uint64          `json:"index"`
	Txn     string          `json:"txn"`
	Ref     string          `json:"evidence_ref"`
	Verdict string          `json:"verdict"`
	Failed  []oauth.Failure `json:"failed"`
}

// postEvidence takes one bundle: size, known host, challenge, verification,
// appraisal of each request, references.
func (b *Broker) postEvidence(w http.ResponseWriter, r *http.Request) *oauth.Error {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/eat-ucs+cbor" || params["eat_profile"] != evidence.Profile {
		return wrongType(r, evidence.MediaType)
	}
	// Room for the body first, the right to work on it only when it is here: a
	// slow sender holds nobody up.
	room, fault := b.slot(r.Context(), b.bodies)
	if fault != nil {
		return fault
	}
	defer room()
	body, fault := oauth.ReadBody(w, r, evidence.MaxBundle)
	if fault != nil {
		return fault
	}
	work, fault := b.slot(r.Context(), b.slots)
	if fault != nil {
		return fault
	}
	defer work()
	bundle, err := evidence.Parse(body)
	if err != nil {
		b.counters.add("malformed-evidence")
		return rejected(verify.Malformed(err))
	}
	// One bundle of a host at a time: the second is held against what the
	// first proved, and a host cannot take all the slots with work at once.
	mine := &b.hosts[bundle.UEID[1]%uint8(len(b.hosts))]
	mine.Lock()
	defer mine.Unlock()
	s := &submission{now: b.Now(), bundle: bundle}
	if fault := b.known(r.Context(), s); fault != nil {
		return fault
	}
	if rejection, fault := b.challenged(r.Context(), s); fault != nil {
		return fault
	} else if rejection != nil {
		return b.reject(r.Context(), s, rejection)
	}
	if rejection := b.verify(s); rejection != nil {
		b.keepBegun(s, rejection)
		return b.reject(r.Context(), s, rejection)
	}
	answer, fault := b.accept(r.Context(), s)
	if fault != nil {
		return fault
	}
	oauth.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// slot waits a moment for one of a limited number of places.
func (b *Broker) slot(ctx context.Context, places chan struct{}) (release func(), fault *oauth.Error) {
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-patience.C:
		b.counters.add("overload")
		return nil, busy(http.StatusServiceUnavailable, "the broker is busy", time.Second)
	case <-ctx.Done():
		return nil, busy(http.StatusServiceUnavailable, "the request was given up", time.Second)
	}
}

// known looks the host up by the name it gives itself. A stranger is counted.
func (b *Broker) known(ctx context.Context, s *submission) *oauth.Error {
	err := b.store.View(ctx, func(r *store.Reader) (err error) {
		if s.host, err = r.HostByUEID(s.bundle.UEID); err != nil {
			return err
		}
		if s.memory, err = remembered(&s.host); err != nil {
			return err
		}
		return b.recall(r, s)
	})
	if errors.Is(err, store.ErrNotFound) {
		b.counters.add("unknown-host")
		return &oauth.Error{Status: http.StatusUnauthorized, Code: oauth.InvalidClient, Retry: oauth.RetryOperator,
			Description: "the host is not enrolled"}
	}
	if err != nil {
		return b.unwritable("looking up a host", err)
	}
	return nil
}

// challenged asks whether the nonce is ours, this host's and in time, by the
// broker's clock, and uses it up: whatever comes of the evidence, no other
// evidence will do for it.
func (b *Broker) challenged(ctx context.Context, s *submission) (*verify.Rejection, *oauth.Error) {
	var err error
	s.end, err = b.challenges.Check(s.host.ID, s.bundle.Nonce, s.now)
	switch {
	case errors.Is(err, challenge.ErrForeign):
		return rejection("E_NONCE", "bundle nonce", "a challenge that this broker gave this host", "another one"), nil
	case err != nil:
		return rejection("E_NONCE_EXPIRED", "challenge", "an answer within "+challenge.Life.String()+" before "+rfc3339(s.end), rfc3339(s.now)), nil
	}
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		return tx.Once(store.SpaceNonce, sha256.Sum256(s.bundle.Nonce), s.end.Add(quoteMemory))
	})
	if errors.Is(err, store.ErrReplay) {
		return rejection("E_NONCE", "bundle nonce", "a challenge that was not answered yet", "one that was: this is a replay"), nil
	}
	if err != nil {
		return nil, b.unwritable("using up a challenge", err)
	}
	return nil, nil
}

// verify hands the bundle to station 8. Nothing after this reads the bundle.
func (b *Broker) verify(s *submission) *verify.Rejection {
	host := verify.Host{UEID: s.host.UEID, AKPublic: s.host.AKPublic, AKName: s.host.AKName, Level: s.host.Level, Maker: s.host.Maker,
		Boot: s.boot, IMA: s.list.IMAList}
	if s.memory != nil {
		host.Last = &s.memory.State
	}
	asked := verify.Challenge{Broker: b.Issuer, Nonce: s.bundle.Nonce, Expires: s.end}
	s.detach()
	var err error
	s.result, err = verify.Bundle(s.bundle, host, asked, b.Policy, s.now)
	s.bundle = nil
	var said *verify.Rejection
	if errors.As(err, &said) {
		return said
	}
	if err != nil || !s.result.OK() {
		return rejection("E_INCOMPLETE", "bundle", "a result", fmt.Sprint(err))
	}
	return nil
}

// accept stores what a true bundle proves: the host's new state, one reference
// per request with its appraisal, and the entries that say so.
func (b *Broker) accept(ctx context.Context, s *submission) (*evidenceAnswer, *oauth.Error) {
	d := b.newDecision(audit.TypeDecision, "evidence")
	d.entry.Host, d.entry.Evidence = s.host.ID, digestBytes(s.result.Digest())
	s.txn = d.entry.Txn
	appraised, fault := b.appraise(ctx, s)
	if fault != nil {
		return nil, fault
	}
	answer, rows, denials, err := b.references(s, appraised)
	if err != nil {
		return nil, b.unwritable("making references", err)
	}
	for _, v := range answer.Requests[:min(len(answer.Requests), maxLines)] {
		d.why.Requests = append(d.why.Requests, requestLine{Index: v.Index, Txn: v.Txn, Verdict: v.Verdict})
	}
	d.why.Title = fmt.Sprintf("evidence is true: %d requests, %s", len(answer.Requests), answer.Verdict)
	next, err := nextState(s.result)
	if err != nil {
		return nil, b.unwritable("encoding the state of a host", err)
	}
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Once(store.SpaceQuote, s.result.Digest(), s.now.Add(quoteMemory)); err != nil {
			return err
		}
		if err := tx.AdvanceHost(s.host.ID, s.host.Last, next, s.now); err != nil {
			return err
		}
		if err := s.keep(tx); err != nil {
			return err
		}
		if err := b.append(tx, d); err != nil {
			return err
		}
		if err := b.endEpoch(tx, s); err != nil {
			return err
		}
		if err := tx.AddEvidence(rows...); err != nil {
			return err
		}
		for _, denial := range denials {
			if err := b.append(tx, denial); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, store.ErrReplay):
		return nil, b.reject(ctx, s, rejection("E_SEQUENCE", "quote", "a quote that was not taken yet", "one that was: this is a replay"))
	case errors.Is(err, store.ErrStale):
		return nil, b.reject(ctx, s, rejection("E_SEQUENCE", "host", "the state the evidence was held against", "the host moved on or was removed meanwhile"))
	case err != nil:
		return nil, b.unwritable("storing evidence", err)
	}
	b.keepInMemory(s)
	return answer, nil
}

// nextState is what is remembered of the host from now on.
func nextState(r verify.Result) (store.HostState, error) {
	m := memory{State: r.Next(), PCRs: make(map[int]evidence.Hash)}
	for _, e := range r.Explain() {
		m.PCRs[e.PCR] = e.Boot
	}
	if update, listed := r.IMA(); listed {
		m.IMA = &update.Position
	}
	body, err := json.Marshal(&m)
	return store.HostState{Epoch: m.State.Epoch, Sequence: m.State.Sequence, Size: m.State.Size, Root: m.State.Root, JSON: body}, err
}

// references makes the answer, the rows to store, and the entries for requests
// that are refused already.
func (b *Broker) references(s *submission, appraised []*appraisal) (*evidenceAnswer, []store.Evidence, []*decision, error) {
	answer := &evidenceAnswer{Txn: s.txn, ExpiresIn: int64(referenceLife / time.Second), Requests: []requestVerdict{}}
	var rows []store.Evidence
	var denials []*decision
	worst := -1
	for i, a := range appraised {
		ref, digest, err := b.secret()
		if err != nil {
			return nil, nil, nil, err
		}
		verdict := requestVerdict{Index: a.record.Index, Ref: ref, Verdict: a.ear.Status, Failed: []oauth.Failure{}}
		if !a.record.OK {
			denial := b.deniedRequest(s, a, len(appraised) == 1)
			verdict.Failed, a.record.Txn = denial.failures(), denial.entry.Txn
			if b.mayLog(denial) {
				denials = append(denials, denial)
			}
		} else {
			a.record.Txn = s.txn
		}
		verdict.Txn = a.record.Txn
		body, err := json.Marshal(&a.record)
		if err != nil {
			return nil, nil, nil, err
		}
		rows = append(rows, store.Evidence{Ref: digest, Txn: a.record.Txn, Request: int(a.record.Index), Host: s.host.ID, D: a.record.D,
			Appraisal: body, Expires: s.now.Add(referenceLife)})
		answer.Requests = append(answer.Requests, verdict)
		if worst < 0 || rank(a.ear.Status) > rank(appraised[worst].ear.Status) {
			worst = i
		}
	}
	if worst >= 0 {
		answer.Verdict, answer.EAR = appraised[worst].ear.Status, &appraised[worst].ear
	}
	return answer, rows, denials, nil
}

// rank orders verdicts from good to bad.
func rank(status string) int {
	for i, s := range []string{"affirming", "none", "warning", "contraindicated"} {
		if s == status {
			return i
		}
	}
	return 4
}

// deniedRequest is the entry about a request that an attestor refused. The
// only request of a bundle shares the bundle's transaction.
func (b *Broker) deniedRequest(s *submission, a *appraisal, only bool) *decision {
	d := b.newDecision(audit.TypeDecision, "deny")
	d.entry.PrevTxn = s.txn
	if only {
		d.entry.Txn, d.entry.PrevTxn = s.txn, ""
	}
	a.record.describe(d)
	d.problem(http.StatusBadRequest, "")
	b.Log.Info("refused", "txn", d.entry.Txn, "agent", d.entry.Agent, "host", d.entry.Host, "failed", d.failures())
	return d
}

func digestBytes(h evidence.Hash) evidence.Bytes { return append(evidence.Bytes(nil), h[:]...) }
