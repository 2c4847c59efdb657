// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/verify"
)

// Who says no when it is none of verify's five attestors.
const (
	attestorDelegation = "delegation"
	attestorRequest    = "request"
)

// station is one check with what was expected and what was there.
type station struct {
	Number   int      `json:"n"` // of the flow: 8 verify, 9 broker
	Attestor string   `json:"attestor"`
	Check    string   `json:"check"`
	Expected []string `json:"expected"`
	Observed []string `json:"observed"`
	Hint     string   `json:"hint,omitempty"`
}

// explanation is the long answer to "why", for operators
// (spec/broker-api.md section 8; RFC 9457).
type explanation struct {
	Type       string            `json:"type"`
	Title      string            `json:"title"`
	Status     int               `json:"status"`
	Txn        string            `json:"txn"`
	Instance   string            `json:"instance"`
	Decision   string            `json:"decision"`
	Time       string            `json:"time"`
	Agent      string            `json:"agent,omitempty"`
	Host       string            `json:"host,omitempty"`
	Process    string            `json:"process,omitempty"`
	Audience   string            `json:"audience,omitempty"`
	Stations   []station         `json:"stations"` // what failed
	Passed     []string          `json:"passed"`
	Checks     []station         `json:"checks"` // what passed
	Delegation string            `json:"delegation,omitempty"`
	Policy     string            `json:"policy,omitempty"`
	PrevTxn    string            `json:"prev_txn,omitempty"`
	Code       string            `json:"code,omitempty"`
	Reason     string            `json:"reason,omitempty"` // an operator's words for a change
	Requests   []requestLine     `json:"requests,omitempty"`
	Counters   map[string]uint64 `json:"counters,omitempty"`
	LogIndex   *uint64           `json:"log_index,omitempty"`
}

// requestLine says what became of one request of a bundle.
type requestLine struct {
	Index   uint64 `json:"index"`
	Txn     string `json:"txn"`
	Verdict string `json:"verdict"`
}

// decision is one answer on its way into the log.
type decision struct {
	entry audit.Entry
	why   explanation
	index uint64 // once appended
}

// newDecision begins the entry of an answer given now. It has no transaction
// id yet if there is no randomness; then it cannot be appended.
func (b *Broker) newDecision(kind, word string) *decision {
	now := b.Now()
	d := &decision{}
	d.entry = audit.Entry{Version: audit.Version, Type: kind, Time: uint64(now.UnixMilli()), Decision: word}
	d.why = explanation{Decision: word, Time: now.UTC().Format(time.RFC3339Nano), Stations: []station{}, Passed: []string{}, Checks: []station{},
		Type: "https://jurat.dev/problems/none", Title: kind + ": " + word, Status: http.StatusOK}
	d.entry.Txn, _ = b.newTxn()
	return d
}

// fail adds checks that said no.
func (d *decision) fail(checks ...station) {
	d.why.Stations = append(d.why.Stations, checks...)
	for _, c := range checks {
		d.entry.Failed = append(d.entry.Failed, audit.Failure{Attestor: c.Attestor, Check: c.Check})
	}
}

// failures returns what the workload may see of them.
func (d *decision) failures() []oauth.Failure {
	out := []oauth.Failure{}
	for _, s := range d.why.Stations {
		f := oauth.Failure{Attestor: s.Attestor, Check: s.Check}
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// problem names the kind of refusal by who said no first.
func (d *decision) problem(status int, code string) {
	d.why.Status, d.why.Code = status, code
	attestors := []string{}
	for _, s := range d.why.Stations {
		if !slices.Contains(attestors, s.Attestor) {
			attestors = append(attestors, s.Attestor)
		}
	}
	kind := "attestation-refused"
	if len(attestors) > 0 && (attestors[0] == attestorDelegation || attestors[0] == attestorRequest) {
		kind = attestors[0] + "-refused"
	}
	d.why.Type = "https://jurat.dev/problems/" + kind
	if len(attestors) > 0 {
		d.why.Title = strings.Join(attestors, ", ") + " said no"
	}
}

// append puts d into the log, in the transaction of what it decides. The
// explanation is outside the tree; its digest is inside.
func (b *Broker) append(tx *store.Tx, d *decision) error {
	d.why.Txn, d.why.Instance = d.entry.Txn, "/v1/explain/"+d.entry.Txn
	d.why.Agent, d.why.Host, d.why.Process, d.why.Audience = d.entry.Agent, d.entry.Host, d.entry.Instance, d.entry.Audience
	d.why.Delegation, d.why.PrevTxn = d.entry.DelegationID, d.entry.PrevTxn
	body, err := d.why.marshal()
	if err != nil {
		return err
	}
	if len(d.entry.Material) == 0 {
		sum := sha256.Sum256(body)
		d.entry.Material = sum[:]
	}
	d.entry.Fit()
	d.index, err = tx.Append(&d.entry, body)
	return err
}

// marshal leaves out what passed, and then what failed last, rather than
// leave a decision without an explanation because it is long.
func (e *explanation) marshal() ([]byte, error) {
	for {
		body, err := json.Marshal(e)
		if err != nil || len(body) <= store.MaxExplanation {
			return body, err
		}
		switch {
		case len(e.Checks) > 0:
			e.Checks = []station{}
		case len(e.Stations) > 1:
			e.Stations = e.Stations[:len(e.Stations)/2]
		default:
			return nil, fmt.Errorf("explanation of %d bytes", len(body))
		}
	}
}

// refuse logs d as a refusal in a transaction of its own and returns e with
// what the client may know of it. A host that is refused without end is
// counted instead, so that nobody can fill the log. What cannot be logged is
// not decided: then the answer is 503.
func (b *Broker) refuse(ctx context.Context, d *decision, e *oauth.Error) *oauth.Error {
	b.present(d, e)
	if !b.mayLog(d) {
		e.Txn, e.URI = "", ""
		return e
	}
	err := b.store.Update(ctx, func(tx *store.Tx) error { return b.append(tx, d) })
	if err != nil {
		return b.unwritable("logging a refusal", err)
	}
	return e
}

// mayLog takes one refusal from the host's allowance in the log.
func (b *Broker) mayLog(d *decision) bool {
	if ok, _ := b.denials.Allow(d.entry.Host, b.Now()); !ok {
		b.counters.add("refusals-of-one-host")
		return false
	}
	return true
}

// present fills e with what the client may know of d.
func (b *Broker) present(d *decision, e *oauth.Error) {
	if d.why.Type == "https://jurat.dev/problems/none" {
		d.problem(e.Status, e.Rejection)
	}
	e.Txn, e.URI, e.Failed = d.entry.Txn, b.Issuer+"/v1/explain/"+d.entry.Txn, d.failures()
	attestors := []string{}
	for _, f := range e.Failed {
		if !slices.Contains(attestors, f.Attestor) {
			attestors = append(attestors, f.Attestor)
		}
	}
	if e.Description == "" {
		e.Description = "attestation: " + strings.Join(attestors, ", ")
	}
	b.Log.Info("refused", "txn", d.entry.Txn, "agent", d.entry.Agent, "host", d.entry.Host, "failed", e.Failed, "reason", e.Reason, "code", e.Rejection)
}

// attestorClaims turns verify's vector into the entry's.
func attestorClaims(v map[verify.Attestor]verify.Claim) audit.Vector {
	return audit.Vector{
		Hardware: uint8(v[verify.AttestorHardware]), Boot: uint8(v[verify.AttestorBoot]), Code: uint8(v[verify.AttestorCode]),
		Provenance: uint8(v[verify.AttestorProvenance]), Context: uint8(v[verify.AttestorContext]),
	}
}

// counters counts what is not worth an entry each: messages of strangers.
type counters struct {
	mu sync.Mutex // guards what follows
	n  map[string]uint64
}

// add counts one. The words are ours, so there are only few.
func (c *counters) add(word string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]uint64)
	}
	c.n[word]++
}

func (c *counters) take() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = nil
	return n
}

func (c *counters) giveBack(n map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for word, count := range c.n {
		n[word] += count
	}
	c.n = n
}

// flushCounters writes one entry about all that was counted since the last.
func (b *Broker) flushCounters(ctx context.Context) error {
	n := b.counters.take()
	if len(n) == 0 {
		return nil
	}
	d := b.newDecision(audit.TypeDecision, "counted")
	for _, word := range slices.Sorted(maps.Keys(n)) {
		d.entry.Failed = append(d.entry.Failed, audit.Failure{Attestor: attestorRequest, Check: word})
		d.entry.FailedMore += n[word]
	}
	d.why.Title, d.why.Counters = "messages that were refused and only counted", n
	err := b.store.Update(ctx, func(tx *store.Tx) error { return b.append(tx, d) })
	if err != nil {
		b.counters.giveBack(n)
	}
	return err
}

// AdmitLog puts into a log that has entries that a broker goes on with it which
// does not know how long it was: somebody who cut off its end, or put an earlier
// state of the store back, cannot hide that from who reads it. It returns how many
// entries there were.
func (b *Broker) AdmitLog(ctx context.Context) (size uint64, err error) {
	d := b.newDecision(audit.TypeAdmin, "log-head-unknown")
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		head, err := tx.Head()
		if err != nil || head.Size == 0 {
			return err
		}
		size = head.Size
		d.why.Title = fmt.Sprintf("a broker began that had kept no head of this log, at %d entries", size)
		return b.append(tx, d)
	})
	return size, err
}
