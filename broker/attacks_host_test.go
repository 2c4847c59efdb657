// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/evidence"
)

func failedOf(a answer, i int) []string {
	one := a.body["requests"].([]any)[i].(object)
	return answer{body: object{"failed": one["failed"]}}.failed()
}

// TestRemovedHost: its evidence, its credentials and its enrolment are gone.
func TestRemovedHost(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	nonce, a := w.evidence(w.wish(d))
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "evidence_unknown")
	_, raw, _ := w.challenge(w.hostID())
	w.refused(w.submit(w.host.Bundle(t, raw, 0, w.wish(d))), 401, oauth.InvalidClient, "")
	if a := w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""); a.status != 404 {
		t.Errorf("removed twice: %d %s", a.status, a.raw)
	}
}

// TestRefusalsAreBounded is attack 37: a host that is refused without end does
// not fill the log.
func TestRefusalsAreBounded(t *testing.T) {
	w := ready(t)
	d := w.b.newDecision("decision", "deny")
	d.entry.Host = w.hostID()
	for range 5000 {
		if !w.b.mayLog(d) {
			t.Fatal("the allowance is smaller than it should be")
		}
	}
	_, raw, _ := w.challenge("spiffe://example.test/host/other")
	before := len(w.entries())
	a := w.submit(w.host.Bundle(t, raw, 0, w.wish(w.approved(nil))))
	if a.str("code") != "E_NONCE" || a.str("txn") != "" || len(w.entries()) != before+2 { // the delegation and its approval
		t.Errorf("%s, %d entries", a.raw, len(w.entries())-before)
	}
	// Requests and exchanges that are refused are counted too, and still refused.
	bad := w.wish(w.approved(nil))
	bad.Subject = w.host.Measure(t, 1, func(p *evidence.Process) { p.Unit = evidence.Known("x.service") })
	before = len(w.entries())
	good := w.approved(nil)
	nonce, e := w.evidence(bad, w.wish(good))
	w.ok(e)
	form := w.form(good, ref(e, 1))
	form.Set("audience", "https://other.example")
	x := w.refused(w.exchange(form, w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidTarget, "")
	if added := len(w.entries()) - before; added != 3 || x.str("txn") != "" || !slices.Equal(failedOf(e, 0), []string{"context/unit"}) { // good, its approval, the evidence
		t.Errorf("%d entries, %s", added, x.raw)
	}
	w.clock.add(time.Second)
	if !w.b.mayLog(d) {
		t.Error("the allowance does not come back")
	}
}

// TestConcurrentBundles: two bundles of one host at the same time do not both
// move it from the same state.
func TestConcurrentBundles(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, n1, have := w.challenge(w.hostID())
	_, n2, _ := w.challenge(w.hostID())
	bundles := [][]byte{w.host.Bundle(t, n1, have, w.wish(d)), w.host.Bundle(t, n2, have, w.wish(d))}
	results := make(chan int, 2)
	for _, body := range bundles {
		go func() {
			r, err := http.NewRequest(http.MethodPost, w.url+"/v1/evidence", bytes.NewReader(body))
			if err != nil {
				results <- 0
				return
			}
			r.Header.Set("Content-Type", evidence.MediaType)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				results <- 0
				return
			}
			resp.Body.Close()
			results <- resp.StatusCode
		}()
	}
	if a, b := <-results, <-results; a+b != 600 || a == b {
		t.Errorf("got %d and %d, want one 200 and one 400", a, b)
	}
	var epoch store.HostState
	w.must(w.store.View(t.Context(), func(r *store.Reader) error {
		h, err := r.HostByID(w.hostID())
		epoch = h.Last
		return err
	}))
	if epoch.Size != 2 {
		t.Errorf("the host is known to %d entries", epoch.Size)
	}
}
