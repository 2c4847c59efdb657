// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
)

// rejected wants a bundle to be refused as a whole, with this code, in the log
// and with an explanation that says expected and observed.
func (w *world) rejected(a answer, code string) {
	w.t.Helper()
	w.refused(a, 400, oauth.InvalidRequest, "")
	if a.str("code") != code || len(a.failed()) != 1 {
		w.t.Fatalf("got %s, want %s", a.raw, code)
	}
	if last := w.lastEntry(); last["txn"] != a.str("txn") || last["decision"] != "deny" || last["host"] != w.hostID() {
		w.t.Errorf("log entry %v", last)
	}
	station := w.explain(a.str("txn"))["stations"].([]any)[0].(object)
	if len(station["expected"].([]any)) == 0 || len(station["observed"].([]any)) == 0 {
		w.t.Errorf("explained as %v", station)
	}
}

func TestReplayedBundle(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, nonce, have := w.challenge(w.hostID())
	bundle := w.host.Bundle(t, nonce, have, w.wish(d))
	w.ok(w.submit(bundle))
	w.rejected(w.submit(bundle), "E_NONCE")
	// The challenge is gone even if the evidence for it was bad.
	_, nonce, have = w.challenge(w.hostID())
	w.host.OnAttest = func(a *tpm2.TPMSAttest) { a.Magic = 1 }
	w.rejected(w.submit(w.host.Bundle(t, nonce, have, w.wish(d))), "E_MAGIC")
	w.host.OnAttest = nil
	w.rejected(w.submit(w.host.Bundle(t, nonce, have, w.wish(d))), "E_NONCE")
	// An older log and an older quote do not come back.
	_, nonce, _ = w.challenge(w.hostID())
	w.rejected(w.submit(w.host.Bundle(t, nonce, 0, w.wish(d))), "E_CONSISTENCY")
}

// TestCuckoo is attack 3: another real host answers.
func TestCuckoo(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	other := w.enrol("h2")
	other.Measure(t, 4711, nil)
	// h2 answers h1's challenge as h1: its TPM's signature is not h1's.
	_, nonce, _ := w.challenge(w.hostID())
	other.OnBundle = func(b *evidence.Bundle) { b.UEID = w.host.UEID() }
	w.rejected(w.submit(other.Bundle(t, nonce, 0, w.wish(d))), "E_SIGNATURE")
	if got := w.lastEntry()["failed"].([]any)[0].(object)["attestor"]; got != "hardware" {
		t.Errorf("%v said no", got)
	}
	// h2 answers h1's challenge as itself: the challenge was not for it.
	other.OnBundle = nil
	_, nonce, _ = w.challenge(w.hostID())
	a := w.refused(w.submit(other.Bundle(t, nonce, 0, w.wish(d))), 400, oauth.InvalidRequest, "")
	if a.str("code") != "E_NONCE" || !slices.Equal(a.failed(), []string{"hardware/nonce"}) {
		t.Errorf("%s", a.raw)
	}
}

// TestMixUp is attack 4: evidence that was made for another broker.
func TestMixUp(t *testing.T) {
	w := ready(t)
	wish := w.wish(w.approved(nil))
	wish.Broker = "https://other.example"
	_, a := w.evidence(wish)
	w.rejected(a, "E_BROKER")
	var meta object
	w.must(json.Unmarshal(w.ok(w.get(w.url+oauth.PathMetadata)).raw, &meta))
	for name, want := range map[string]string{"issuer": "", "token_endpoint": "/oauth/token", "jwks_uri": "/oauth/jwks", "challenge_endpoint": "/oauth/challenge",
		"introspection_endpoint": "/oauth/introspect", "revocation_endpoint": "/oauth/revoke", "jurat_evidence_endpoint": "/v1/evidence"} {
		if meta[name] != w.url+want {
			t.Errorf("%s is %v", name, meta[name])
		}
	}
	if !bytes.Equal(w.get(w.url+oauth.PathDiscovery).raw, w.get(w.url+oauth.PathMetadata).raw) {
		t.Error("the alias differs")
	}
}

// TestStrangers: who is not enrolled is counted, not logged; the counts come
// into the log.
func TestStrangers(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	stranger := testbundle.NewHost(t, testbundle.NewChip(t, 9))
	stranger.Measure(t, 4711, nil)
	before := len(w.entries())
	text, nonce, _ := w.challenge("spiffe://example.test/host/nobody")
	if len(text) != len(first(w.challenge(w.hostID()))) {
		t.Error("a stranger's challenge looks different")
	}
	a := w.submit(stranger.Bundle(t, nonce, 0, w.wish(d)))
	w.refused(a, 401, oauth.InvalidClient, "")
	w.refused(w.exchange(w.form(d, "made-up"), w.proof(w.key, object{"nonce": text})), 400, oauth.InvalidRequest, "evidence_unknown")
	w.submit([]byte("garbage"))
	if len(w.entries()) != before {
		t.Error("strangers write into the log")
	}
	w.must(w.b.Sweep(t.Context()))
	e := w.lastEntry()
	if len(w.entries()) != before+1 || e["decision"] != "counted" || e["failed_more"] != 3.0 {
		t.Errorf("entry of counts: %v", e)
	}
	counters := w.explain(e["txn"].(string))["counters"].(object)
	for _, word := range []string{"unknown-host", "unknown-reference", "malformed-evidence"} {
		if counters[word] != 1.0 {
			t.Errorf("%s: %v", word, counters[word])
		}
	}
	w.must(w.b.Sweep(t.Context()))
	if len(w.entries()) != before+1 {
		t.Error("nothing was counted, and logged")
	}
}

func first(text string, _ []byte, _ uint64) string { return text }

// TestAttestors: each says no for its own reason, the workload learns which
// (attack 45), operators what was expected and observed.
func TestAttestors(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	cases := []struct {
		name, attestor, check string
		change                func(*evidence.Process)
		host                  func(*testbundle.Host)
		taint                 []string
	}{
		{"changed binary", "code", "exe-digest", func(p *evidence.Process) {
			exe := testbundle.File("/tmp/evil")
			p.Exe, p.Maps = evidence.Known(exe), evidence.Known([]evidence.File{exe})
		}, nil, nil},
		{"wrong unit", "context", "unit", func(p *evidence.Process) { p.Unit = evidence.Known("ssh.service") }, nil, nil},
		{"wrong user", "context", "uid", func(p *evidence.Process) {
			c, _ := p.Credentials.Get()
			c.EUID = 0
			p.Credentials = evidence.Known(c)
		}, nil, nil},
		{"unknown is not yes", "context", "unit", func(p *evidence.Process) { p.Unit = evidence.Unknown[string]("exited") }, nil, nil},
		{"tainted process", "context", "taint", nil, nil, []string{"ptrace"}},
		{"other boot", "boot", "pcr-7", nil, func(h *testbundle.Host) { h.Boots(bootlog.Boot{SecureBootOff: true}) }, nil},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.host != nil {
				c.host(w.host)
			}
			wish := w.wish(d)
			wish.Subject, wish.Taints = w.host.Measure(t, uint32(5000+i), c.change), c.taint
			nonce, a := w.evidence(wish)
			one := w.ok(a).body["requests"].([]any)[0].(object)
			if a.str("verdict") == "affirming" || one["verdict"] != a.str("verdict") || one["txn"] != a.str("txn") {
				t.Errorf("evidence: %s", a.raw)
			}
			e := w.refused(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "")
			if e.str("retry") != "after-change" || !slices.Contains(e.failed(), c.attestor+"/"+c.check) || e.str("error_uri") != w.url+"/v1/explain/"+e.str("txn") {
				t.Errorf("refusal: %s", e.raw)
			}
			for _, txn := range []string{a.str("txn"), e.str("txn")} {
				why := w.explain(txn)
				found := false
				for _, s := range why["stations"].([]any) {
					st := s.(object)
					found = found || st["attestor"] == c.attestor && st["check"] == c.check && len(st["expected"].([]any)) > 0 && len(st["observed"].([]any)) > 0
				}
				if !found || slices.Contains(why["passed"].([]any), any(c.attestor)) || why["agent"] != workloadID {
					t.Errorf("explained as %v", why)
				}
				short := w.get(w.url + "/v1/explain/" + txn)
				if short.header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("short form: %v %s", short.header, short.raw)
				}
				// Neither the refusal nor the public explanation says what would pass.
				for _, raw := range [][]byte{a.raw, e.raw, short.raw} {
					for _, secret := range []string{testbundle.Digest("/usr/bin/invoice-agent").Value.String(), "invoice.service", "990", "expected", "observed", "hint"} {
						if bytes.Contains(raw, []byte(secret)) {
							t.Errorf("%q in %s", secret, raw)
						}
					}
				}
			}
			if c.host != nil {
				w.host.Boots(bootlog.Boot{})
			}
		})
	}
}

// TestBatch: one quote, several requests, each with its own outcome.
func TestBatch(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	bad, unknown := w.wish(d), w.wish(d)
	bad.Subject = w.host.Measure(t, 4712, func(p *evidence.Process) { p.Unit = evidence.Known("other.service") })
	unknown.D = testbundle.Text("no delegation")
	nonce, a := w.evidence(w.wish(d), bad, unknown)
	w.ok(a)
	var verdicts, txns []string
	for _, r := range a.body["requests"].([]any) {
		verdicts = append(verdicts, r.(object)["verdict"].(string))
		txns = append(txns, r.(object)["txn"].(string))
	}
	if !slices.Equal(verdicts, []string{"affirming", "contraindicated", "none"}) || a.str("verdict") != "contraindicated" || txns[0] != a.str("txn") || txns[1] == txns[2] || txns[1] == txns[0] {
		t.Errorf("%s", a.raw)
	}
	if why := w.explain(a.str("txn")); why["decision"] != "evidence" || len(why["requests"].([]any)) != 3 {
		t.Errorf("explained as %v", why)
	}
	w.ok(w.exchange(w.form(d, ref(a, 0)), w.proof(w.key, object{"nonce": nonce})))
	w.refused(w.exchange(w.form(d, ref(a, 1)), w.proof(w.key, object{"nonce": nonce, "jti": "2"})), 400, oauth.InvalidRequest, "")
	form := w.form(d, ref(a, 2))
	form.Set("subject_token", delegation.Text(unknown.D))
	e := w.refused(w.exchange(form, w.proof(w.key, object{"nonce": nonce, "jti": "3"})), 400, oauth.InvalidRequest, "delegation_unknown")
	if e.str("retry") != oauth.RetryNewDelegation {
		t.Errorf("retry %q", e.str("retry"))
	}
}

// TestVersions is attack 21 at the broker's door: another version, media type
// or profile is refused. What is inside is tested in packages evidence and verify.
func TestVersions(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, nonce, have := w.challenge(w.hostID())
	good := w.host.Bundle(t, nonce, have, w.wish(d))
	other := bytes.Replace(good, []byte("evidence/v1"), []byte("evidence/v2"), 1)
	for name, c := range map[string]struct {
		kind, want string
		body       []byte
		status     int
	}{
		"other profile inside":   {evidence.MediaType, "E_FORMAT", other, 400},
		"other profile declared": {`application/eat-ucs+cbor; eat_profile="https://jurat.dev/evidence/v2"`, "", good, 415},
		"no profile":             {"application/eat-ucs+cbor", "", good, 415},
		"plain CBOR":             {"application/cbor", "", good, 415},
		"JSON":                   {"application/json", "", good, 415},
		"nothing":                {"", "", good, 415},
	} {
		a := w.send(http.MethodPost, w.url+"/v1/evidence", c.kind, string(c.body))
		if a.status != c.status || a.str("code") != c.want {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	w.ok(w.submit(good))
}

// TestBombs is attack 36 at the door: large, deep, doubled, cut, followed by
// more. None is more than a clear refusal.
func TestBombs(t *testing.T) {
	w := ready(t)
	d := w.approved(nil)
	_, nonce, have := w.challenge(w.hostID())
	good := w.host.Bundle(t, nonce, have, w.wish(d))
	bombs := map[string][]byte{
		"deep":             bytes.Repeat([]byte{0x81}, 1<<16),
		"deep maps":        bytes.Repeat([]byte{0xa1, 0x00}, 1<<16),
		"array of 2^64":    {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"bytes of 2^63":    {0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"indefinite":       {0xbf, 0xff},
		"empty":            {},
		"cut":              good[:len(good)/2],
		"trailing":         append(bytes.Clone(good), 0),
		"full of one byte": bytes.Repeat([]byte{0xff}, evidence.MaxBundle),
	}
	for name, body := range bombs {
		a := w.submit(body)
		if a.status != 400 || a.str("code") != "E_FORMAT" {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
	}
	if a := w.submit(make([]byte, evidence.MaxBundle+1)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("one byte too much: %d %s", a.status, a.raw)
	}
	for name, body := range map[string]string{
		"deep": strings.Repeat(`{"host":`, 5000), "doubled": `{"host":"a","host":"b"}`, "other case": `{"Host":"a"}`, "unknown": `{"host":"a","x":1}`,
		"array": `["a"]`, "long": `{"host":"` + strings.Repeat("a", maxJSON) + `"}`, "trailing": `{"host":"a"}{}`, "null": `null`, "nothing": ``,
	} {
		if a := w.send(http.MethodPost, w.url+"/oauth/challenge", "application/json", body); a.status != 400 && a.status != 413 {
			t.Errorf("challenge, %s: %d %s", name, a.status, a.raw)
		}
	}
	w.ok(w.submit(good))
}
