// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
)

func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := Public(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		status     int
		kind, body string
		refusal    string // its code; "" for none
		bad        bool
	}{
		"good":             {200, "application/json", `{"a":1}`, "", false},
		"created":          {201, "application/json; charset=utf-8", `{"a":1}`, "", false},
		"problem":          {200, "application/problem+json", `{"a":1}`, "", false},
		"no JSON":          {200, "text/html", `{"a":1}`, "", true},
		"truncated":        {200, "application/json", `{"a":`, "", true},
		"too long":         {200, "application/json", strings.Repeat(" ", maxAnswer+1), "", true},
		"refused":          {400, "application/json", `{"error":"invalid_request","code":"E_MAGIC"}`, "invalid_request", false},
		"refused by proxy": {502, "text/html", `<html>`, "http_502", false},
		"redirect":         {302, "application/json", `{"a":1}`, "http_302", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", row.kind)
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(row.status)
				io.WriteString(w, row.body)
			})
			var out struct{ A int }
			err := c.Get(context.Background(), "asking", "/x", &out)
			var refusal *brokerclient.Refusal
			var bad *brokerclient.BadAnswer
			switch {
			case row.refusal != "":
				if !errors.As(err, &refusal) || refusal.Code != row.refusal || refusal.After.Seconds() != 7 {
					t.Errorf("got %v, want refusal %s", err, row.refusal)
				}
			case row.bad:
				if !errors.As(err, &bad) {
					t.Errorf("got %v, want a bad answer", err)
				}
			case err != nil || out.A != 1:
				t.Errorf("got %v, %+v", err, out)
			}
		})
	}
}

func TestCheckpoint(t *testing.T) {
	for body, want := range map[string]bool{
		"o\n7\nAAAA\n\n— o x\n": true, "": false, "o\n7\n": false, "o\n-7\nAAAA\n": false, "o\nx\nAAAA\n": false,
	} {
		head, err := client(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }).Checkpoint(context.Background())
		if (err == nil) != want || want && head != (Checkpoint{"o", 7}) {
			t.Errorf("%q: %+v, %v", body, head, err)
		}
	}
}

func TestPublicRefuses(t *testing.T) {
	for _, address := range []string{"", "broker.example", "http://broker.example", "https://u@broker.example", "https://broker.example?x=1"} {
		if _, err := Public(address); err == nil {
			t.Errorf("%q: accepted", address)
		}
	}
	c, err := Public("http://localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	var unreachable *brokerclient.Unreachable
	if err := c.Ready(context.Background()); !errors.As(err, &unreachable) {
		t.Errorf("got %v", err)
	}
	if err := onlyLoopback(context.Background(), "tcp", "192.0.2.1:80", nil); err == nil {
		t.Error("plain http to another machine: accepted")
	}
}

func TestOperatorAway(t *testing.T) {
	var unreachable *brokerclient.Unreachable
	err := Operator(t.TempDir()+"/none").Delete(context.Background(), "removing", "/x", nil)
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "/none") {
		t.Errorf("got %v", err)
	}
}
