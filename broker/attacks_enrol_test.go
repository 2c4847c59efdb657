// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
)

// invite returns a one-time token for a host.
func (w *world) invite(name string, more object) string {
	w.t.Helper()
	in := object{"name": name, "machine": "demo"}
	for k, v := range more {
		in[k] = v
	}
	token := w.ok(w.post(w.operator+"/v1/hosts", in)).str("enrol_token")
	w.secrets = append(w.secrets, token)
	return token
}

func (w *world) enrolRequest(name, token string, chip *testbundle.Chip) object {
	return object{"host": name, "token": token, "ek_certificates": [][]byte{w.maker.Certificate(w.t, chip, nil)},
		"ek_public": chip.EKPublic(), "ak_public": chip.AKPublic()}
}

// ask sends the first message and returns enrolment and secret.
func (w *world) ask(name, token string, chip *testbundle.Chip) (string, []byte) {
	w.t.Helper()
	a := w.ok(w.post(w.url+"/v1/enrol", w.enrolRequest(name, token, chip)))
	secret, err := chip.Activate(unbase64(w.t, a.str("credential_blob")), unbase64(w.t, a.str("secret")))
	w.must(err)
	return a.str("enrolment"), secret
}

func (w *world) activate(id string, secret []byte) answer {
	w.t.Helper()
	return w.post(w.url+"/v1/enrol/activate", object{"enrolment": id, "secret": secret})
}

// TestActivateOnce is V21: one try, in time, with the right secret, and no
// answer gives anything of it away.
func TestActivateOnce(t *testing.T) {
	w := newWorld(t)
	chip := testbundle.NewChip(t, 0)
	token := w.invite("h1", nil)
	for name, spoil := range map[string]func(string, []byte) (string, []byte){
		"wrong secret":      func(id string, s []byte) (string, []byte) { return id, append([]byte{s[0] ^ 1}, s[1:]...) },
		"short secret":      func(id string, s []byte) (string, []byte) { return id, s[:31] },
		"no secret":         func(id string, _ []byte) (string, []byte) { return id, nil },
		"other enrolment":   func(_ string, s []byte) (string, []byte) { return "x", s },
		"a minute too late": func(id string, s []byte) (string, []byte) { w.clock.add(61 * time.Second); return id, s },
	} {
		id, secret := w.ask("h1", token, chip)
		badID, badSecret := spoil(id, secret)
		a := w.activate(badID, badSecret)
		if a.status != 403 || bytes.Contains(a.raw, []byte(base64.StdEncoding.EncodeToString(secret))) || bytes.Contains(a.raw, []byte(hex.EncodeToString(secret))) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if badID == id {
			if a := w.activate(id, secret); a.status != 403 {
				t.Errorf("%s, then the right one: %d %s", name, a.status, a.raw)
			}
		}
	}
	// A second question makes the first one void.
	first, secret := w.ask("h1", token, chip)
	second, secret2 := w.ask("h1", token, chip)
	if a := w.activate(first, secret); a.status != 403 {
		t.Errorf("the first of two questions: %d", a.status)
	}
	w.ok(w.activate(second, secret2))
	if a := w.activate(second, secret2); a.status != 403 {
		t.Errorf("activated twice: %d", a.status)
	}
	if a := w.post(w.url+"/v1/enrol", w.enrolRequest("h1", token, chip)); a.status != 403 {
		t.Errorf("a used token: %d", a.status)
	}
}

// TestEnrolRefused: tokens, keys, certificates, pins.
func TestEnrolRefused(t *testing.T) {
	w := newWorld(t)
	chip, other := testbundle.NewChip(t, 0), testbundle.NewChip(t, 1)
	thief := testbundle.NewMaker(t, w.clock.now())
	token := w.invite("h1", nil)
	weak, err := tpm2.Unmarshal[tpm2.TPMTPublic](chip.AKPublic())
	w.must(err)
	weak.ObjectAttributes.Restricted = false
	cases := map[string]struct {
		change func(object)
		logged bool
	}{
		"no token":       {func(in object) { in["token"] = "" }, false},
		"other token":    {func(in object) { in["token"] = token + "x" }, false},
		"other name":     {func(in object) { in["host"] = "h2" }, false},
		"no certificate": {func(in object) { in["ek_certificates"] = [][]byte{} }, true},
		"another maker's": {func(in object) {
			in["ek_certificates"] = [][]byte{thief.Certificate(t, chip, nil), thief.Intermediate.Raw, thief.Root.Raw}
		}, true},
		"another EK":              {func(in object) { in["ek_public"] = other.EKPublic() }, true},
		"no EK":                   {func(in object) { in["ek_public"] = []byte{} }, true},
		"AK that is unrestricted": {func(in object) { in["ak_public"] = tpm2.Marshal(weak) }, true},
		"EK as AK":                {func(in object) { in["ak_public"] = chip.EKPublic() }, true},
		"AK with trailing byte":   {func(in object) { in["ak_public"] = append(chip.AKPublic(), 0) }, true},
	}
	for name, c := range cases {
		in := w.enrolRequest("h1", token, chip)
		c.change(in)
		before := len(w.entries())
		a := w.post(w.url+"/v1/enrol", in)
		if a.status != 403 || a.str("credential_blob") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if logged := len(w.entries()) > before; logged != c.logged {
			t.Errorf("%s: logged %v", name, logged)
		}
	}
	if a := w.send(http.MethodPost, w.url+"/v1/enrol", "application/json", `{"host":"h1","token":"x","ek_public":"!"}`); a.status != 400 {
		t.Errorf("malformed base64: %d", a.status)
	}
	w.clock.add(25 * time.Hour)
	if a := w.post(w.url+"/v1/enrol", w.enrolRequest("h1", token, chip)); a.status != 403 {
		t.Errorf("a day later: %d", a.status)
	}
}

// TestPin: an EK without a certificate needs the operator's pin, and a pin must
// be right even with a certificate.
func TestPin(t *testing.T) {
	w := newWorld(t)
	chip, other := testbundle.NewChip(t, 0), testbundle.NewChip(t, 1)
	pin := hex.EncodeToString(chip.UEID()[1:])
	token := w.invite("h1", object{"ek_pin": pin})
	if a := w.post(w.url+"/v1/enrol", w.enrolRequest("h1", token, other)); a.status != 403 {
		t.Errorf("another EK with a good certificate: %d %s", a.status, a.raw)
	}
	in := w.enrolRequest("h1", token, chip)
	in["ek_certificates"] = [][]byte{}
	a := w.ok(w.post(w.url+"/v1/enrol", in))
	secret, err := chip.Activate(unbase64(t, a.str("credential_blob")), unbase64(t, a.str("secret")))
	w.must(err)
	if got := w.ok(w.activate(a.str("enrolment"), secret)); got.str("level") != "ek-pin" {
		t.Errorf("%s", got.raw)
	}
	w.invite("h2", object{"ek_pin": hex.EncodeToString(other.UEID()[1:])})
	for _, bad := range []string{"x", "00", strings.Repeat("0", 66)} {
		if a := w.post(w.operator+"/v1/hosts", object{"name": "h3", "ek_pin": bad}); a.status != 400 {
			t.Errorf("pin %q: %d", bad, a.status)
		}
	}
}

// TestReEnrolment is V22: a known name, EK or AK stays whose it is, also when
// many try at once.
func TestReEnrolment(t *testing.T) {
	w := newWorld(t)
	host := w.enrol("h1")
	if a := w.post(w.operator+"/v1/hosts", object{"name": "h1"}); a.status != 409 {
		t.Errorf("invited again: %d %s", a.status, a.raw)
	}
	id, secret := w.ask("h2", w.invite("h2", nil), host.Chip)
	if a := w.activate(id, secret); a.status != 409 || a.str("retry") != "operator" {
		t.Errorf("the same TPM as h2: %d %s", a.status, a.raw)
	}
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	id, secret = w.ask("h2", w.invite2("h2"), host.Chip)
	w.ok(w.activate(id, secret))

	// One TPM, eight names at once: one host.
	chip := testbundle.NewChip(t, 7)
	type try struct {
		id     string
		secret []byte
	}
	var tries []try
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		id, secret := w.ask(name, w.invite(name, nil), chip)
		tries = append(tries, try{id, secret})
	}
	var good atomic.Int64
	var all sync.WaitGroup
	for _, x := range tries {
		all.Go(func() {
			if w.activate(x.id, x.secret).status == http.StatusOK {
				good.Add(1)
			}
		})
	}
	all.Wait()
	if good.Load() != 1 {
		t.Errorf("%d hosts with one TPM", good.Load())
	}
}

// invite2 invites a host whose first invitation is still there: the operator
// takes that back first.
func (w *world) invite2(name string) string {
	w.t.Helper()
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/"+name, "", ""))
	return w.invite(name, nil)
}

// TestEnrolIsLimited: an RSA operation each is not for everybody at any rate.
func TestEnrolIsLimited(t *testing.T) {
	w := newWorld(t)
	limited := 0
	for range 60 {
		if a := w.post(w.url+"/v1/enrol", object{"host": "x", "token": "y"}); a.status == http.StatusTooManyRequests {
			limited++
			if a.header.Get("Retry-After") == "" || a.str("retry") != "later" {
				t.Fatalf("%s", a.raw)
			}
		}
	}
	if limited != 20 {
		t.Errorf("%d of 60 refused, want 20", limited)
	}
	w.clock.add(time.Minute)
	if a := w.post(w.url+"/v1/enrol", object{"host": "x", "token": "y"}); a.status != 403 {
		t.Errorf("a minute later: %d", a.status)
	}
}
