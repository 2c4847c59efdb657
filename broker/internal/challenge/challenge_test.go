// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package challenge

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"
)

const (
	issuer = "https://broker.example"
	host   = "spiffe://example.test/host/h1"
)

var now = time.Unix(1795435200, 5e8)

func newChallenge(t *testing.T, m *Maker) []byte {
	t.Helper()
	c, err := m.Make(host, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUnique(t *testing.T) {
	m := New(bytes.Repeat([]byte{1}, 32), issuer, rand.Reader)
	seen := make(map[string]bool)
	for range 10_000 {
		c := newChallenge(t, m)
		if len(c) != 56 {
			t.Fatalf("%d bytes", len(c))
		}
		if seen[Text(c)] {
			t.Fatal("the same challenge twice")
		}
		seen[Text(c)] = true
	}
}

func TestCheck(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	m := New(key, issuer, rand.Reader)
	c := newChallenge(t, m)
	if end, err := m.Check(host, c, now); err != nil || !end.Equal(time.Unix(now.Add(Life).Unix(), 0)) {
		t.Fatalf("fresh: %v, %v", end, err)
	}
	if _, err := m.Check(host, c, now.Add(29*time.Second)); err != nil {
		t.Errorf("after 29 s: %v", err)
	}
	for name, at := range map[string]time.Time{"after 30 s": now.Add(30 * time.Second), "after an hour": now.Add(time.Hour), "an hour before": now.Add(-time.Hour)} {
		if _, err := m.Check(host, c, at); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want stale", name, err)
		}
	}
	for i := range c {
		changed := bytes.Clone(c)
		changed[i] ^= 1
		if _, err := m.Check(host, changed, now); !errors.Is(err, ErrForeign) {
			t.Fatalf("byte %d changed: %v, want foreign", i, err)
		}
	}
	cases := map[string]struct {
		m    *Maker
		host string
		c    []byte
	}{
		"another host":          {m, host + "2", c},
		"another issuer":        {New(key, issuer+"2", rand.Reader), host, c},
		"another key":           {New(bytes.Repeat([]byte{2}, 32), issuer, rand.Reader), host, c},
		"nothing":               {m, host, nil},
		"short":                 {m, host, c[:55]},
		"long":                  {m, host, append(bytes.Clone(c), 0)},
		"the border moved left": {New(key, issuer+"\x00spiffe:", rand.Reader), "//example.test/host/h1", c},
	}
	for name, x := range cases {
		if _, err := x.m.Check(x.host, x.c, now); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v, want foreign", name, err)
		}
	}
	again, err := ParseText(Text(c))
	if err != nil || !bytes.Equal(again, c) {
		t.Errorf("text: %v", err)
	}
	for _, bad := range []string{"", Text(c) + "=", Text(c)[1:], Text(c) + "A", "*"} {
		if _, err := ParseText(bad); err == nil {
			t.Errorf("read %q", bad)
		}
	}
}

func TestNoRandomness(t *testing.T) {
	if c, err := New(nil, issuer, bytes.NewReader(make([]byte, 15))).Make(host, now); err == nil {
		t.Errorf("made %x without randomness", c)
	}
}
