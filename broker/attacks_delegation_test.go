// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tryToken goes the whole way and returns whatever came of it.
func (w *world) tryToken(d object) answer {
	w.t.Helper()
	nonce, a := w.evidence(w.wish(d))
	w.ok(a)
	return w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce}))
}

// TestStates: what a delegation that cannot be used says, and that it is
// logged with which check said no.
func TestStates(t *testing.T) {
	w := ready(t)
	cases := []struct {
		name, reason, retry string
		make                func() object
	}{
		{"not approved", "delegation_not_approved", "later", func() object { return w.request(nil) }},
		{"refused", "delegation_refused", "new-delegation", func() object {
			d := w.request(nil)
			w.ok(w.say(d, delegation.Refusal, w.alice))
			return d
		}},
		{"revoked", "delegation_revoked", "new-delegation", func() object {
			d := w.approved(nil)
			w.ok(w.say(d, delegation.Revocation, w.alice))
			return d
		}},
		{"revoked before it was approved", "delegation_revoked", "new-delegation", func() object {
			d := w.request(nil)
			w.ok(w.say(d, delegation.Revocation, w.alice))
			return d
		}},
		{"not begun", "delegation_not_begun", "later", func() object { return w.approved(object{"starts_in": 600}) }},
		{"expired", "delegation_expired", "new-delegation", func() object {
			d := w.approved(object{"expires_in": 5})
			w.clock.add(6 * time.Second)
			return d
		}},
		{"expired and swept", "delegation_expired", "new-delegation", func() object {
			d := w.approved(object{"expires_in": 5})
			w.clock.add(6 * time.Second)
			w.must(w.b.Sweep(t.Context()))
			return d
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := c.make()
			e := w.refused(w.tryToken(d), 400, oauth.InvalidRequest, c.reason)
			if e.str("retry") != c.retry || !slices.Equal(e.failed(), []string{"delegation/state"}) {
				t.Errorf("refusal %s", e.raw)
			}
			if last := w.lastEntry(); last["txn"] != e.str("txn") || last["decision"] != "deny" || last["delegation_id"] != d["id"] {
				t.Errorf("log entry %v", last)
			}
			if why := w.explain(e.str("txn")); why["type"] != "https://jurat.dev/problems/delegation-refused" || len(why["passed"].([]any)) != 5 {
				t.Errorf("explained as %v", why)
			}
		})
	}
}

// TestExactReasonIsForTheActor: who was not attested is not told how a
// delegation stands.
func TestExactReasonIsForTheActor(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.ok(w.say(d, delegation.Revocation, w.alice))
	w.subject = w.host.Measure(t, 1, func(p *evidence.Process) { p.Unit = evidence.Known("x.service") })
	if e := w.refused(w.tryToken(d), 400, oauth.InvalidRequest, ""); strings.Contains(string(e.raw), "revoked") {
		t.Errorf("%s", e.raw)
	}
}

// TestSubstitution is attack 5: one changed field, and the signature is for
// something else.
func TestSubstitution(t *testing.T) {
	w := ready(t)
	small := w.request(nil)
	big := w.request(object{"uses": 1000})
	enc := unbase64(t, small["object"].(string))
	sig, err := delegation.Sign(rand.Reader, w.alice, delegation.Approval, enc)
	w.must(err)
	a := w.post(w.url+"/v1/delegations/"+big["id"].(string)+"/approve", object{"signature": string(sig.Armored())})
	if a.status != 403 {
		t.Errorf("the signature of another delegation: %d %s", a.status, a.raw)
	}
	w.ok(w.post(w.url+"/v1/delegations/"+small["id"].(string)+"/approve", object{"signature": string(sig.Armored())}))
	// Asking for more than was approved: the evidence says so itself.
	for name, change := range map[string]struct {
		actions, datatypes []string
		audience, code     string
	}{
		"action":   {[]string{"invoice.pay"}, nil, audience, oauth.InvalidDetails},
		"datatype": {[]string{"invoice.read"}, []string{"iban"}, audience, oauth.InvalidDetails},
		"audience": {[]string{"invoice.read"}, nil, "https://other.example", oauth.InvalidTarget},
	} {
		wish := w.wish(small)
		wish.Actions, wish.Datatypes, wish.Audience = change.actions, change.datatypes, change.audience
		nonce, a := w.evidence(wish)
		w.ok(a)
		form := w.form(small, ref(a, 0))
		form.Set("audience", change.audience)
		form.Set("authorization_details", fmt.Sprintf(`[{"type":"https://jurat.dev/rar/task","actions":["%s"],"datatypes":[%s]}]`, change.actions[0],
			strings.Join(quoteAll(change.datatypes), ",")))
		e := w.refused(w.exchange(form, w.proof(w.key, object{"nonce": nonce})), 400, change.code, "")
		if !strings.HasPrefix(e.failed()[0], "delegation/") {
			t.Errorf("%s: failed %q", name, e.failed())
		}
	}
	w.ok(w.tryToken(small))
}

func quoteAll(list []string) []string {
	out := []string{}
	for _, s := range list {
		out = append(out, `"`+s+`"`)
	}
	return out
}

// TestWhoMayAnswer: another's key, an unregistered key, another namespace, a
// second time, too late.
func TestWhoMayAnswer(t *testing.T) {
	w := ready(t)
	bob := newSigner(t)
	yaml := fmt.Sprintf("kind: Approver\nname: bob@example.test\nkeys: [%q]\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(bob.PublicKey()))))
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", yaml))
	d := w.request(nil)
	if a := w.say(d, delegation.Approval, newSigner(t)); a.status != 403 {
		t.Errorf("a stranger's key: %d %s", a.status, a.raw)
	}
	for _, act := range []delegation.Act{delegation.Approval, delegation.Refusal, delegation.Revocation} {
		if a := w.say(d, act, bob); a.status != 403 {
			t.Errorf("%s by bob, who was not asked: %d %s", act, a.status, a.raw)
		}
	}
	enc := unbase64(t, d["object"].(string))
	statement, err := delegation.NewStatement(delegation.Refusal, delegation.Digest(enc), 1795435200)
	w.must(err)
	refusal, err := delegation.Sign(rand.Reader, w.alice, delegation.Refusal, statement)
	w.must(err)
	if a := w.post(w.url+"/v1/delegations/"+d["id"].(string)+"/approve", object{"signature": string(refusal.Armored())}); a.status != 403 {
		t.Errorf("a no as a yes: %d %s", a.status, a.raw)
	}
	if a := w.post(w.url+"/v1/delegations/"+d["id"].(string)+"/revoke", object{"signature": string(refusal.Armored()), "statement": statement}); a.status != 403 {
		t.Errorf("a refusal as a revocation: %d %s", a.status, a.raw)
	}
	if a := w.post(w.url+"/v1/delegations/"+d["id"].(string)+"/approve", object{"signature": "yes"}); a.status != 400 {
		t.Errorf("no signature: %d %s", a.status, a.raw)
	}
	w.ok(w.say(d, delegation.Approval, w.alice))
	for _, act := range []delegation.Act{delegation.Approval, delegation.Refusal} {
		if a := w.say(d, act, w.alice); a.status != 409 {
			t.Errorf("%s afterwards: %d %s", act, a.status, a.raw)
		}
	}
	w.ok(w.say(d, delegation.Revocation, w.alice))
	if a := w.say(d, delegation.Revocation, w.alice); a.status != 409 {
		t.Errorf("revoked twice: %d %s", a.status, a.raw)
	}
	late := w.request(object{"expires_in": 5})
	w.clock.add(6 * time.Second)
	if a := w.say(late, delegation.Approval, w.alice); a.status != 409 {
		t.Errorf("approved too late: %d %s", a.status, a.raw)
	}
}

// TestFourEyes: two persons, two keys, then it is approved.
func TestFourEyes(t *testing.T) {
	w := ready(t)
	bob := newSigner(t)
	yaml := fmt.Sprintf("kind: Approver\nname: bob@example.test\nkeys: [%q]\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(bob.PublicKey()))))
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", yaml))
	d := w.request(object{"four_eyes": 2})
	if a := w.ok(w.say(d, delegation.Approval, w.alice)); a.str("state") != "requested" {
		t.Errorf("after one of two: %s", a.raw)
	}
	w.refused(w.tryToken(d), 400, oauth.InvalidRequest, "delegation_not_approved")
	if a := w.ok(w.say(d, delegation.Approval, bob)); a.str("state") != "approved" || len(a.body["approvals"].([]any)) != 2 {
		t.Errorf("after both: %s", a.raw)
	}
	w.ok(w.tryToken(d))
}

// tamper changes the database behind the broker's back.
func (w *world) tamper(query string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.data, "broker.db"))
	w.must(err)
	defer db.Close()
	result, err := db.Exec(query, args...)
	w.must(err)
	if n, _ := result.RowsAffected(); n == 0 {
		w.t.Fatalf("%s changed nothing", query)
	}
}

// TestInventedApproval is attack 25: who can write to the database cannot make
// a human say yes, nor say it louder.
func TestInventedApproval(t *testing.T) {
	w := ready(t)
	notApproved := func(d object) {
		t.Helper()
		e := w.refused(w.tryToken(d), 400, oauth.InvalidRequest, "delegation_not_approved")
		if !slices.Equal(e.failed(), []string{"delegation/approval"}) {
			t.Errorf("failed %q", e.failed())
		}
	}
	d := w.request(nil)
	w.tamper(`UPDATE delegation SET state = 'approved' WHERE id = ?`, d["id"])
	notApproved(d)

	// Somebody else's signature, entered as alice's.
	d = w.request(nil)
	enc := unbase64(t, d["object"].(string))
	thief := newSigner(t)
	sig, err := delegation.Sign(rand.Reader, thief, delegation.Approval, enc)
	w.must(err)
	hash := hashOf(t, d)
	w.tamper(`INSERT INTO answer (d, act, issuer, subject, method, statement, signature, key, at) VALUES (?, 'approval', ?, ?, 'sshsig', x'', ?, ?, ?)`,
		hash[:], w.url, approver, sig.Blob(), sig.Key().Marshal(), w.clock.now().UnixMilli())
	w.tamper(`UPDATE delegation SET state = 'approved' WHERE id = ?`, d["id"])
	notApproved(d)
	// She can still take back what she never gave.
	w.ok(w.say(d, delegation.Revocation, w.alice))

	// Her signature under something else.
	small, big := w.approved(nil), w.request(object{"uses": 1000})
	hash, from := hashOf(t, big), hashOf(t, small)
	w.tamper(`INSERT INTO answer SELECT ?, act, issuer, subject, method, statement, signature, key, at FROM answer WHERE d = ?`, hash[:], from[:])
	w.tamper(`UPDATE delegation SET state = 'approved' WHERE id = ?`, big["id"])
	notApproved(big)

	// More uses than she signed, or another object under the same row.
	w.tamper(`UPDATE delegation SET uses_left = 21 WHERE id = ?`, small["id"])
	notApproved(small)
	w.tamper(`UPDATE delegation SET uses_left = 20 WHERE id = ?`, small["id"])
	w.ok(w.tryToken(small))
	w.tamper(`UPDATE delegation SET object = ? WHERE id = ?`, unbase64(t, w.request(object{"uses": 999})["object"].(string)), small["id"])
	notApproved(small)

	// A revoked one, set back.
	d = w.approved(nil)
	w.ok(w.say(d, delegation.Revocation, w.alice))
	w.tamper(`UPDATE delegation SET state = 'approved' WHERE id = ?`, d["id"])
	notApproved(d)

	// One that is over, made longer.
	d = w.approved(object{"expires_in": 5})
	w.tamper(`UPDATE delegation SET expires = expires + 3600000 WHERE id = ?`, d["id"])
	w.clock.add(6 * time.Second)
	notApproved(d)
}

// TestRemovedKey: a key that is no longer registered approves nothing any
// more, also not what it signed before.
func TestRemovedKey(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	w.ok(w.tryToken(d))
	other := newSigner(t)
	yaml := fmt.Sprintf("kind: Approver\nname: %s\nkeys: [%q]\n", approver, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(other.PublicKey()))))
	if a := w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", yaml)); !bytes.Contains(a.raw, []byte(`"changed"`)) {
		t.Errorf("%s", a.raw)
	}
	e := w.refused(w.tryToken(d), 400, oauth.InvalidRequest, "delegation_not_approved")
	if !slices.Equal(e.failed(), []string{"delegation/approval"}) {
		t.Errorf("failed %q", e.failed())
	}
	if a := w.say(w.request(nil), delegation.Approval, w.alice); a.status != 403 {
		t.Errorf("approved with a removed key: %d %s", a.status, a.raw)
	}
	// Nobody gets the key of another.
	yaml = fmt.Sprintf("kind: Approver\nname: bob@example.test\nkeys: [%q]\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(other.PublicKey()))))
	if a := w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", yaml); a.status != 409 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

// TestRevocationRace is attack 40: whoever wins, no token that is logged after
// the revocation is good.
func TestRevocationRace(t *testing.T) {
	w := ready(t)
	secret := w.resourceSecret()
	for i := range 12 {
		d := w.approved(nil)
		nonce, a := w.evidence(w.wish(d))
		form, proof := w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})
		enc := unbase64(t, d["object"].(string))
		statement, err := delegation.NewStatement(delegation.Revocation, delegation.Digest(enc), 1795435200)
		w.must(err)
		sig, err := delegation.Sign(rand.Reader, w.alice, delegation.Revocation, statement)
		w.must(err)
		var both sync.WaitGroup
		var got, revoked answer
		begin := make(chan struct{})
		both.Go(func() {
			<-begin
			got = w.exchange(form, proof)
		})
		both.Go(func() {
			<-begin
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			revoked = w.post(w.url+"/v1/delegations/"+d["id"].(string)+"/revoke", object{"signature": string(sig.Armored()), "statement": statement})
		})
		close(begin)
		both.Wait()
		w.ok(revoked)
		revocation, allowed := -1, -1
		for at, e := range w.entries() {
			if e["delegation_id"] == d["id"] && e["type"] == "revocation" {
				revocation = at
			}
			if e["delegation_id"] == d["id"] && e["decision"] == "allow" {
				allowed = at
			}
		}
		token := got.str("access_token")
		if (token != "") != (allowed >= 0) || allowed > revocation {
			t.Fatalf("round %d: token %v, allowed at %d, revoked at %d", i, token != "", allowed, revocation)
		}
		if token != "" && w.introspect(secret, token).body["active"] != false {
			t.Fatal("a token of a revoked delegation is active")
		}
	}
}

// resourceSecret registers the protected system's secret.
func (w *world) resourceSecret() string {
	w.t.Helper()
	secret := w.ok(w.post(w.operator+"/v1/resources", object{"name": "payments", "audience": audience})).str("secret")
	w.secrets = append(w.secrets, secret)
	return secret
}

func (w *world) introspect(secret, token string) answer {
	w.t.Helper()
	return w.send(http.MethodPost, w.url+"/oauth/introspect", "application/x-www-form-urlencoded", "token="+token,
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("payments:"+secret)))
}
