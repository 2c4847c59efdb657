// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-issuer", "http://127.0.0.1:1"}, w, w)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatal("nothing printed")
	}
	var first struct{ Address string }
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	for path, want := range map[string]int{"/healthz": 200, "/invoices": 401, "/other": 404} {
		resp, err := http.Get(first.Address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s answered %d, want %d", path, resp.StatusCode, want)
		}
		if want == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "DPoP") {
			t.Errorf("challenge %q", resp.Header.Get("WWW-Authenticate"))
		}
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("exit %d", c)
	}
}

func TestUsage(t *testing.T) {
	for _, row := range []struct {
		args []string
		code int
	}{
		{nil, 2}, {[]string{"-issuer", "x", "y"}, 2}, {[]string{"-issuer", "http://broker.example"}, 3},
		{[]string{"-issuer", "https://b.example", "-introspect-secret-file", "/nonexistent"}, 3},
		{[]string{"-issuer", "https://b.example", "-listen", "256.0.0.1:1"}, 3},
	} {
		if got := run(t.Context(), row.args, io.Discard, io.Discard); got != row.code {
			t.Errorf("%q: exit %d, want %d", row.args, got, row.code)
		}
	}
}
