// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// broker answers every request with handle and returns a client for itself.
func broker(t *testing.T, handle http.HandlerFunc) (*brokerclient.Client, string) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	c, err := brokerclient.New(brokerclient.Config{URL: server.URL, Timeout: 5 * time.Second, Agent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c, server.URL
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestParseIssuer(t *testing.T) {
	for raw, want := range map[string]string{
		"https://broker.example":        "https://broker.example",
		"https://broker.example/":       "https://broker.example",
		"https://broker.example:8443/a": "https://broker.example:8443/a",
		"http://127.0.0.1:8080":         "http://127.0.0.1:8080",
		"http://[::1]:8080/":            "http://[::1]:8080",
		"http://localhost":              "http://localhost",
	} {
		if got, err := brokerclient.ParseIssuer(raw); err != nil || got != want {
			t.Errorf("ParseIssuer(%q) = %q, %v, want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{
		"", "broker.example", "ftp://broker.example", "http://broker.example", "http://10.0.0.1", "http://localhost.example",
		"https://user@broker.example", "https://broker.example?x=1", "https://broker.example?", "https://broker.example#x", "https://", "http://[::2]",
	} {
		if got, err := brokerclient.ParseIssuer(raw); err == nil {
			t.Errorf("ParseIssuer(%q) = %q, want an error", raw, got)
		}
	}
}

func TestMetadataMustBeForTheIssuerAsked(t *testing.T) {
	var self string
	c, url := broker(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/oauth-authorization-server" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		answer(200, `{"issuer":"`+self+`","jurat_log_origin":"log","future_member":{"a":[1]}}`)(w, r)
	})
	self = url
	if m, err := c.Metadata(t.Context()); err != nil || m.LogOrigin != "log" {
		t.Errorf("metadata %+v, %v", m, err)
	}
	self = "https://other.example"
	if _, err := c.Metadata(t.Context()); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("foreign issuer: %v", err)
	}
}

func TestChallenge(t *testing.T) {
	nonce := strings.Repeat("n", 56)
	text := base64.RawURLEncoding.EncodeToString([]byte(nonce))
	bootLog := strings.Repeat("ab", 32)
	good := `{"attestation_challenge":"` + text + `","expires_in":30,"have":{"log_size":7,"boot_log":"` + bootLog + `","register_size":5,"ima_count":4711}}`
	var body string
	c, _ := broker(t, func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/oauth/challenge" || string(asked) != `{"host":"spiffe://example/host/h1"}` {
			t.Errorf("%s %s %s", r.Method, r.URL, asked)
		}
		answer(200, body)(w, r)
	})
	body = good
	ch, err := c.Challenge(t.Context(), "spiffe://example/host/h1")
	if err != nil {
		t.Fatal(err)
	}
	if string(ch.Nonce) != nonce || ch.Text != text || ch.ExpiresIn != 30*time.Second || ch.LogSize != 7 || hex.EncodeToString(ch.BootLog[:]) != bootLog ||
		ch.RegisterSize != 5 || ch.IMACount != 4711 {
		t.Errorf("challenge %+v", ch)
	}
	body = strings.Replace(good, `,"register_size":5,"ima_count":4711`, "", 1)
	if ch, err := c.Challenge(t.Context(), "spiffe://example/host/h1"); err != nil || ch.RegisterSize != 0 || ch.IMACount != 0 {
		t.Errorf("of a broker that says less: %+v, %v", ch, err)
	}
	for name, bad := range map[string]string{
		"empty":           ``,
		"not JSON":        `hello`,
		"two values":      good + good,
		"trailing":        good + "x",
		"member twice":    strings.Replace(good, `{"att`, `{"expires_in":1,"att`, 1),
		"nonce too short": strings.Replace(good, text, "AAAA", 1),
		"nonce padded":    strings.Replace(good, text, base64.URLEncoding.EncodeToString([]byte("12345678")), 1),
		"no lifetime":     strings.Replace(good, "30", "0", 1),
		"odd boot log":    strings.Replace(good, bootLog, "ab", 1),
		"truncated":       good[:len(good)-3],
		"odd count":       strings.Replace(good, "4711", "47.5", 1),
		"odd register":    strings.Replace(good, `"register_size":5`, `"register_size":"5"`, 1),
		"negative size":   strings.Replace(good, `"log_size":7`, `"log_size":-7`, 1),
	} {
		body = bad
		if ch, err := c.Challenge(t.Context(), "spiffe://example/host/h1"); !errors.As(err, new(*brokerclient.BadAnswer)) {
			t.Errorf("%s: %+v, %v", name, ch, err)
		}
	}
}

func TestAnswersAreCapped(t *testing.T) {
	c, _ := broker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 1 << 12 { // 4 MiB of blanks is no answer
			io.WriteString(w, strings.Repeat(" ", 1<<10))
		}
	})
	_, err := c.Challenge(t.Context(), "h")
	bad, ok := errors.AsType[*brokerclient.BadAnswer](err)
	if !ok || !strings.Contains(bad.Detail, "more than") {
		t.Errorf("endless answer: %v", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	followed := false
	c, _ := broker(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed = true
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := c.Challenge(t.Context(), "h")
	if refusal, ok := errors.AsType[*brokerclient.Refusal](err); !ok || refusal.Code != "http_307" || followed {
		t.Errorf("redirect: %v, followed %v", err, followed)
	}
}

func TestRefusal(t *testing.T) {
	c, _ := broker(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("DPoP-Nonce", "fresh")
		answer(400, `{"error":"invalid_request","error_description":"attestation: code\n\u001b[31m","code":"E_SEQUENCE",
			"failed":[{"attestor":"code","check":"exe-digest"}],"txn":"t1","retry":"after-change"}`)(w, r)
	})
	_, err := c.SubmitEvidence(t.Context(), []byte("bundle"))
	r, ok := errors.AsType[*brokerclient.Refusal](err)
	if !ok {
		t.Fatal(err)
	}
	if r.Status != 400 || r.Code != "invalid_request" || r.Reason != "E_SEQUENCE" || r.Txn != "t1" || r.Retry != "after-change" ||
		r.Nonce != "fresh" || r.After != 7*time.Second || len(r.Failed) != 1 || r.Failed[0].Attestor != "code" || r.Temporary() {
		t.Errorf("refusal %+v", r)
	}
	if strings.ContainsAny(r.Error(), "\n\x1b") || !strings.Contains(r.Error(), "code/exe-digest") {
		t.Errorf("shown as %q", r.Error())
	}
}

func TestWhatIsTemporary(t *testing.T) {
	for status, want := range map[int]bool{400: false, 401: false, 404: false, 429: true, 500: false, 502: true, 503: true, 504: true} {
		c, _ := broker(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>proxy</html>", status) })
		_, err := c.Challenge(t.Context(), "h")
		if got := brokerclient.Temporary(err); got != want {
			t.Errorf("status %d: temporary %v, want %v (%v)", status, got, want, err)
		}
	}
	c, err := brokerclient.New(brokerclient.Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Challenge(t.Context(), "h")
	if _, ok := errors.AsType[*brokerclient.Unreachable](err); !ok || !brokerclient.Temporary(err) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("nobody listens: %v", err)
	}
	if brokerclient.Temporary(errors.New("other")) || brokerclient.Temporary(nil) {
		t.Error("an error of somebody else is not temporary")
	}
}

func TestEnrolAndActivate(t *testing.T) {
	var self, activated string
	c, url := broker(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/v1/enrol":
			var in map[string]any
			if err := json.Unmarshal(body, &in); err != nil || in["host"] != "h1" || in["ak_public"] != "YWs=" || in["ek_certificates"] == nil {
				t.Errorf("enrol %s, %v", body, err)
			}
			answer(201, `{"enrolment":"e1","credential_blob":"YmxvYg==","secret":"c2VjcmV0","expires_in":60}`)(w, r)
		case "/v1/enrol/activate":
			activated = string(body)
			answer(200, `{"host":"spiffe://example/host/h1","ueid":"01`+strings.Repeat("00", 32)+`","level":"ek-pin","issuer":"`+self+`"}`)(w, r)
		}
	})
	self = url
	e, err := c.Enrol(t.Context(), brokerclient.EnrolRequest{Host: "h1", Token: "tok", EKPublic: []byte("ek"), AKPublic: []byte("ak")})
	if err != nil || e.ID != "e1" || string(e.CredentialBlob) != "blob" || string(e.Secret) != "secret" || e.ExpiresIn != time.Minute {
		t.Fatalf("enrolment %+v, %v", e, err)
	}
	id, err := c.Activate(t.Context(), e.ID, []byte("opened"), nil)
	if err != nil || id.Host != "spiffe://example/host/h1" || len(id.UEID) != 33 {
		t.Fatalf("identity %+v, %v", id, err)
	}
	if activated != `{"enrolment":"e1","secret":"b3BlbmVk"}` {
		t.Errorf("activated with %s", activated)
	}
	self = "https://other.example"
	if _, err := c.Activate(t.Context(), e.ID, []byte("opened"), nil); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("identity of another issuer: %v", err)
	}
}

func TestDelegationIsHeldToItsHash(t *testing.T) {
	var body, url string
	c, url := broker(t, func(w http.ResponseWriter, r *http.Request) { answer(200, body)(w, r) })
	newID := func() string {
		id, err := delegation.NewID(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	object, enc, err := delegation.New(delegation.Delegation{
		ID: newID(), Broker: url, Requester: "spiffe://example/user/ops",
		Workload: delegation.Workload{ID: "spiffe://example/agents/invoice", Levels: delegation.Lowest()},
		Approver: delegation.Person{Issuer: url, Subject: "alice@example.test"}, Purpose: "Close the books",
		Actions: []string{"invoice.read"}, Audience: "https://payments.example", Limits: delegation.Limits{Per: delegation.PerCredential},
		NotBefore: 1, Expires: 1000, Uses: 5, FourEyes: 1, RequestedAt: 1, Nonce: []byte("0123456789abcdef"),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := delegation.Text(delegation.Digest(enc))
	show := func(id, d string, object []byte) string {
		return `{"id":"` + id + `","d":"` + d + `","object":"` + base64.StdEncoding.EncodeToString(object) + `","state":"approved","uses_left":5}`
	}
	body = show(object.ID, d, enc)
	for _, name := range []string{object.ID, d} {
		got, err := c.Delegation(t.Context(), name)
		if err != nil || got.D != delegation.Digest(enc) || got.Object.Audience != "https://payments.example" || got.State != "approved" || got.UsesLeft != 5 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	other := strings.Replace(d, d[:1], map[bool]string{true: "B", false: "A"}[d[0] == 'A'], 1)
	for name, bad := range map[string]string{
		"another hash": show(object.ID, other, enc),
		"another id":   show(newID(), d, enc),
		"changed":      show(object.ID, d, append([]byte{}, enc[:len(enc)-1]...)),
	} {
		body = bad
		if got, err := c.Delegation(t.Context(), object.ID); !errors.As(err, new(*brokerclient.BadAnswer)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	foreign := *object
	foreign.Broker = "https://other.example"
	object2, enc2, err := delegation.New(foreign)
	if err != nil {
		t.Fatal(err)
	}
	body = show(object2.ID, delegation.Text(delegation.Digest(enc2)), enc2)
	if got, err := c.Delegation(t.Context(), object2.ID); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("for another broker: %+v, %v", got, err)
	}
	body = show(object.ID, d, enc)
	if _, err := c.Delegation(t.Context(), newID()); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("not what was asked for: %v", err)
	}
}

func TestExchange(t *testing.T) {
	var body string
	var form map[string][]string
	var proof string
	c, _ := broker(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		form, proof = r.PostForm, r.Header.Get("DPoP")
		answer(200, body)(w, r)
	})
	good := `{"access_token":"a.b.c","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"DPoP","expires_in":300,"refresh_after":240,"txn":"t1"}`
	body = good
	ask := brokerclient.ExchangeRequest{D: evidence.Hash{1}, Reference: "ref", Audience: "https://a.example", Actions: []string{"x"}, Proof: "p.r.f"}
	token, err := c.Exchange(t.Context(), ask)
	if err != nil || token.Access != "a.b.c" || token.ExpiresIn != 300*time.Second || token.Refresh != 240*time.Second || token.Txn != "t1" {
		t.Fatalf("%+v, %v", token, err)
	}
	want := map[string]string{
		"grant_type":            "urn:ietf:params:oauth:grant-type:token-exchange",
		"subject_token":         delegation.Text(ask.D),
		"subject_token_type":    "https://jurat.dev/token-type/delegation",
		"actor_token":           "ref",
		"actor_token_type":      "https://jurat.dev/token-type/evidence-ref",
		"audience":              "https://a.example",
		"requested_token_type":  "urn:ietf:params:oauth:token-type:access_token",
		"authorization_details": `[{"type":"https://jurat.dev/rar/task","actions":["x"],"locations":["https://a.example"]}]`,
	}
	for name, value := range want {
		if len(form[name]) != 1 || form[name][0] != value {
			t.Errorf("%s = %q, want %q", name, form[name], value)
		}
	}
	if len(form) != len(want) || proof != "p.r.f" {
		t.Errorf("%d parameters, proof %q", len(form), proof)
	}
	for name, bad := range map[string]string{
		"no token":      strings.Replace(good, "a.b.c", "", 1),
		"header break":  strings.Replace(good, "a.b.c", `a\r\nX: y`, 1),
		"bearer":        strings.Replace(good, "DPoP", "Bearer", 1),
		"refresh token": strings.Replace(good, "token-type:access_token", "token-type:refresh_token", 1),
		"lives forever": strings.Replace(good, "300", "0", 1),
	} {
		body = bad
		if token, err := c.Exchange(t.Context(), ask); !errors.As(err, new(*brokerclient.BadAnswer)) {
			t.Errorf("%s: %+v, %v", name, token, err)
		}
	}
	body, ask.Proof = good, ""
	if _, err := c.Exchange(t.Context(), ask); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("a key-bound token for a bearer request: %v", err)
	}
}

func TestSubmissionIsInOrder(t *testing.T) {
	body := `{"expires_in":30,"txn":"t","verdict":"affirming","requests":[{"index":0,"evidence_ref":"r0","verdict":"affirming"},{"index":3,"verdict":"warning","failed":[{"attestor":"code","check":"exe"}]}],"ear":{"x":[1,{"y":2}]}}`
	c, _ := broker(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != evidence.MediaType {
			t.Errorf("content type %q", got)
		}
		answer(200, body)(w, r)
	})
	s, err := c.SubmitEvidence(t.Context(), []byte("bundle"))
	if err != nil || s.Request(0).Reference != "r0" || s.Request(3).Failed[0].Check != "exe" || s.Request(1) != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	body = strings.Replace(body, `"index":3`, `"index":0`, 1)
	if _, err := c.SubmitEvidence(t.Context(), []byte("bundle")); !errors.As(err, new(*brokerclient.BadAnswer)) {
		t.Errorf("a request twice: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	c, url := broker(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil || r.PostForm.Get("token") != "a.b.c" || r.Header.Get("DPoP") != "proof" {
			t.Errorf("revoke %v", r.PostForm)
		}
	})
	if err := c.Revoke(context.Background(), "a.b.c", "proof"); err != nil {
		t.Error(err)
	}
	if c.RevocationEndpoint() != url+"/oauth/revoke" || c.TokenEndpoint() != url+"/oauth/token" || c.Issuer() != url {
		t.Error("endpoints")
	}
}
