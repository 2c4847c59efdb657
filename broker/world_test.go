// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/postgres"
	"github.com/jurat-dev/jurat/broker/store/sqlite"
	"github.com/jurat-dev/jurat/ek"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

const (
	workloadID = "spiffe://example.test/agents/invoice"
	audience   = "https://payments.example"
	approver   = "alice@example.test"
)

type object = map[string]any

// clock is the broker's, and goes only when a test says so.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// buffer is a log that many may write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is a broker with real HTTP and a real store, and everybody around it.
type world struct {
	t        testing.TB
	b        *Broker
	store    *store.Store
	clock    *clock
	logs     *buffer
	secrets  []string // everything that must never be logged
	url      string
	operator string
	data     string
	log      *audit.Signer
	maker    *testbundle.Maker
	host     *testbundle.Host
	subject  evidence.Subject
	alice    ssh.Signer
	key      *ecdsa.PrivateKey
	chips    int
	postgres string // where the store is; "": SQLite in data
}

func newWorld(t testing.TB) *world { return newWorldIn(t, "") }

// newWorldIn has the store in a PostgreSQL, unless its URL is "".
func newWorldIn(t testing.TB, postgres string) *world {
	t.Helper()
	w := &world{t: t, postgres: postgres, clock: &clock{t: time.Unix(1795435200, 123e6)}, logs: &buffer{}, data: filepath.Join(t.TempDir(), "data")}
	w.maker = testbundle.NewMaker(t, w.clock.now())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.b.Public().ServeHTTP(rw, r) }))
	w.url = "http://" + server.Listener.Addr().String()
	w.open()
	server.Start()
	t.Cleanup(server.Close)
	admin := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.b.Operator().ServeHTTP(rw, r) }))
	t.Cleanup(admin.Close)
	w.operator = admin.URL
	_, private, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	w.alice, err = ssh.NewSignerFromKey(private)
	w.must(err)
	w.key = newKey(t)
	return w
}

// open starts the broker on its data directory.
func (w *world) open() {
	w.t.Helper()
	k, err := keys.Open(w.data, rand.Reader)
	w.must(err)
	origin, err := audit.Origin(w.url)
	w.must(err)
	w.log, err = audit.NewSigner(origin, k.Log)
	w.must(err)
	if w.postgres != "" {
		w.store, err = postgres.Open(context.Background(), w.postgres, w.log, w.clock.now())
	} else {
		w.store, err = sqlite.Open(context.Background(), filepath.Join(w.data, "broker.db"), w.log, w.clock.now())
	}
	w.must(err)
	w.t.Cleanup(func() { w.store.Close() })
	roots := filepath.Join(w.t.TempDir(), "roots.pem")
	w.must(os.WriteFile(roots, append(pemOf(w.maker.Root.Raw), pemOf(w.maker.Intermediate.Raw)...), 0o600))
	authorities, err := ek.Open(ek.BundleNone, roots)
	w.must(err)
	w.b, err = New(Config{Issuer: w.url, TrustDomain: "example.test", Authorities: authorities, Policy: verify.DefaultPolicy(),
		Log: slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: w.clock.now, Rand: rand.Reader}, w.store, k, w.log)
	w.must(err)
}

func pemOf(der []byte) []byte {
	return []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END CERTIFICATE-----\n")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func thumbprint(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: &key.PublicKey}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   object
}

func (w *world) do(r *http.Request) answer {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	w.must(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	w.must(err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		w.must(json.Unmarshal(raw, &a.body))
	}
	return a
}

func (w *world) send(method, target, contentType, body string, header ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	w.must(err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return w.do(r)
}

func (w *world) post(target string, v any) answer {
	w.t.Helper()
	body, err := json.Marshal(v)
	w.must(err)
	return w.send(http.MethodPost, target, "application/json", string(body))
}

func (w *world) get(target string) answer {
	w.t.Helper()
	return w.send(http.MethodGet, target, "", "")
}

// ok wants success.
func (w *world) ok(a answer) answer {
	w.t.Helper()
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		w.t.Fatalf("status %d: %s", a.status, a.raw)
	}
	return a
}

// refused wants a refusal with this status, code and reason.
func (w *world) refused(a answer, status int, code, reason string) answer {
	w.t.Helper()
	got, _ := a.body["reason"].(string)
	if a.status != status || a.body["error"] != code || got != reason {
		w.t.Fatalf("got %d %s, want %d %s (%s)", a.status, a.raw, status, code, reason)
	}
	if _, ok := a.body["access_token"]; ok {
		w.t.Fatal("a refusal with a token in it")
	}
	return a
}

func (a answer) failed() []string {
	out := []string{}
	list, _ := a.body["failed"].([]any)
	for _, f := range list {
		m := f.(object)
		out = append(out, fmt.Sprint(m["attestor"], "/", m["check"]))
	}
	return out
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

const registrations = `kind: Workload
id: %s
machines: [demo]
bearer: %v
minimum: {ek: ek-cert, anchor: none, tier: tracepoint, provenance: pinned, ima: none}
code:
  executables: [{digest: "%s", label: invoice-agent 1.4.2}]
  loaders: any
  libraries: any
context:
  units: [invoice.service]
  uids: [990]
  gids: [990]
  cgroups: any
  containers: [none]
  ancestors: any
---
kind: Machine
name: demo
boot: {pcrs: {7: ["%s"]}, secure_boot: [on], command_lines: any}
---
kind: Approver
name: %s
keys: ["%s"]
---
kind: Resource
name: payments
audience: %s
`

func (w *world) yaml(id string, bearer bool, exe string) string {
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.alice.PublicKey())))
	return fmt.Sprintf(registrations, id, bearer, testbundle.Digest(exe), hex.EncodeToString(testbundle.PCR(7)), approver, key, audience)
}

// register tells the broker about workload, machine class, approver, resource.
func (w *world) register() {
	w.t.Helper()
	w.ok(w.send(http.MethodPost, w.operator+"/v1/apply", "application/yaml", w.yaml(workloadID, false, "/usr/bin/invoice-agent")))
}

// enrol makes a host with a fresh TPM known.
func (w *world) enrol(name string) *testbundle.Host {
	w.t.Helper()
	invited := w.ok(w.post(w.operator+"/v1/hosts", object{"name": name, "machine": "demo"}))
	w.secrets = append(w.secrets, invited.str("enrol_token"))
	chip := testbundle.NewChip(w.t, w.chips)
	w.chips++
	asked := w.ok(w.post(w.url+"/v1/enrol", object{"host": name, "token": invited.str("enrol_token"),
		"ek_certificates": [][]byte{w.maker.Certificate(w.t, chip, nil)}, "ek_public": chip.EKPublic(), "ak_public": chip.AKPublic()}))
	secret, err := chip.Activate(unbase64(w.t, asked.str("credential_blob")), unbase64(w.t, asked.str("secret")))
	w.must(err)
	w.secrets = append(w.secrets, base64.StdEncoding.EncodeToString(secret), asked.str("enrolment"))
	got := w.ok(w.post(w.url+"/v1/enrol/activate", object{"enrolment": asked.str("enrolment"), "secret": secret}))
	if got.str("host") != w.b.HostID(name) || got.str("level") != "ek-cert" || got.str("ueid") != hex.EncodeToString(chip.UEID()) {
		w.t.Fatalf("enrolled as %s", got.raw)
	}
	return testbundle.NewHost(w.t, chip)
}

func unbase64(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
