// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"

	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// double stands in for jurat-broker over HTTP. It verifies what it is sent
// with package verify, where it knows the attestation key, and remembers the
// host's state as a broker does. It appraises nothing: every true request gets
// a token bound to the key that was quoted.
type double struct {
	t      testing.TB
	server *httptest.Server
	url    string
	origin string
	signer note.Signer
	logKey string

	mu        sync.Mutex // guards what follows
	host      verify.Host
	nonces    map[string]time.Time
	refs      map[string]evidence.Request
	bundles   []*evidence.Bundle // that were true
	partial   []*evidence.Bundle // that brought a part of the IMA list
	codes     []string           // of refusals
	expect    []string           // codes that are no failure of the test
	policy    verify.Policy
	sizes     []int
	exchanges int
	hashes    []evidence.Hash
	leaves    []evidence.Hash
	task      *delegation.Delegation
	taskBytes []byte

	// interfere, if set, may answer a request itself; it reports whether it did.
	interfere func(w http.ResponseWriter, r *http.Request) bool
	lifetime  int // of tokens, in seconds
}

func newDouble(t testing.TB) *double {
	d := &double{t: t, nonces: make(map[string]time.Time), refs: make(map[string]evidence.Request), origin: "jurat.dev/log/double", lifetime: 300, policy: policy()}
	private, public, err := note.GenerateKey(rand.Reader, d.origin)
	if err != nil {
		t.Fatal(err)
	}
	if d.signer, err = note.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	d.logKey = public
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, map[string]any{"issuer": d.url, "jurat_log_origin": d.origin})
	})
	mux.HandleFunc("POST /oauth/challenge", d.challenge)
	mux.HandleFunc("POST /v1/evidence", d.evidence)
	mux.HandleFunc("POST /oauth/token", d.token)
	mux.HandleFunc("GET /v1/delegations/{name}", d.delegation)
	d.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		interfere := d.interfere
		d.mu.Unlock()
		if interfere != nil && interfere(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(d.server.Close)
	d.url = d.server.URL
	id, err := delegation.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d.task, d.taskBytes, err = delegation.New(delegation.Delegation{
		ID: id, Broker: d.url, Requester: "spiffe://example.test/user/ops",
		Workload: delegation.Workload{ID: "spiffe://example.test/agents/invoice", Levels: delegation.Lowest()},
		Approver: delegation.Person{Issuer: d.url, Subject: "alice@example.test"}, Purpose: "Close the books",
		Actions: []string{"invoice.read", "invoice.write"}, Audience: "https://payments.example",
		Limits: delegation.Limits{Per: delegation.PerCredential}, NotBefore: 1, Expires: 4000000000, Uses: 5, FourEyes: 1,
		RequestedAt: 1, Nonce: []byte("0123456789abcdef"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *double) set(interfere func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interfere = interfere
}

// count returns how many bundles were true.
func (d *double) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.bundles)
}

// down answers every request as a proxy without a broker behind it does.
func down(w http.ResponseWriter, _ *http.Request) bool {
	http.Error(w, "no upstream", http.StatusBadGateway)
	return true
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code, retry string, err error) {
	say(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "code": code, "retry": retry, "error_description": err.Error(), "txn": "t-refused"})
}

func (d *double) challenge(w http.ResponseWriter, r *http.Request) {
	nonce := make([]byte, 56)
	rand.Read(nonce)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nonces[string(nonce)] = time.Now().Add(30 * time.Second)
	have := map[string]any{"log_size": 0, "ima_count": d.host.IMA.Position().Count}
	if d.host.Last != nil {
		have["log_size"] = d.host.Last.Size
		if d.host.Last.Register != nil {
			have["register_size"] = d.host.Last.Register.Size
		}
		if !d.host.Last.BootLog.IsZero() {
			have["boot_log"] = d.host.Last.BootLog.String()
		}
	}
	say(w, 200, map[string]any{"attestation_challenge": base64.RawURLEncoding.EncodeToString(nonce), "expires_in": 30, "have": have})
}

func (d *double) evidence(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	b, err := evidence.Parse(raw)
	if err != nil {
		d.t.Errorf("the agent sent a malformed bundle: %v", err)
		refuse(w, "E_FORMAT", "never", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	expires, known := d.nonces[string(b.Nonce)]
	delete(d.nonces, string(b.Nonce))
	if !known {
		refuse(w, "E_NONCE", "now", fmt.Errorf("unknown or used challenge"))
		return
	}
	if d.host.AKPublic != nil {
		result, err := verify.Bundle(b, d.host, verify.Challenge{Broker: d.url, Nonce: b.Nonce, Expires: expires}, d.policy, time.Now())
		if rejection, is := errors.AsType[*verify.Rejection](err); is {
			d.refused(w, b, rejection)
			return
		}
		next := result.Next()
		d.host.Last, d.host.Boot = &next, result.Boot()
		if update, any := result.IMA(); any {
			d.host.IMA = d.host.IMA.Advanced(update)
		}
	} else {
		d.host.Last = &verify.State{Size: b.Checkpoint.Size}
	}
	d.bundles, d.sizes = append(d.bundles, b), append(d.sizes, len(raw))
	var requests []map[string]any
	for _, l := range b.Requests {
		ref := fmt.Sprintf("ref-%d-%d", len(d.bundles), l.Index)
		d.refs[ref] = *l.Value
		requests = append(requests, map[string]any{"index": l.Index, "txn": "t-" + ref, "evidence_ref": ref, "verdict": "affirming", "failed": []any{}})
	}
	say(w, 200, map[string]any{"expires_in": 30, "txn": "t-bundle", "verdict": "affirming", "requests": requests})
}

// refused answers a bundle that is not true. Only what a test expects may be
// refused; progress is not a refusal.
func (d *double) refused(w http.ResponseWriter, b *evidence.Bundle, rejection *verify.Rejection) {
	code := string(rejection.Code)
	if update, more := rejection.Progress(); more {
		d.host.IMA = d.host.IMA.Advanced(update)
		d.partial = append(d.partial, b)
		refuse(w, code, "now", rejection)
		return
	}
	d.codes = append(d.codes, code)
	if !slices.Contains(d.expect, code) {
		d.t.Errorf("the agent sent evidence that is not true: %v", rejection)
	}
	refuse(w, code, "never", rejection)
}

// policy is the broker's own. A software TPM's clock is not safe at first.
func policy() verify.Policy {
	p := verify.DefaultPolicy()
	p.UnsafeClockGrace = time.Hour
	return p
}

func (d *double) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ask, ok := d.refs[r.PostForm.Get("actor_token")]
	delete(d.refs, r.PostForm.Get("actor_token"))
	if !ok {
		refuse(w, "", "now", fmt.Errorf("unknown or used evidence reference"))
		return
	}
	if got := r.PostForm.Get("subject_token"); got != delegation.Text(ask.D) || r.PostForm.Get("audience") != ask.Audience {
		d.t.Errorf("exchange for %s at %s, quoted is %s at %s", got, r.PostForm.Get("audience"), delegation.Text(ask.D), ask.Audience)
	}
	kind := "Bearer"
	if ask.Confirm.Method == evidence.ConfirmJKT {
		kind = "DPoP"
		thumbprint, claims, err := readProof(r.Header.Get("DPoP"))
		if err != nil || !bytes.Equal(thumbprint, ask.Confirm.Thumbprint) || claims["htu"] != d.url+"/oauth/token" || claims["nonce"] == "" {
			d.t.Errorf("proof by %x with %v, %v; quoted is %s", thumbprint, claims, err, ask.Confirm.Thumbprint)
		}
	}
	d.exchanges++
	access, receipt := d.issue(&ask)
	say(w, 200, map[string]any{
		"access_token": access, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": kind,
		"expires_in": d.lifetime, "txn": fmt.Sprintf("t-%d", d.exchanges), "receipt": receipt,
	})
}

// issue logs the decision and returns a token with its receipt.
func (d *double) issue(ask *evidence.Request) (access, receipt string) {
	tree := evidence.NewTree(func(indexes []int64) ([]evidence.Hash, error) {
		out := make([]evidence.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = d.hashes[at]
		}
		return out, nil
	})
	index := uint64(len(d.leaves))
	leaf := evidence.LeafHash(fmt.Appendf(nil, "decision %d", index))
	h, err := tree.StoredHashes(index, leaf)
	if err != nil {
		d.t.Error(err)
	}
	d.leaves, d.hashes = append(d.leaves, leaf), append(d.hashes, h...)
	root, err := tree.Root(index + 1)
	if err != nil {
		d.t.Error(err)
	}
	proof, err := tree.Inclusion(index+1, index)
	if err != nil {
		d.t.Error(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", d.origin, index+1, base64.StdEncoding.EncodeToString(root[:]))}, d.signer)
	if err != nil {
		d.t.Error(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, h := range proof {
		fmt.Fprintln(&b, base64.StdEncoding.EncodeToString(h[:]))
	}
	fmt.Fprintf(&b, "\n%s", signed)
	claims, err := json.Marshal(map[string]any{
		"cnf": map[string]any{"jkt": base64.RawURLEncoding.EncodeToString(ask.Confirm.Thumbprint)},
		"act": map[string]any{"instance": ask.Subject.Instance.String()},
		"log": map[string]any{"origin": d.origin, "index": index, "leaf": "sha-256:" + leaf.String()},
	})
	if err != nil {
		d.t.Error(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln", b.String()
}

func (d *double) delegation(w http.ResponseWriter, r *http.Request) {
	text := delegation.Text(delegation.Digest(d.taskBytes))
	if name := r.PathValue("name"); name != d.task.ID && name != text {
		say(w, 404, map[string]any{"error": "not_found", "retry": "never"})
		return
	}
	say(w, 200, map[string]any{"id": d.task.ID, "d": text, "object": d.taskBytes, "state": "approved", "uses_left": 5})
}

// readProof returns the thumbprint of the key that made a DPoP proof, and its
// claims.
func readProof(text string) ([]byte, map[string]any, error) {
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, nil, err
	}
	key := jws.Signatures[0].Protected.JSONWebKey
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, nil, err
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, nil, err
	}
	claims := make(map[string]any)
	return thumbprint, claims, json.Unmarshal(payload, &claims)
}

// confirmed returns the key that a token of the double is bound to.
func confirmed(t testing.TB, token string) string {
	t.Helper()
	var claims struct {
		Confirm struct {
			JKT string `json:"jkt"`
		} `json:"cnf"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Confirm.JKT
}
