// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package limit

import (
	"fmt"
	"testing"
	"time"
)

var now = time.Unix(1795435200, 0)

func TestAllow(t *testing.T) {
	l := New(2, 3)
	for i := range 3 {
		if ok, _ := l.Allow("a", now); !ok {
			t.Fatalf("request %d of the burst was refused", i)
		}
	}
	ok, after := l.Allow("a", now)
	if ok || after != 500*time.Millisecond {
		t.Fatalf("fourth: %v, after %v", ok, after)
	}
	if ok, _ := l.Allow("b", now); !ok {
		t.Error("one client's requests were counted on another")
	}
	if ok, _ := l.Allow("a", now.Add(499*time.Millisecond)); ok {
		t.Error("allowed too early")
	}
	if ok, _ := l.Allow("a", now.Add(500*time.Millisecond)); !ok {
		t.Error("refused when it was time")
	}
	if ok, _ := l.Allow("a", now.Add(-time.Hour)); ok {
		t.Error("setting the clock back gave a new allowance")
	}
	if ok, _ := l.Allow("a", now.Add(-time.Hour+time.Second)); !ok {
		t.Error("after the clock was set back, time no longer passes")
	}
}

// TestBounded: a flood of addresses neither grows the memory nor gets more
// than one allowance when it is full, and a good client keeps its own.
func TestBounded(t *testing.T) {
	l := New(1, 2)
	l.Allow("good", now)
	for i := range maxKnown - 1 {
		l.Allow(fmt.Sprint("x", i), now)
	}
	allowed := 0
	for i := range 1000 {
		if ok, _ := l.Allow(fmt.Sprint("y", i), now); ok {
			allowed++
		}
	}
	if len(l.known) > maxKnown || allowed != 2 {
		t.Errorf("%d known, %d of the rest allowed", len(l.known), allowed)
	}
	if ok, _ := l.Allow("good", now); !ok {
		t.Error("the good client lost its allowance")
	}
	if ok, _ := l.Allow("later", now.Add(time.Minute)); !ok || len(l.known) > 1 {
		t.Errorf("after a minute: %v, %d known", ok, len(l.known))
	}
}

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5":              "192.0.2.1",
		"[::ffff:192.0.2.1]:5":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":         "fe80::/64",
		"@":                        "@",
	} {
		if got := Client(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
