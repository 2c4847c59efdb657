// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// waitFor waits until the log has a text n times.
func waitFor(t *testing.T, log *output, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); strings.Count(log.String(), text) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %d times %q in\n%s", n, text, log)
		}
	}
}

// TestReload: SIGHUP rereads the folder as a whole or not at all.
func TestReload(t *testing.T) {
	dir, roots := t.TempDir(), t.TempDir()
	address, admin := freeAddress(t), filepath.Join(dir, "admin.sock")
	one, _ := authority(t, t.TempDir())
	two, _ := authority(t, t.TempDir())
	install := func(from, name string) {
		t.Helper()
		text, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(roots, name), text, 0o600))
	}
	hup := func() { must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP)) }
	// Whether the broker knows any maker shows in that it invites without a pin.
	invite := func(name string) int {
		t.Helper()
		resp, err := onSocket(admin).Post("http://x/v1/hosts", "application/json", strings.NewReader(`{"name":"`+name+`"}`))
		must(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		return resp.StatusCode
	}
	rules := filepath.Join(roots, "ek-rules.txt")
	must(t, os.WriteFile(rules, []byte("deny manufacturer NTC\n"), 0o600))
	stop, log := start(t, "-issuer", "http://"+address, "-listen", address, "-data", filepath.Join(dir, "data"), "-admin-socket", admin,
		"-ek-bundle", "none", "-ek-roots", roots, "-trust-domain", "example.test")
	if !strings.Contains(log.String(), "ek_roots=0 ek_rules=1") || invite("h1") != http.StatusBadRequest {
		t.Errorf("rules alone: %s", log)
	}
	install(one, "one.pem")
	install(two, "two.pem")
	hup()
	waitFor(t, log, `msg="EK authorities reread" ek_roots=2 ek_rules=1`, 1)
	if got := invite("h1"); got != http.StatusCreated {
		t.Errorf("after the roots came: %d", got)
	}
	for n, spoil := range []func(){
		func() { must(t, os.WriteFile(rules, []byte("deny manufactuer NTC\n"), 0o600)) },
		func() {
			must(t, os.Remove(rules))
			must(t, os.WriteFile(filepath.Join(roots, "two.pem"), []byte("x"), 0o600))
		},
		func() { must(t, os.RemoveAll(roots)) },
	} {
		spoil()
		hup()
		waitFor(t, log, "the old ones stay", n+1)
		if got := invite("spoilt" + string(rune('a'+n))); got != http.StatusCreated {
			t.Errorf("%d: the old ones did not stay: %d", n, got)
		}
	}
	for _, why := range []string{"line 1", "two.pem", "no such file"} {
		if !strings.Contains(log.String(), why) {
			t.Errorf("%q is not logged", why)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// TestShippedBundle: with nothing said, the makers that ship are believed.
func TestShippedBundle(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	_, log := start(t, "-issuer", "http://"+address, "-listen", address, "-data", filepath.Join(dir, "data"), "-admin-socket", filepath.Join(dir, "a.sock"), "-trust-domain", "example.test")
	if strings.Contains(log.String(), "ek_roots=0") {
		t.Errorf("%s", log)
	}
}
