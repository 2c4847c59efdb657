// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"strings"
	"testing"
)

// A name that says localhost may resolve to anything.
func TestPlainHTTPDialsLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true,
		"10.0.0.1:80": false, "[2001:db8::1]:80": false, "localhost:80": false, "": false,
	} {
		if err := onlyLoopback(t.Context(), "tcp", address, nil); (err == nil) != ok {
			t.Errorf("dialling %q: %v", address, err)
		}
	}
	c, err := New(Config{URL: "http://localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	c.issuer = "http://192.0.2.1:1" // as if the name had resolved to it
	if _, err := c.Challenge(t.Context(), "h"); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
		t.Errorf("dialled a stranger in plain http: %v", err)
	}
}
