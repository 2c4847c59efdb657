// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/keys"
)

// output is what the program writes to standard error.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return l.Addr().String()
}

// authority writes a certificate, and its key beside it.
func authority(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// start runs the program until the returned function is called, which returns
// its exit code.
func start(t *testing.T, args ...string) (stop func() int, log *output) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log = &output{}
	done := make(chan int, 1)
	go func() { done <- run(ctx, args, io.Discard, log) }()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case code := <-done:
			return code
		case <-time.After(20 * time.Second):
			t.Error("did not end")
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "msg=serving"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || len(done) > 0 {
			t.Fatalf("did not start: %s", log)
		}
	}
	return stop, log
}

func get(t *testing.T, c *http.Client, url string) (int, []byte) {
	t.Helper()
	resp, err := c.Get(url)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, body
}

func onSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	address, data, admin := freeAddress(t), filepath.Join(dir, "data"), filepath.Join(dir, "run", "admin.sock")
	root, _ := authority(t, dir)
	args := []string{"-issuer", "http://" + address, "-listen", address, "-data", data, "-admin-socket", admin, "-ek-roots", root, "-trust-domain", "example.test"}
	stop, log := start(t, args...)
	status, body := get(t, http.DefaultClient, "http://"+address+"/.well-known/oauth-authorization-server")
	var meta map[string]any
	must(t, json.Unmarshal(body, &meta))
	if status != http.StatusOK || meta["issuer"] != "http://"+address {
		t.Errorf("metadata: %d %s", status, body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := get(t, http.DefaultClient, "http://"+address+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := get(t, http.DefaultClient, "http://"+address+"/v1/hosts"); status != http.StatusNotFound {
		t.Errorf("the public address answers operators: %d", status)
	}
	if status, body := get(t, onSocket(admin), "http://admin/v1/hosts"); status != http.StatusOK {
		t.Errorf("operators: %d %s", status, body)
	}
	info, err := os.Stat(admin)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", info.Mode())
	}
	if code := run(context.Background(), args, io.Discard, new(output)); code != exitEnvironment {
		t.Errorf("a second broker on the same place: exit %d", code)
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d: %s", code, log)
	}
	if _, err := os.Lstat(admin); err == nil {
		t.Error("the socket is still there")
	}
	// A socket that a killed broker left behind is no obstacle, the log goes on.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: admin})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	stop, _ = start(t, args...)
	if code := stop(); code != exitOK {
		t.Errorf("second start: exit %d", code)
	}
	// Keys that the log depends on must not come back as others.
	invite := func() {
		t.Helper()
		stop, _ := start(t, args...)
		resp, err := onSocket(admin).Post("http://admin/v1/hosts", "application/json", strings.NewReader(`{"name":"h1"}`))
		must(t, err)
		must(t, resp.Body.Close())
		stop()
	}
	invite()
	for _, name := range []string{keys.LogFile, keys.PairwiseFile} {
		path := filepath.Join(data, name)
		old, err := os.ReadFile(path)
		must(t, err)
		must(t, os.Remove(path))
		var said output
		if code := run(context.Background(), args, io.Discard, &said); code != exitEnvironment || !strings.Contains(said.String(), name+" was missing") {
			t.Errorf("%s lost: exit %d, %s", name, code, &said)
		}
		must(t, os.WriteFile(path, old, 0o600))
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	address := freeAddress(t)
	cert, key := authority(t, dir)
	stop, _ := start(t, "-issuer", "https://"+address, "-listen", address, "-data", filepath.Join(dir, "data"), "-admin-socket", filepath.Join(dir, "admin.sock"),
		"-tls-cert", cert, "-tls-key", key, "-trust-domain", "example.test")
	trusted := x509.NewCertPool()
	raw, err := os.ReadFile(cert)
	must(t, err)
	trusted.AppendCertsFromPEM(raw)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	if status, body := get(t, client, "https://"+address+"/oauth/jwks"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if stop() != exitOK {
		t.Error("did not end well")
	}
}

func TestRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := authority(t, dir)
	wide := filepath.Join(dir, "wide")
	must(t, os.Mkdir(wide, 0o755))
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	policies := 0
	written := func(text string) string {
		policies++
		name := filepath.Join(dir, fmt.Sprintf("policy%d.yaml", policies))
		must(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	base := func(more ...string) []string {
		return append([]string{"-issuer", "https://broker.example", "-data", filepath.Join(dir, "data"), "-admin-socket", filepath.Join(dir, "a.sock"), "-listen", "127.0.0.1:0"}, more...)
	}
	cases := []struct {
		name, want string
		exit       int
		args       []string
	}{
		{"nothing", "-issuer must be given", exitUsage, nil},
		{"unknown flag", "not defined", exitUsage, []string{"-x"}},
		{"argument", "unexpected argument", exitUsage, base("x")},
		{"plain issuer", "want https", exitUsage, []string{"-issuer", "http://broker.example"}},
		{"issuer with a slash", "plain form", exitUsage, []string{"-issuer", "https://broker.example/"}},
		{"plain http for everybody", "plain http only on a loopback", exitUsage, base("-listen", "0.0.0.0:0")},
		{"plain http on all addresses", "plain http only on a loopback", exitUsage, base("-listen", ":0")},
		{"no port", "-listen", exitUsage, base("-listen", "127.0.0.1")},
		{"half of TLS", "go together", exitUsage, base("-tls-cert", cert)},
		{"TLS with a plain issuer", "is not https", exitUsage, []string{"-issuer", "http://127.0.0.1:1", "-tls-cert", cert, "-tls-key", key}},
		{"store of another kind", "-store is no URL of PostgreSQL", exitUsage, base("-store", "mysql://x")},
		{"new keys for one broker", "-new-keys is for -store", exitUsage, base("-new-keys")},
		{"trust domain", "-trust-domain", exitUsage, base("-trust-domain", "A/B")},
		{"no such policy", "no such file", exitEnvironment, base("-policy", filepath.Join(dir, "none"))},
		{"policy with a member that is unknown", "field pcr not found", exitEnvironment, base("-policy", written("pcr: [1]"))},
		{"policy and flag", "give one", exitEnvironment, base("-policy", written("unsafe_clock_grace: 1m"), "-unsafe-clock-grace", "2m")},
		{"unsound grace", "unsafe_clock_grace", exitEnvironment, base("-unsafe-clock-grace", "-2m")},
		{"no such roots", "no such file", exitEnvironment, base("-ek-roots", filepath.Join(dir, "none"))},
		{"no such bundle", "-ek-bundle", exitUsage, base("-ek-bundle", "some")},
		{"roots without certificate", "certificate", exitEnvironment, base("-ek-roots", file)},
		{"open data directory", "mode 0755", exitEnvironment, base("-data", wide)},
		{"TLS key for another certificate", "tls", exitEnvironment, base("-tls-cert", cert, "-tls-key", cert)},
		{"no such address", "listen", exitEnvironment, base("-listen", "127.0.0.1:99999")},
		{"admin socket is a file", "is no socket", exitEnvironment, base("-admin-socket", file)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var said output
			if code := run(context.Background(), c.args, io.Discard, &said); code != c.exit || !strings.Contains(said.String(), c.want) {
				t.Errorf("exit %d, want %d; %q in %s", code, c.exit, c.want, &said)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	var out, said output
	if code := run(context.Background(), []string{"-version"}, &out, &said); code != exitOK || !strings.HasPrefix(out.String(), "jurat-broker ") {
		t.Errorf("-version: %d %q", code, out.String())
	}
	if code := run(context.Background(), []string{"-help"}, &out, &said); code != exitOK || !strings.Contains(said.String(), "-ek-roots") {
		t.Errorf("-help: %d %q", code, said.String())
	}
}

// TestHeaderCap: a request with a header that is too long is refused before it
// is read.
func TestHeaderCap(t *testing.T) {
	dir := t.TempDir()
	address := freeAddress(t)
	start(t, "-issuer", "http://"+address, "-listen", address, "-data", filepath.Join(dir, "data"), "-admin-socket", filepath.Join(dir, "a.sock"), "-trust-domain", "example.test")
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/healthz", nil)
	must(t, err)
	r.Header.Set("X", strings.Repeat("a", maxHeader+8<<10))
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(fmt.Sprint("status ", resp.StatusCode))
	}
}
