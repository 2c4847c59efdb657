// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-jose/go-jose/v4"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
)

func newKey(t *testing.T) *brokerclient.Key {
	t.Helper()
	key, err := brokerclient.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProof(t *testing.T) {
	key := newKey(t)
	now := time.Unix(1795435200, 0)
	text, err := key.Proof("POST", "https://a.example/x?q=1#f", "nonce", "token", now)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders["typ"] != "dpop+jwt" || header.JSONWebKey == nil || !header.JSONWebKey.IsPublic() || header.KeyID != "" {
		t.Errorf("header %+v", header)
	}
	payload, err := jws.Verify(header.JSONWebKey.Key)
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := header.JSONWebKey.Thumbprint(crypto.SHA256)
	if err != nil || [32]byte(thumbprint) != key.Thumbprint() {
		t.Errorf("thumbprint %x, %v", thumbprint, err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	ath := sha256.Sum256([]byte("token"))
	want := map[string]any{
		"htm": "POST", "htu": "https://a.example/x", "iat": float64(now.Unix()), "nonce": "nonce",
		"ath": base64.RawURLEncoding.EncodeToString(ath[:]), "jti": claims["jti"],
	}
	if len(claims) != len(want) || len(claims["jti"].(string)) != 22 {
		t.Errorf("claims %v", claims)
	}
	for name, value := range want {
		if claims[name] != value {
			t.Errorf("%s = %v, want %v", name, claims[name], value)
		}
	}
	again, err := key.Proof("POST", "https://a.example/x", "", "", now)
	if err != nil || again == text {
		t.Errorf("a second proof: %v", err)
	}
}

func TestProofRefuses(t *testing.T) {
	key := newKey(t)
	for _, c := range [][2]string{
		{"GET", "/x"}, {"GET", "ftp://a.example/x"}, {"GET", "https://"}, {"GET", "https://a.example/\x7f"}, {"", "https://a.example"},
		{"GET X", "https://a.example"}, {"GET\r\n", "https://a.example"},
	} {
		if text, err := key.Proof(c[0], c[1], "", "", time.Now()); err == nil {
			t.Errorf("%q %q: %s", c[0], c[1], text)
		}
	}
	if newKey(t).Thumbprint() == key.Thumbprint() {
		t.Error("two keys are one")
	}
}

func TestBackoff(t *testing.T) {
	var asked []int64
	b := brokerclient.Backoff{Base: 100 * time.Millisecond, Max: time.Second, Random: func(n int64) int64 {
		asked = append(asked, n)
		return n - 1
	}}
	for attempt, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if got := b.Delay(attempt, 0); got != want*time.Millisecond-1 {
			t.Errorf("attempt %d: %v, want up to %v", attempt, got, want*time.Millisecond)
		}
	}
	if got := b.Delay(500, 0); got >= time.Second {
		t.Errorf("attempt 500: %v", got)
	}
	if got := b.Delay(0, 700*time.Millisecond); got != 700*time.Millisecond {
		t.Errorf("at least 700ms: %v", got)
	}
	if got := b.Delay(0, time.Hour); got != time.Second {
		t.Errorf("the broker may not make us wait forever: %v", got)
	}
}

func TestRetry(t *testing.T) {
	down := &brokerclient.Unreachable{Op: "x", URL: "u", Err: iotest.ErrTimeout}
	var waits, heard int
	b := brokerclient.Backoff{Base: 1, Max: 1, Random: func(int64) int64 { return 0 }}
	b.Wait = func(context.Context, time.Duration) error { waits++; return nil }
	calls := 0
	err := b.Retry(t.Context(), func(error) { heard++ }, func(context.Context) error {
		if calls++; calls < 4 {
			return down
		}
		return nil
	})
	if err != nil || calls != 4 || waits != 3 || heard != 3 {
		t.Errorf("%v after %d calls, %d waits, %d heard", err, calls, waits, heard)
	}
	calls = 0
	final := &brokerclient.Refusal{Status: 400, Code: "invalid_request"}
	if err := b.Retry(t.Context(), nil, func(context.Context) error { calls++; return final }); err != error(final) || calls != 1 {
		t.Errorf("a refusal is final: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.Wait = nil
	b.Base, b.Max, b.Random = time.Hour, time.Hour, func(n int64) int64 { return n - 1 }
	err = b.Retry(ctx, func(error) { cancel() }, func(context.Context) error { return down })
	if !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("out of time: %v, want the last failure", err)
	}
}
