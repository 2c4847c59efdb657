// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package oauth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

const details = `[{"type":"https://jurat.dev/rar/task","actions":["invoice.read"]}]`

func goodForm() url.Values {
	return url.Values{
		"grant_type": {GrantTokenExchange}, "subject_token": {b64(make([]byte, 32))}, "subject_token_type": {TypeDelegation},
		"actor_token": {"ref"}, "actor_token_type": {TypeEvidenceRef}, "audience": {"https://payments.example"},
		"requested_token_type": {TypeAccessToken}, "authorization_details": {details},
	}
}

func post(body string, change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(r)
	}
	return r
}

func parse(r *http.Request) (*Exchange, *Error) {
	f, fault := ParseForm(httptest.NewRecorder(), r)
	if fault != nil {
		return nil, fault
	}
	return ParseExchange(f)
}

func TestExchangeAccepted(t *testing.T) {
	x, fault := parse(post(goodForm().Encode()))
	if fault != nil {
		t.Fatal(fault)
	}
	if x.D != (evidence.Hash{}) || x.Ref != "ref" || x.Audience != "https://payments.example" || x.Task.Actions[0] != "invoice.read" {
		t.Errorf("got %+v", x)
	}
}

// TestExchangeRefused is attacks 6 and 7: leaving out, emptying and doubling
// parameters, and presenting other tokens than a delegation and a reference.
func TestExchangeRefused(t *testing.T) {
	set := func(name string, values ...string) func(url.Values) {
		return func(v url.Values) {
			if v[name] = values; len(values) == 0 {
				delete(v, name)
			}
		}
	}
	at := "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"
	cases := []struct {
		name, code, want string
		change           func(url.Values)
	}{
		{"no grant type", UnsupportedGrant, "grant_type", set("grant_type")},
		{"client credentials", UnsupportedGrant, "grant_type", set("grant_type", "client_credentials")},
		{"no actor_token", InvalidRequest, "actor_token is missing", set("actor_token")},
		{"empty actor_token", InvalidRequest, "actor_token is missing", set("actor_token", "")},
		{"actor_token twice", InvalidRequest, "given 2 times", set("actor_token", "ref", "ref")},
		{"no actor_token_type", InvalidRequest, "actor_token_type is missing", set("actor_token_type")},
		{"neither actor parameter", InvalidRequest, "is missing", func(v url.Values) { delete(v, "actor_token"); delete(v, "actor_token_type") }},
		{"no subject_token", InvalidRequest, "subject_token is missing", set("subject_token")},
		{"access token as subject", InvalidRequest, "subject_token_type", func(v url.Values) {
			v.Set("subject_token", at)
			v.Set("subject_token_type", TypeAccessToken)
		}},
		{"jwt as subject", InvalidRequest, "subject_token_type", set("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")},
		{"id token as subject", InvalidRequest, "subject_token_type", set("subject_token_type", "urn:ietf:params:oauth:token-type:id_token")},
		{"access token under our type", InvalidRequest, "base64url of 32 bytes", set("subject_token", at)},
		{"access token as actor", InvalidRequest, "actor_token_type", func(v url.Values) { v.Set("actor_token", at); v.Set("actor_token_type", TypeAccessToken) }},
		{"long d", InvalidRequest, "base64url of 32 bytes", set("subject_token", b64(make([]byte, 33)))},
		{"padded d", InvalidRequest, "base64url of 32 bytes", set("subject_token", b64(make([]byte, 32))+"=")},
		{"d with loose bits", InvalidRequest, "base64url of 32 bytes", set("subject_token", strings.Repeat("A", 42)+"B")},
		{"refresh token wanted", InvalidRequest, "requested_token_type", set("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")},
		{"scope", InvalidScope, "no scope", set("scope", "admin")},
		{"no audience", InvalidRequest, "audience is missing", set("audience")},
		{"audience twice", InvalidRequest, "given 2 times", set("audience", "https://payments.example", "https://other.example")},
		{"other resource", InvalidTarget, "one audience", set("resource", "https://other.example")},
		{"other location", InvalidTarget, "locations", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["a"],"locations":["https://other.example"]}]`)},
		{"no details", InvalidRequest, "authorization_details is missing", set("authorization_details")},
		{"details not JSON", InvalidDetails, "invalid character", set("authorization_details", "invoice.read")},
		{"two tasks", InvalidDetails, "2 elements", set("authorization_details", "["+details[1:len(details)-1]+","+details[1:len(details)-1]+"]")},
		{"no task", InvalidDetails, "0 elements", set("authorization_details", "[]")},
		{"unknown type", InvalidDetails, "type", set("authorization_details", `[{"type":"payment_initiation","actions":["a"]}]`)},
		{"unknown member", InvalidDetails, "unknown member", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["a"],"limits":{}}]`)},
		{"member in capitals", InvalidDetails, "unknown member", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","Actions":["a"]}]`)},
		{"member twice", InvalidDetails, "duplicate", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["a"],"actions":["b"]}]`)},
		{"null member", InvalidDetails, "null", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["a"],"purpose":null}]`)},
		{"no action", InvalidDetails, "no action", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":[]}]`)},
		{"action twice", InvalidDetails, "repeated", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":["a","a"]}]`)},
		{"empty action", InvalidDetails, "empty", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":[""]}]`)},
		{"behind the end", InvalidDetails, "invalid character", set("authorization_details", details+"[]")},
		{"long details", InvalidDetails, "at most", set("authorization_details", strings.Repeat(" ", MaxDetails)+details)},
		{"many actions", InvalidDetails, "at most", set("authorization_details", `[{"type":"https://jurat.dev/rar/task","actions":[`+strings.Repeat(`"a",`, 32)+`"a"]}]`)},
		{"bytes that are no text", InvalidRequest, "UTF-8", set("audience", "\xff")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := goodForm()
			c.change(v)
			_, fault := parse(post(v.Encode()))
			if fault == nil {
				t.Fatal("accepted")
			}
			if fault.Code != c.code || fault.Retry != RetryNever || !strings.Contains(fault.Description, c.want) {
				t.Errorf("got %+v, want %s with %q", fault, c.code, c.want)
			}
		})
	}
}

func TestFormRefused(t *testing.T) {
	good := goodForm().Encode()
	cases := map[string]*http.Request{
		"JSON":            post(`{"grant_type":"x"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }),
		"no content type": post(good, func(r *http.Request) { r.Header.Del("Content-Type") }),
		"long":            post(good + "&x=" + strings.Repeat("a", MaxForm)),
		"in the URL":      post(good, func(r *http.Request) { r.URL.RawQuery = "audience=https://other.example" }),
		"semicolons":      post("a=b;c=d"),
		"bad escape":      post("a=%zz"),
	}
	for name, r := range cases {
		if _, fault := parse(r); fault == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBasic(t *testing.T) {
	r := post("")
	r.SetBasicAuth("https%3A%2F%2Fpayments.example", "s%2B1")
	if id, secret, ok := ParseBasic(r); !ok || id != "https://payments.example" || secret != "s+1" {
		t.Errorf("got %q %q %v", id, secret, ok)
	}
	r.Header.Add("Authorization", "Bearer x")
	if _, _, ok := ParseBasic(r); ok {
		t.Error("two Authorization headers were accepted")
	}
	for _, pair := range [][2]string{{"", "s"}, {"a", ""}, {"%zz", "s"}, {"a", "%zz"}} {
		r := post("")
		r.SetBasicAuth(pair[0], pair[1])
		if _, _, ok := ParseBasic(r); ok {
			t.Errorf("accepted %q", pair)
		}
	}
}
