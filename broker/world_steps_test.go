// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// ready is a world with an enrolled host that runs the registered workload.
func ready(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.register()
	w.host = w.enrol("h1")
	w.subject = w.host.Measure(t, 4711, nil)
	return w
}

// request asks for a delegation.
func (w *world) request(change object) object {
	w.t.Helper()
	in := object{"workload": workloadID, "approver": approver, "purpose": "Close October invoices", "actions": []string{"invoice.read", "invoice.list"},
		"audience": audience, "uses": 20, "expires_in": 3600}
	for k, v := range change {
		in[k] = v
	}
	return w.ok(w.post(w.operator+"/v1/delegations", in)).body
}

// say signs an answer about a delegation.
func (w *world) say(d object, act delegation.Act, signer ssh.Signer) answer {
	w.t.Helper()
	message := unbase64(w.t, d["object"].(string))
	body := object{}
	if act != delegation.Approval {
		var err error
		message, err = delegation.NewStatement(act, delegation.Digest(message), uint64(w.clock.now().Unix()))
		w.must(err)
		body["statement"] = message
	}
	sig, err := delegation.Sign(rand.Reader, signer, act, message)
	w.must(err)
	body["signature"] = string(sig.Armored())
	verb := map[delegation.Act]string{delegation.Approval: "approve", delegation.Refusal: "refuse", delegation.Revocation: "revoke"}[act]
	return w.post(fmt.Sprintf("%s/v1/delegations/%s/%s", w.url, d["id"], verb), body)
}

// approved returns a delegation that alice approved.
func (w *world) approved(change object) object {
	w.t.Helper()
	d := w.request(change)
	if got := w.ok(w.say(d, delegation.Approval, w.alice)); got.str("state") != "approved" {
		w.t.Fatalf("after the approval: %s", got.raw)
	}
	return d
}

func hashOf(t testing.TB, d object) evidence.Hash {
	t.Helper()
	h, err := delegation.ParseText(d["d"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (w *world) hostID() string { return w.b.HostID("h1") }

// challenge asks for a nonce.
func (w *world) challenge(host string) (string, []byte, uint64) {
	w.t.Helper()
	a := w.ok(w.post(w.url+"/oauth/challenge", object{"host": host}))
	text := a.str("attestation_challenge")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	w.must(err)
	w.secrets = append(w.secrets, text)
	return text, raw, uint64(a.body["have"].(object)["log_size"].(float64))
}

// wish is what the good request asks for.
func (w *world) wish(d object) testbundle.Wish {
	return testbundle.Wish{Broker: w.url, D: hashOf(w.t, d), Audience: audience, Actions: []string{"invoice.read"}, Datatypes: []string{},
		Confirm: evidence.Confirm{Method: evidence.ConfirmJKT, Thumbprint: thumbprint(w.t, w.key)}, Subject: w.subject}
}

func (w *world) submit(bundle []byte) answer {
	w.t.Helper()
	a := w.send(http.MethodPost, w.url+"/v1/evidence", evidence.MediaType, string(bundle))
	list, _ := a.body["requests"].([]any)
	for _, r := range list {
		w.secrets = append(w.secrets, r.(object)["evidence_ref"].(string))
	}
	return a
}

// evidence makes and submits evidence for the wishes; it returns the challenge
// and the answer.
func (w *world) evidence(wishes ...testbundle.Wish) (string, answer) {
	w.t.Helper()
	text, nonce, have := w.challenge(w.hostID())
	return text, w.submit(w.host.Bundle(w.t, nonce, have, wishes...))
}

func ref(a answer, i int) string {
	return a.body["requests"].([]any)[i].(object)["evidence_ref"].(string)
}

// proof signs a DPoP proof with a stock JOSE library.
func (w *world) proof(key *ecdsa.PrivateKey, claims object) string {
	w.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	w.must(err)
	all := object{"jti": fmt.Sprintf("%x", testbundle.Text(fmt.Sprint(time.Now().UnixNano(), claims))), "htm": "POST", "htu": w.url + "/oauth/token", "iat": w.clock.now().Unix()}
	for k, v := range claims {
		all[k] = v
	}
	payload, err := json.Marshal(all)
	w.must(err)
	signed, err := signer.Sign(payload)
	w.must(err)
	text, err := signed.CompactSerialize()
	w.must(err)
	return text
}

func (w *world) form(d object, reference string) url.Values {
	return url.Values{
		"grant_type": {oauth.GrantTokenExchange}, "subject_token": {d["d"].(string)}, "subject_token_type": {oauth.TypeDelegation},
		"actor_token": {reference}, "actor_token_type": {oauth.TypeEvidenceRef}, "audience": {audience},
		"requested_token_type": {oauth.TypeAccessToken}, "authorization_details": {`[{"type":"https://jurat.dev/rar/task","actions":["invoice.read"]}]`},
	}
}

func (w *world) exchange(form url.Values, proofs ...string) answer {
	w.t.Helper()
	var header []string
	for _, p := range proofs {
		header = append(header, "DPoP", p)
	}
	a := w.send(http.MethodPost, w.url+"/oauth/token", "application/x-www-form-urlencoded", form.Encode(), header...)
	if token := a.str("access_token"); token != "" {
		w.secrets = append(w.secrets, token, w.claims(token)["jti"].(string))
	}
	return a
}

// token goes the whole way for an approved delegation.
func (w *world) token(d object) answer {
	w.t.Helper()
	nonce, a := w.evidence(w.wish(d))
	if w.ok(a).str("verdict") != "affirming" {
		w.t.Fatalf("evidence: %s", a.raw)
	}
	return w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce}))
}

// claims reads a token without verifying it.
func (w *world) claims(token string) object {
	w.t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	w.must(err)
	var c object
	w.must(json.Unmarshal(raw, &c))
	return c
}

// entries reads the whole audit log.
func (w *world) entries() []object {
	w.t.Helper()
	var out []object
	for _, e := range w.ok(w.get(w.operator + "/v1/audit")).body["entries"].([]any) {
		out = append(out, e.(object)["entry"].(object))
	}
	return out
}

func (w *world) lastEntry() object {
	w.t.Helper()
	all := w.entries()
	return all[len(all)-1]
}

func (w *world) explain(txn string) object {
	w.t.Helper()
	return w.ok(w.get(w.operator + "/v1/explain/" + txn)).body
}
