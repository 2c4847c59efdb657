// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
)

// approver is a person with an ssh key in a file.
type approver struct {
	private ed25519.PrivateKey
	key     delegation.Key
	file    string
}

func newApprover(t *testing.T, w *world, name, passphrase string) *approver {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	p := &approver{private: private, file: w.path(name)}
	if p.key, err = delegation.ParseKeyBlob(sshPub.Marshal()); err != nil {
		t.Fatal(err)
	}
	write(t, p.file, pem.EncodeToMemory(block))
	write(t, p.file+".pub", []byte(p.key.String()+"\n"))
	return p
}

// signing is a broker that takes signed answers about one delegation, and
// verifies them as the real one does.
type signing struct {
	mu    sync.Mutex // guards what follows
	given []delegation.Given
	state string
}

func newSigning(t *testing.T, w *world, people ...*approver) *signing {
	s := &signing{state: "requested"}
	o, enc := sampleDelegation(t, w.public.URL)
	keys := []delegation.Registered{}
	for _, p := range people {
		keys = append(keys, delegation.Registered{Key: p.key})
	}
	registered := []delegation.Approver{{Person: o.Approver, Keys: keys}}
	w.mux.HandleFunc("GET /v1/delegations/{id}", func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		io.WriteString(rw, delegationAnswer(t, w.public.URL, s.state))
	})
	for path, act := range map[string]delegation.Act{"approve": delegation.Approval, "refuse": delegation.Refusal, "revoke": delegation.Revocation} {
		w.mux.HandleFunc("POST /v1/delegations/"+o.ID+"/"+path, func(rw http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			var in struct {
				Signature string `json:"signature"`
				Statement []byte `json:"statement"`
			}
			err := json.NewDecoder(r.Body).Decode(&in)
			sig, err2 := delegation.ParseArmored([]byte(in.Signature))
			rw.Header().Set("Content-Type", "application/json")
			if err == nil && err2 == nil {
				var g delegation.Given
				g, err = delegation.VerifyAnswer(enc, delegation.Answer{Act: act, Method: delegation.MethodSSH, Person: o.Approver, At: uint64(noon.Unix()),
					Statement: evidence.Bytes(in.Statement), Signature: sig.Blob()}, registered)
				if err == nil {
					s.given, s.state = append(s.given, g), string(act)+" taken"
					io.WriteString(rw, delegationAnswer(t, w.public.URL, s.state))
					return
				}
			}
			rw.WriteHeader(http.StatusForbidden)
			json.NewEncoder(rw).Encode(map[string]string{"error": "access_denied", "error_description": fmt.Sprint(err, err2), "retry": "never"})
		})
	}
	return s
}

const sampleID = "dlg_04hmasr9nf6yy1234567890abc"

func TestAnswer(t *testing.T) {
	for use, act := range map[string]delegation.Act{"approve": delegation.Approval, "refuse": delegation.Refusal, "revoke": delegation.Revocation} {
		t.Run(use, func(t *testing.T) {
			w := newWorld(t)
			alice := newApprover(t, w, "alice", "")
			s := newSigning(t, w, alice)
			code, out, errs := w.run("--broker", w.public.URL, "delegation", use, sampleID, "--key", alice.file, "--yes")
			if code != 0 || !strings.Contains(out, `purpose      "Close October invoices"`) || !strings.Contains(out, "it is now "+string(act)+" taken") {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			if len(s.given) != 1 || s.given[0].Act != act {
				t.Errorf("the broker took %+v", s.given)
			}
		})
	}
}

func TestAnswerJSON(t *testing.T) {
	w := newWorld(t)
	alice := newApprover(t, w, "alice", "")
	newSigning(t, w, alice)
	w.env["JURAT_BROKER"] = w.public.URL
	code, out, errs := w.run("--json", "delegation", "approve", sampleID, "--key", alice.file, "--yes")
	checkJSON(t, out, code)
	var a answerJSON
	if err := json.Unmarshal([]byte(out), &a); err != nil || a.Act != "approval" || a.Key != alice.key.Fingerprint() || a.Delegation != sampleID {
		t.Errorf("exit %d, %s (%v)", code, out, err)
	}
	if !strings.Contains(errs, "Close October invoices") {
		t.Errorf("what was signed was not shown: %s", errs)
	}
}

func TestAnswerWithAgent(t *testing.T) {
	w := newWorld(t)
	alice := newApprover(t, w, "alice", "")
	s := newSigning(t, w, alice)
	l, err := net.Listen("unix", w.path("ssh-agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: alice.private}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { agent.ServeAgent(ring, c); c.Close() }()
		}
	}()
	if err := os.Remove(alice.file); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_AUTH_SOCK", w.path("ssh-agent"))
	code, out, errs := w.run("--broker", w.public.URL, "delegation", "approve", sampleID, "--key", alice.file+".pub", "--yes")
	if code != 0 || len(s.given) != 1 {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestAnswerRefused(t *testing.T) {
	w := newWorld(t)
	alice, mallory := newApprover(t, w, "alice", ""), newApprover(t, w, "mallory", "")
	s := newSigning(t, w, alice)
	for name, row := range map[string]struct {
		args []string
		code int
		says string
	}{
		"another's key":   {[]string{"delegation", "approve", sampleID, "--key", mallory.file, "--yes"}, 1, "is not registered for them"},
		"no key":          {[]string{"delegation", "approve", sampleID, "--key", w.path("nokey"), "--yes"}, 3, "ssh-keygen"},
		"no key given":    {[]string{"delegation", "approve", sampleID, "--yes"}, 2, "--key FILE is missing"},
		"no id":           {[]string{"delegation", "approve", "--key", alice.file, "--yes"}, 2, "ID is missing"},
		"nobody to ask":   {[]string{"delegation", "revoke", sampleID, "--key", alice.file}, 2, "no terminal"},
		"another id":      {[]string{"delegation", "approve", "dlg_other", "--key", alice.file, "--yes"}, 3, "asked for"},
		"no broker":       {[]string{"--broker", "", "delegation", "approve", sampleID, "--key", alice.file, "--yes"}, 2, "which broker"},
		"plain http":      {[]string{"--broker", "http://broker.example", "delegation", "approve", sampleID, "--key", alice.file, "--yes"}, 2, "loopback"},
		"broker away":     {[]string{"--broker", "http://127.0.0.1:1", "delegation", "approve", sampleID, "--key", alice.file, "--yes"}, 3, "unreachable"},
		"unknown command": {[]string{"delegation", "sign", sampleID}, 2, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := w.run(append([]string{"--broker", w.public.URL}, row.args...)...)
			if code != row.code || !strings.Contains(errs, row.says) {
				t.Errorf("exit %d, want %d: %s%s", code, row.code, out, errs)
			}
		})
	}
	if len(s.given) != 0 {
		t.Errorf("the broker took %+v", s.given)
	}
}

// TestAnswerAlteredObject: what the broker shows must be what is signed.
func TestAnswerAlteredObject(t *testing.T) {
	w := newWorld(t)
	alice := newApprover(t, w, "alice", "")
	o, enc := sampleDelegation(t, w.public.URL)
	altered := strings.Replace(string(enc), "Close October", "Empty October", 1)
	for name, row := range map[string]struct {
		object []byte
		d      string
	}{
		"object altered":        {[]byte(altered), delegation.Text(delegation.Digest(enc))},
		"object and d altered":  {[]byte(altered + "x"), delegation.Text(delegation.Digest([]byte(altered + "x")))},
		"for another broker":    {nil, ""},
		"object is no encoding": {enc[:len(enc)-1], delegation.Text(delegation.Digest(enc))},
	} {
		t.Run(name, func(t *testing.T) {
			w.mux = http.NewServeMux()
			w.public.Config.Handler = w.mux
			if row.object == nil {
				_, row.object = sampleDelegation(t, "https://other.example")
				row.d = delegation.Text(delegation.Digest(row.object))
			}
			body, err := json.Marshal(map[string]any{"id": o.ID, "d": row.d, "object": row.object, "state": "requested", "uses_left": 1})
			if err != nil {
				t.Fatal(err)
			}
			reply(w.mux, "GET /v1/delegations/{id}", 200, string(body))
			w.mux.HandleFunc("POST /", func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
			code, out, errs := w.run("--broker", w.public.URL, "delegation", "approve", sampleID, "--key", alice.file, "--yes")
			if code != 3 || !strings.Contains(errs, "malformed answer of the broker") {
				t.Errorf("exit %d: %s%s", code, out, errs)
			}
		})
	}
}

// answer signs about the sample delegation, and says it as a broker does.
func (p *approver) answer(t *testing.T, act delegation.Act) map[string]any {
	t.Helper()
	o, enc := sampleDelegation(t, "https://broker.example")
	message, statement := enc, []byte{}
	signer, err := ssh.NewSignerFromKey(p.private)
	if err == nil && act != delegation.Approval {
		message, err = delegation.NewStatement(act, delegation.Digest(enc), uint64(noon.Unix()))
		statement = message
	}
	if err != nil {
		t.Fatal(err)
	}
	sig, err := delegation.Sign(rand.Reader, signer, act, message)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"act": act, "person": o.Approver.Subject, "key": p.key.Fingerprint(), "at": "2026-11-23T11:59:30Z",
		"signature": sig.Blob(), "statement": statement}
}

func TestVerifyOffline(t *testing.T) {
	w := newWorld(t)
	alice, mallory := newApprover(t, w, "alice", ""), newApprover(t, w, "mallory", "")
	answer := func(p *approver, act delegation.Act) map[string]any { return p.answer(t, act) }
	write(t, w.path("signers"), []byte("alice@example.test "+alice.key.String()+"\n"))
	for name, row := range map[string]struct {
		answers []map[string]any
		args    []string
		code    int
		says    string
	}{
		"approved":         {[]map[string]any{answer(alice, delegation.Approval)}, nil, 0, "APPROVED at 2026-11-23T12:00:00Z"},
		"nobody yet":       {nil, nil, 1, "REQUESTED"},
		"revoked":          {[]map[string]any{answer(alice, delegation.Approval), answer(alice, delegation.Revocation)}, nil, 1, "REVOKED"},
		"refused":          {[]map[string]any{answer(alice, delegation.Refusal)}, nil, 1, "REFUSED"},
		"later":            {[]map[string]any{answer(alice, delegation.Approval)}, []string{"--at", "2026-11-23T14:00:00Z"}, 1, "EXPIRED"},
		"no time":          {nil, []string{"--at", "tomorrow"}, 2, "want a time such as"},
		"another's key":    {[]map[string]any{answer(mallory, delegation.Approval)}, nil, 1, "believe none of it"},
		"another's people": {[]map[string]any{answer(alice, delegation.Approval)}, []string{"--issuer", "https://other.example"}, 1, "is not registered"},
	} {
		t.Run(name, func(t *testing.T) {
			w.admin = http.NewServeMux()
			w := newWorld(t)
			w.answers("GET /v1/delegations/{id}", delegationAnswer(t, "https://broker.example", "approved", row.answers...))
			file := w.path("x.delegation")
			if code, _, errs := w.run(w.sockets("delegation", "export", sampleID, "-o", file)...); code != 0 {
				t.Fatalf("export: exit %d: %s", code, errs)
			}
			args := append([]string{"delegation", "verify", file, "--approvers", strings.TrimSuffix(alice.file, "alice") + "signers"}, row.args...)
			code, out, errs := w.run(args...)
			if code != row.code || !strings.Contains(out+errs, row.says) {
				t.Errorf("exit %d, want %d:\n%s%s", code, row.code, out, errs)
			}
			if code, out, _ = w.run(append(args, "--json")...); code != row.code || !strings.Contains(out, `"schema"`) {
				t.Errorf("--json: exit %d\n%s", code, out)
			}
		})
	}
	write(t, w.path("junk"), []byte("junk"))
	if code, _, errs := w.run("delegation", "verify", w.path("junk"), "--approvers", w.path("signers")); code != 1 || !strings.Contains(errs, "malformed") {
		t.Errorf("junk: exit %d: %s", code, errs)
	}
}

// TestOddSigner: what ssh-keygen printed is checked before it is sent.
func TestOddSigner(t *testing.T) {
	w := newWorld(t)
	alice := newApprover(t, w, "alice", "")
	s := newSigning(t, w, alice)
	signer, err := ssh.NewSignerFromKey(alice.private)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := delegation.Sign(rand.Reader, signer, delegation.Approval, []byte("something else"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.path("signature"), sig.Armored())
	if err := os.Mkdir(w.path("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n/bin/cat > /dev/null\n/bin/cat " + w.path("signature") + "\n"
	if err := os.WriteFile(w.path("bin/ssh-keygen"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", w.path("bin"))
	sent := false
	w.public.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		sent = sent || r.Method == http.MethodPost
		w.mux.ServeHTTP(rw, r)
	})
	code, _, errs := w.run("--broker", w.public.URL, "delegation", "approve", sampleID, "--key", alice.file, "--yes")
	if code == 0 || sent || len(s.given) != 0 || !strings.Contains(errs, "does not fit what was signed") {
		t.Errorf("exit %d, sent %v: %s", code, sent, errs)
	}
}

// TestShowBelievesTheObject: what the broker says beside it does not count.
func TestShowBelievesTheObject(t *testing.T) {
	good := delegationAnswer(t, "https://broker.example", "approved")
	for name, bend := range map[string]func(string) string{
		"another d":     func(s string) string { return strings.Replace(s, `"d":"M`, `"d":"N`, 1) },
		"another id":    func(s string) string { return strings.Replace(s, sampleID+`","later`, `dlg_other","later`, 1) },
		"broken object": func(s string) string { return strings.Replace(s, `"object":"k`, `"object":"A`, 1) },
	} {
		w := newWorld(t)
		bent := bend(good)
		if bent == good {
			t.Fatalf("%s: nothing was bent", name)
		}
		w.answers("GET /v1/delegations/{id}", bent)
		w.answers("GET /v1/delegations", `{"delegations":[`+bent+`]}`)
		for _, args := range [][]string{{"delegation", "show", sampleID}, {"delegation", "list"}} {
			if code, _, errs := w.run(w.sockets(args...)...); code != 3 || !strings.Contains(errs, "malformed answer") {
				t.Errorf("%s, %v: exit %d: %s", name, args, code, errs)
			}
		}
	}
	w := newWorld(t)
	w.answers("GET /v1/delegations/{id}", good)
	if code, _, errs := w.run(w.sockets("delegation", "show", "dlg_other")...); code != 3 || !strings.Contains(errs, "asked for") {
		t.Errorf("another than asked for: exit %d: %s", code, errs)
	}
	if code, out, _ := w.run(w.sockets("delegation", "show", sampleID, "--save", w.path("D"))...); code != 0 || !strings.Contains(out, "October") {
		t.Errorf("--save: exit %d", code)
	}
	_, enc := sampleDelegation(t, "https://broker.example")
	if saved, err := os.ReadFile(w.path("D")); err != nil || string(saved) != string(enc) {
		t.Errorf("saved %d bytes, want %d (%v)", len(saved), len(enc), err)
	}
}
