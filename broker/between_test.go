// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// exchangeUntilDecision goes as far as before the transaction.
func (w *world) exchangeUntilDecision(d object) *exchange {
	w.t.Helper()
	nonce, a := w.evidence(w.wish(d))
	w.ok(a)
	x := &exchange{now: w.clock.now(), asked: &oauth.Exchange{D: hashOf(w.t, d), Ref: ref(a, 0), Audience: audience, Task: oauth.Task{Actions: []string{"invoice.read"}}}}
	x.proof = &oauth.Proof{Thumbprint: [32]byte(thumbprint(w.t, w.key)), ID: nonce, URL: w.url, Nonce: nonce}
	if fault := w.b.prepare(context.Background(), x); fault != nil {
		w.t.Fatal(fault)
	}
	return x
}

// TestBetweenReadAndDecision: what the signatures were verified against must
// still be there when the use is taken.
func TestBetweenReadAndDecision(t *testing.T) {
	w := ready(t)
	other := newSigner(t)
	both := func(keys ...ssh.Signer) string {
		lines := []string{}
		for _, k := range keys {
			lines = append(lines, `"`+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey())))+`"`)
		}
		return "kind: Approver\nname: " + approver + "\nkeys: [" + strings.Join(lines, ",") + "]\n"
	}
	x := w.exchangeUntilDecision(w.approved(nil))
	w.ok(w.apply(both(other)))
	if fault := w.b.decide(context.Background(), x); fault == nil || fault.Reason != "evidence_stale" {
		t.Errorf("the key was removed meanwhile: %v", fault)
	}
	w.ok(w.apply(both(w.alice, other)))
	d := w.approved(nil)
	x = w.exchangeUntilDecision(d)
	w.ok(w.say(d, delegation.Revocation, w.alice))
	if fault := w.b.decide(context.Background(), x); fault == nil || fault.Status != 400 {
		t.Errorf("it was revoked meanwhile: %v", fault)
	}
	if fault := w.b.decide(context.Background(), w.exchangeUntilDecision(w.approved(nil))); fault != nil {
		t.Errorf("nothing happened meanwhile: %v", fault)
	}
}

// TestBetweenVerificationAndStore: two brokers verify against the same state of
// a host; the second cannot store its result.
func TestBetweenVerificationAndStore(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	submit := func() *submission {
		_, nonce, have := w.challenge(w.hostID())
		b, err := evidence.Parse(w.host.Bundle(t, nonce, have, w.wish(d)))
		w.must(err)
		s := &submission{now: w.clock.now(), bundle: b}
		if fault := w.b.known(context.Background(), s); fault != nil {
			t.Fatal(fault)
		}
		if no, fault := w.b.challenged(context.Background(), s); fault != nil || no != nil {
			t.Fatal(no, fault)
		}
		if no := w.b.verify(s); no != nil {
			t.Fatal(no)
		}
		return s
	}
	first, second := submit(), submit()
	if _, fault := w.b.accept(context.Background(), first); fault != nil {
		t.Fatal(fault)
	}
	if _, fault := w.b.accept(context.Background(), first); fault == nil || fault.Rejection != "E_SEQUENCE" {
		t.Errorf("the same quote again: %v", fault)
	}
	before := len(w.entries())
	if _, fault := w.b.accept(context.Background(), second); fault == nil || fault.Rejection != "E_SEQUENCE" || fault.Retry != "now" {
		t.Errorf("against a state that moved on: %v", fault)
	}
	if last := w.lastEntry(); len(w.entries()) != before+1 || last["decision"] != "deny" {
		t.Errorf("log entry %v", last)
	}
}

// TestMachineClass: a workload runs where it may run.
func TestMachineClass(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.ok(w.apply(strings.Replace(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "machines: [demo]", "machines: [other]", 1)))
	_, a := w.evidence(w.wish(d))
	if got := failedOf(a, 0); !slices.Equal(got, []string{"boot/machine-class"}) || a.str("verdict") == "affirming" {
		t.Errorf("failed %q: %s", got, a.raw)
	}
	// Registrations that are not there match nothing.
	w.tamper(`DELETE FROM document WHERE kind = 'machine'`)
	_, a = w.evidence(w.wish(d))
	if got := failedOf(a, 0); !slices.Contains(got, "boot/pcrs") {
		t.Errorf("no machine class: failed %q", got)
	}
	w.tamper(`DELETE FROM document WHERE kind = 'workload'`)
	nonce, a := w.evidence(w.wish(d))
	if got := failedOf(a, 0); !slices.Equal(got, []string{"code/registered"}) {
		t.Errorf("no workload: failed %q", got)
	}
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "")
}

// TestShortLife: the registration may say less than five minutes.
func TestShortLife(t *testing.T) {
	w := ready(t)
	w.ok(w.apply(strings.Replace(w.yaml(workloadID, false, "/usr/bin/invoice-agent"), "machines: [demo]", "machines: [demo]\nlifetime: 60", 1)))
	if a := w.ok(w.token(w.approved(nil))); a.body["expires_in"] != 60.0 || a.body["refresh_after"] != 48.0 {
		t.Errorf("%s", a.raw)
	}
}

// plant puts a delegation that alice really signed behind the broker's back
// into its store.
func (w *world) plant(change func(*delegation.Delegation)) object {
	w.t.Helper()
	o, err := delegation.Parse(unbase64(w.t, w.request(nil)["object"].(string)))
	w.must(err)
	o.ID, err = delegation.NewID(rand.Reader)
	w.must(err)
	change(o)
	enc, err := o.Marshal()
	w.must(err)
	sig, err := delegation.Sign(rand.Reader, w.alice, delegation.Approval, enc)
	w.must(err)
	now := w.clock.now()
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		row := store.Delegation{ID: o.ID, D: delegation.Digest(enc), Object: enc, Workload: o.Workload.ID, Issuer: o.Approver.Issuer, Subject: o.Approver.Subject,
			State: store.StateRequested, UsesLeft: o.Uses, NotBefore: o.NotBeforeTime(), Expires: o.ExpiresTime(), Requested: now}
		if err := tx.AddDelegation(row); err != nil {
			return err
		}
		if err := tx.AddAnswer(store.Answer{D: row.D, Act: "approval", Issuer: o.Approver.Issuer, Subject: o.Approver.Subject, Method: delegation.MethodSSH,
			Signature: sig.Blob(), Key: sig.Key().Marshal(), At: now}); err != nil {
			return err
		}
		return tx.MoveDelegation(o.ID, store.StateRequested, store.StateApproved, now)
	}))
	return object{"id": o.ID, "d": delegation.Text(delegation.Digest(enc))}
}

// TestForAnotherBroker is attack 4 once more: a delegation that alice signed
// for another broker buys nothing here; nor one for a model that
// the process did not open.
func TestForAnotherBroker(t *testing.T) {
	w := ready(t)
	w.ok(w.tryToken(w.plant(func(*delegation.Delegation) {})))
	e := w.refused(w.tryToken(w.plant(func(o *delegation.Delegation) { o.Broker = "https://other.example" })), 400, oauth.InvalidRequest, "delegation_mismatch")
	if !slices.Equal(e.failed(), []string{"delegation/parties"}) {
		t.Errorf("failed %q", e.failed())
	}
	e = w.refused(w.tryToken(w.plant(func(o *delegation.Delegation) { o.Workload.Models = []evidence.Hash{testbundle.Text("weights")} })), 400, oauth.InvalidRequest, "")
	if !slices.Equal(e.failed(), []string{"delegation/model-ref"}) {
		t.Errorf("failed %q", e.failed())
	}
}

// TestObjectUnderAnotherRow: two good approvals are not exchanged for one
// another.
func TestObjectUnderAnotherRow(t *testing.T) {
	w := ready(t)
	small, big := w.approved(nil), w.approved(object{"uses": 1000})
	w.must(w.store.View(context.Background(), func(r *store.Reader) error {
		one, err := r.Delegation(small["id"].(string))
		w.must(err)
		other, err := r.Delegation(big["id"].(string))
		w.must(err)
		a, err := readApproval(r, other)
		w.must(err)
		if a.judge(); a.err != nil {
			t.Errorf("as it is: %v", a.err)
		}
		a.row.D = one.D
		if a.judge(); a.err == nil || a.standing.Delegation() != nil {
			t.Error("an object under another digest was judged good")
		}
		return nil
	}))
}

// TestBusy: when all places are taken the answer is 503 with a time to come
// back, and the place of who goes is free again.
func TestBusy(t *testing.T) {
	w := ready(t)
	for range cap(w.b.slots) {
		w.b.slots <- struct{}{}
	}
	_, nonce, have := w.challenge(w.hostID())
	bundle := w.host.Bundle(t, nonce, have, w.wish(w.approved(nil)))
	if a := w.submit(bundle); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.str("retry") != "later" {
		t.Errorf("%d %s", a.status, a.raw)
	}
	for range cap(w.b.slots) {
		<-w.b.slots
	}
	w.ok(w.submit(bundle))
	if len(w.b.slots) != 0 || len(w.b.bodies) != 0 {
		t.Errorf("%d and %d places are still taken", len(w.b.slots), len(w.b.bodies))
	}
}
