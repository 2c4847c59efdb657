// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// agent answers each request on a socket with what answer says.
func agent(t *testing.T, greeting string, answer func(*local.Request) string) *local.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, greeting)
				line, err := bufio.NewReader(conn).ReadBytes('\n')
				if err != nil {
					return
				}
				r, err := local.ParseRequest(line)
				if err != nil {
					t.Errorf("the client sent %q: %v", line, err)
					return
				}
				io.WriteString(conn, answer(r))
			}()
		}
	}()
	return &local.Client{Socket: path}
}

const hello = "{\"jurat\":1}\n"

func TestClient(t *testing.T) {
	c := agent(t, hello, func(r *local.Request) string {
		switch r.Op {
		case local.OpCredential:
			if r.Delegation != "d" || len(r.Actions) != 1 || !r.Bearer {
				t.Errorf("%+v", r)
			}
			return `{"token":"t","token_type":"Bearer","expires_at":5,"txn":"x","audience":"a"}` + "\n"
		case local.OpProof:
			return `{"authorization":"DPoP t","dpop":"p","expires_at":5}` + "\n"
		case local.OpStatus:
			return `{"epoch":7,"some_day":"more"}` + "\n"
		default:
			return `{"bundle":"AAEC"}` + "\n"
		}
	})
	if got, err := c.Credential(t.Context(), local.CredentialRequest{Delegation: "d", Actions: []string{"a"}, Bearer: true}); err != nil || got.Token != "t" || got.Audience != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Proof(t.Context(), "d", "GET", "https://a", ""); err != nil || got.DPoP != "p" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Status(t.Context()); err != nil || got.Epoch != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Bundle(t.Context()); err != nil || string(got) != "\x00\x01\x02" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.Credential(t.Context(), local.CredentialRequest{Delegation: "d", Actions: []string{"b", "a"}}); !errors.As(err, new(*local.Error)) {
		t.Errorf("a request that the agent would refuse: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	said := `{"error":{"code":"E_BUSY","message":"m","failed":[{"attestor":"code","check":"exe"}],"txn":"t","retry":"later"}}` + "\n"
	for name, c := range map[string]*local.Client{
		"answered": agent(t, hello, func(*local.Request) string { return said }),
		"greeted":  agent(t, said, nil),
	} {
		_, err := c.Status(t.Context())
		if e, ok := errors.AsType[*local.Error](err); !ok || e.Code != local.CodeBusy || e.Txn != "t" || len(e.Failed) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]*local.Client{
		"nobody":           {Socket: filepath.Join(t.TempDir(), "none")},
		"another protocol": agent(t, "220 smtp\n", nil),
		"another version":  agent(t, "{\"jurat\":2}\n", nil),
		"endless greeting": agent(t, strings.Repeat("x", 10000), nil),
		"nothing":          agent(t, hello, func(*local.Request) string { return "" }),
		"half an answer":   agent(t, hello, func(*local.Request) string { return `{"epoch":` }),
		"no JSON":          agent(t, hello, func(*local.Request) string { return "ok\n" }),
		"other types":      agent(t, hello, func(*local.Request) string { return `{"epoch":"seven"}` + "\n" }),
		"endless answer":   agent(t, hello, func(*local.Request) string { return strings.Repeat(" ", local.MaxAnswer+10) }),
	} {
		_, err := c.Status(t.Context())
		if e, ok := errors.AsType[*local.Unavailable](err); !ok || !strings.Contains(err.Error(), e.Socket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := (&local.Client{Socket: filepath.Join(t.TempDir(), "none")}).Status(t.Context())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	slow := agent(t, hello, func(*local.Request) string { time.Sleep(5 * time.Second); return "{}\n" })
	begin := time.Now()
	if _, err := slow.Status(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 3*time.Second {
		t.Errorf("slow: %v after %v", err, time.Since(begin))
	}
}

// service shows what headers it is sent; some of its paths answer otherwise.
func service(t *testing.T) (here, other *httptest.Server) {
	other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			http.Redirect(w, r, "/and-on", http.StatusFound)
			return
		}
		fmt.Fprintf(w, "%s|%s", r.Header.Get("Authorization"), r.Header.Get("DPoP"))
	}))
	t.Cleanup(other.Close)
	demand := func(w http.ResponseWriter, code string) {
		w.Header().Set("DPoP-Nonce", "fresh")
		w.Header().Set("WWW-Authenticate", `DPoP error="`+code+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	here = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/nonce" && !strings.HasSuffix(r.Header.Get("DPoP"), " fresh"):
			demand(w, "use_dpop_nonce")
		case r.URL.Path == "/denied":
			demand(w, "invalid_token")
		case r.URL.Path == "/redirect":
			http.Redirect(w, r, "/here", http.StatusFound)
		case r.URL.Path == "/away":
			http.Redirect(w, r, other.URL+"/there", http.StatusFound)
		default:
			fmt.Fprintf(w, "%s|%s|%s", r.Header.Get("Authorization"), r.Header.Get("DPoP"), body)
		}
	}))
	t.Cleanup(here.Close)
	return here, other
}

func TestTransport(t *testing.T) {
	var proofs atomic.Int32
	c := agent(t, hello, func(r *local.Request) string {
		n := proofs.Add(1)
		answer, err := json.Marshal(local.Proof{Authorization: "DPoP t", DPoP: fmt.Sprintf("%d %s %s %s %s", n, r.Delegation, r.Method, r.URL, r.Nonce)})
		if err != nil {
			t.Error(err)
		}
		return string(answer) + "\n"
	})
	server, _ := service(t)
	client := http.Client{Transport: &local.Transport{Client: *c, Delegation: "dlg"}}
	for _, c := range []struct {
		method, path, body, want string
		proofs                   int32
	}{
		{"POST", "/x?q=1", "body", "DPoP t|1 dlg POST " + server.URL + "/x?q=1|body", 1},
		{"POST", "/nonce", "body", "DPoP t|2 dlg POST " + server.URL + "/nonce fresh|body", 2},
		{"GET", "/denied", "", "", 1},
		{"GET", "/redirect", "", "DPoP t|2 dlg GET " + server.URL + "/here|", 2},
		{"GET", "/away", "", "|", 1}, // another origin gets nothing
	} {
		proofs.Store(0)
		req, err := http.NewRequest(c.method, server.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != c.want || proofs.Load() != c.proofs {
			t.Errorf("%s: %q with %d proofs, %v; want %q with %d", c.path, got, proofs.Load(), err, c.want, c.proofs)
		}
		if req.Header.Get("Authorization") != "" || req.Header.Get("DPoP") != "" {
			t.Error("the caller's request was changed")
		}
	}
	c.Socket = filepath.Join(t.TempDir(), "none")
	client.Transport = &local.Transport{Client: *c, Delegation: "dlg"}
	if _, err := client.Get(server.URL); !errors.As(err, new(*local.Unavailable)) {
		t.Errorf("without juratd: %v", err)
	}
}

// A workload needs no more than this to act under a delegation.
func ExampleTransport() {
	client := http.Client{Transport: &local.Transport{
		Client: local.Client{Socket: "/nowhere/agent.sock"}, Delegation: "dlg_0123456789abcdefghjkmnpqrs",
	}}
	_, err := client.Get("https://payments.example/invoices")
	fmt.Println(errors.As(err, new(*local.Unavailable)))
	// Output: true
}
