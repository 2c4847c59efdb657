// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/evidence"
)

// believe gives the broker other authorities: those of the maker, as a cloud's
// or not, with rules.
func (w *world) believe(folder, rules string) {
	w.t.Helper()
	dir := w.t.TempDir()
	w.must(os.MkdirAll(filepath.Join(dir, folder), 0o700))
	w.must(os.WriteFile(filepath.Join(dir, folder, "chain.pem"), append(pemOf(w.maker.Root.Raw), pemOf(w.maker.Intermediate.Raw)...), 0o600))
	w.must(os.WriteFile(filepath.Join(dir, ek.RulesFile), []byte(rules), 0o600))
	a, err := ek.Open(ek.BundleNone, dir)
	w.must(err)
	w.b.SetAuthorities(a)
}

// TestDenied: a rule beats a certificate and a pin, from the moment it is read,
// and a host that is enrolled stays.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	chip := testbundle.NewChip(t, 0)
	pin := hex.EncodeToString(chip.UEID()[1:])
	certified, pinned := w.invite("h1", nil), w.invite("h2", object{"ek_pin": pin})
	refused := func(name, token, code string, certificates any) {
		t.Helper()
		in := w.enrolRequest(name, token, chip)
		if certificates != nil {
			in["ek_certificates"] = certificates
		}
		if a := w.post(w.url+"/v1/enrol", in); a.status != 403 || !strings.Contains(a.str("error_description"), code) || a.str("credential_blob") != "" {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.raw, code)
		}
	}
	for _, rule := range []string{"deny manufacturer id:00001014", "deny certificate b CN=Test TPM Intermediate", "deny key sha-256:" + pin} {
		w.believe("acme", rule)
		refused("h1", certified, "E_EK_DENIED", nil)
		refused("h2", pinned, "E_EK_DENIED", nil)
	}
	// Without a certificate only the key can be denied. The pin is the operator's
	// word, and so is the rule.
	refused("h2", pinned, "E_EK_DENIED", [][]byte{})
	w.believe("acme", "allow manufacturer IFX")
	refused("h1", certified, "E_EK_MANUFACTURER", nil)
	w.believe("acme", "")
	id, secret := w.ask("h1", certified, chip)
	w.ok(w.activate(id, secret))
	w.believe("acme", "deny key sha-256:"+pin)
	if hosts := w.get(w.operator + "/v1/hosts"); !bytes.Contains(hosts.raw, []byte(`"enrolled"`)) {
		t.Errorf("%s", hosts.raw)
	}
}

// TestRefusalsHaveCodes: what is wrong with a certificate is said in a stable
// word, to the host and in the log.
func TestRefusalsHaveCodes(t *testing.T) {
	w := newWorld(t)
	chip := testbundle.NewChip(t, 0)
	token := w.invite("h1", nil)
	for code, certificates := range map[string][][]byte{
		"E_EK_NONE":         {},
		"E_EK_MALFORMED":    {{1}},
		"E_EK_TOO_LARGE":    {make([]byte, ek.MaxCertificate+1)},
		"E_EK_KEY_MISMATCH": {w.maker.Certificate(t, testbundle.NewChip(t, 1), nil)},
		"E_EK_CHAIN":        {testbundle.NewMaker(t, w.clock.now()).Certificate(t, chip, nil)},
		"E_EK_EKU":          {w.maker.Certificate(t, chip, func(c *x509.Certificate) { c.UnknownExtKeyUsage[0] = []int{2, 23, 133, 8, 3} })},
		"E_EK_EXPIRED":      {w.maker.Certificate(t, chip, func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-1e9) })},
	} {
		in := w.enrolRequest("h1", token, chip)
		in["ek_certificates"] = certificates
		before := len(w.entries())
		if a := w.post(w.url+"/v1/enrol", in); a.status != 403 || !strings.Contains(a.str("error_description"), code+":") {
			t.Errorf("%s: %d %s", code, a.status, a.raw)
		}
		if len(w.entries()) == before {
			t.Errorf("%s: not logged", code)
		}
	}
}

// TestCloudAK: a provider's certificate of the AK stands for the EK's, if the
// AK itself answers.
func TestCloudAK(t *testing.T) {
	w := newWorld(t)
	w.believe("cloud", "")
	chip := testbundle.NewChip(t, 0)
	certificate := w.maker.AKCertificate(t, chip)
	ask := func(name string) (string, []byte) {
		in := w.enrolRequest(name, w.invite(name, nil), chip)
		in["ek_certificates"], in["ak_certificates"] = [][]byte{}, [][]byte{certificate}
		a := w.ok(w.post(w.url+"/v1/enrol", in))
		secret, err := chip.Activate(unbase64(t, a.str("credential_blob")), unbase64(t, a.str("secret")))
		w.must(err)
		return a.str("enrolment"), secret
	}
	reply := func(id string, secret, signed []byte, change func(*tpm2.TPMSAttest)) answer {
		extra := evidence.PossessionDigest(signed)
		attest, signature := chip.Quote(t, extra[:], change)
		return w.post(w.url+"/v1/enrol/activate", object{"enrolment": id, "secret": secret, "ak_quote": object{"attest": attest, "signature": signature}})
	}
	_, stale := ask("h0")
	for name, try := range map[string]func(id string, secret []byte) answer{
		"no quote":          func(id string, secret []byte) answer { return w.activate(id, secret) },
		"of another secret": func(id string, secret []byte) answer { return reply(id, secret, stale, nil) },
		"not a quote": func(id string, secret []byte) answer {
			return reply(id, secret, secret, func(a *tpm2.TPMSAttest) { a.Magic = 1 })
		},
		"a quote, no secret": func(id string, secret []byte) answer { return reply(id, nil, secret, nil) },
	} {
		id, secret := ask("h" + fmt.Sprint(len(name)))
		a := try(id, secret)
		if a.status != 403 || bytes.Contains(a.raw, []byte(base64.StdEncoding.EncodeToString(secret))) {
			t.Errorf("%s: %d %s", name, a.status, a.raw)
		}
		if a := reply(id, secret, secret, nil); a.status != 403 {
			t.Errorf("%s, then the right one: %d", name, a.status)
		}
	}
	id, secret := ask("good")
	if a := w.ok(reply(id, secret, secret, nil)); a.str("level") != "cloud-ak-cert" {
		t.Errorf("%s", a.raw)
	}
	// Of another key, by a maker of TPMs, denied.
	other := testbundle.NewChip(t, 1)
	in := w.enrolRequest("x", w.invite("x", nil), other)
	in["ek_certificates"], in["ak_certificates"] = [][]byte{}, [][]byte{certificate}
	if a := w.post(w.url+"/v1/enrol", in); a.status != 403 || !strings.Contains(a.str("error_description"), "E_EK_KEY_MISMATCH") {
		t.Errorf("another AK's certificate: %d %s", a.status, a.raw)
	}
	in["ak_certificates"] = [][]byte{w.maker.AKCertificate(t, other)}
	for folder, rule := range map[string]string{"acme": "", "cloud": "deny certificate c CN=Test TPM Intermediate"} {
		w.believe(folder, rule)
		if a := w.post(w.url+"/v1/enrol", in); a.status != 403 {
			t.Errorf("%s: %d %s", folder, a.status, a.raw)
		}
	}
}

// TestEnrolmentRaces is V22 with many at once: one name, one EK, one AK, one
// secret is worth one host.
func TestEnrolmentRaces(t *testing.T) {
	const many = 12
	w := newWorld(t)
	type try struct {
		id     string
		secret []byte
	}
	race := func(name string, tries []try) {
		t.Helper()
		codes := make(chan int, len(tries))
		var all sync.WaitGroup
		start := make(chan struct{})
		for _, x := range tries {
			all.Go(func() {
				<-start
				codes <- w.activate(x.id, x.secret).status
			})
		}
		close(start)
		all.Wait()
		close(codes)
		got := map[int]int{}
		for c := range codes {
			got[c]++
		}
		if got[http.StatusOK] != 1 || got[http.StatusConflict]+got[http.StatusForbidden] != len(tries)-1 {
			t.Errorf("%s: %v", name, got)
		}
	}
	// One secret, many times.
	id, secret := w.ask("once", w.invite("once", nil), testbundle.NewChip(t, 0))
	tries := make([]try, many)
	for i := range tries {
		tries[i] = try{id, secret}
	}
	race("one secret", tries)
	// One name, and as many TPMs as tries: the invitation is taken back and given
	// again while the first is still being answered, so each holds a question.
	tries = tries[:0]
	for i := range 4 {
		token := w.invite("name", nil)
		id, secret := w.ask("name", token, testbundle.NewChip(t, 1+i))
		tries = append(tries, try{id, secret})
		if i < 3 {
			w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/name", "", ""))
		}
	}
	race("one name", tries)
	// One EK under many names; each chip of a number has a fresh AK.
	tries = tries[:0]
	for i := range many {
		name := fmt.Sprintf("ek%d", i)
		id, secret := w.ask(name, w.invite(name, nil), testbundle.NewChip(t, 6))
		tries = append(tries, try{id, secret})
		w.clock.add(2e9)
	}
	race("one EK", tries)
}

// TestReEnrolmentNeedsAPerson: another TPM under the name of a host, and the
// TPM of a host under another name, wait until the old host is removed.
func TestReEnrolmentNeedsAPerson(t *testing.T) {
	w := newWorld(t)
	first, second := testbundle.NewChip(t, 0), testbundle.NewChip(t, 1)
	id, secret := w.ask("h1", w.invite("h1", nil), first)
	w.ok(w.activate(id, secret))
	if a := w.post(w.operator+"/v1/hosts", object{"name": "h1"}); a.status != 409 {
		t.Errorf("invited while enrolled: %d %s", a.status, a.raw)
	}
	// Not even with the pin of the new TPM, and not with a token for another name.
	if a := w.post(w.operator+"/v1/hosts", object{"name": "h1", "ek_pin": hex.EncodeToString(second.UEID()[1:])}); a.status != 409 {
		t.Errorf("pinned while enrolled: %d", a.status)
	}
	in := w.enrolRequest("h1", w.invite("h2", nil), second)
	if a := w.post(w.url+"/v1/enrol", in); a.status != 403 {
		t.Errorf("with the token of h2: %d", a.status)
	}
	// The same EK with a fresh AK is still the host it was.
	again := testbundle.NewChip(t, 0)
	id, secret = w.ask("h3", w.invite("h3", nil), again)
	a := w.activate(id, secret)
	if a.status != 409 || !strings.Contains(a.str("error_description"), "remove") {
		t.Errorf("the EK of h1 as h3: %d %s", a.status, a.raw)
	}
	w.ok(w.send(http.MethodDelete, w.operator+"/v1/hosts/h1", "", ""))
	id, secret = w.ask("h1", w.invite("h1", nil), second)
	w.ok(w.activate(id, secret))
}
