// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/internal/testbundle"
	"github.com/jurat-dev/jurat/broker/keys"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/postgres"
	"github.com/jurat-dev/jurat/delegation"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

// member is one jurat-broker process.
type member struct {
	dir, address string
	process      *exec.Cmd
	ended        chan error
	said         *buffer
	serves       atomic.Bool
}

func (m *member) admin() string { return filepath.Join(m.dir, "admin.sock") }

// cluster is several jurat-broker processes on one PostgreSQL, behind a balancer
// that asks each in turn. The world's URL is the balancer's.
type cluster struct {
	*world
	db      *postgrestest.Server
	store   string
	program string
	roots   string
	members []*member
	next    atomic.Uint64
}

func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{world: &world{t: t, clock: &clock{t: time.Now()}, b: &Broker{Config: Config{TrustDomain: "example.test"}}}, db: postgrestest.Start(t)}
	c.store = c.db.Schema(t, "brokers")
	dir := t.TempDir()
	c.program, c.roots = filepath.Join(dir, "jurat-broker"), filepath.Join(dir, "roots.pem")
	if out, err := exec.Command("go", "build", "-o", c.program, "../cmd/jurat-broker").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	c.maker = testbundle.NewMaker(t, c.clock.now())
	c.must(os.WriteFile(c.roots, append(pemOf(c.maker.Root.Raw), pemOf(c.maker.Intermediate.Raw)...), 0o600))
	balancer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: c.direct, Transport: &http.Transport{MaxIdleConnsPerHost: 128}, ErrorLog: log.New(io.Discard, "", 0)})
	t.Cleanup(balancer.Close)
	c.url = balancer.URL
	admin := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "admin" }, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.members[0].admin())
		}}})
	t.Cleanup(admin.Close)
	c.operator = admin.URL
	for i := range n {
		c.members = append(c.members, c.join(filepath.Join(dir, fmt.Sprint(i))))
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	c.must(err)
	c.alice, err = ssh.NewSignerFromKey(private)
	c.must(err)
	c.key = newKey(t)
	return c
}

func (c *cluster) direct(r *httputil.ProxyRequest) {
	var m *member
	for range c.members { // a balancer notices who is away, a little late
		if m = c.members[c.next.Add(1)%uint64(len(c.members))]; m.serves.Load() {
			break
		}
	}
	r.Out.URL.Scheme, r.Out.URL.Host = "http", m.address
}

// join starts a broker with the keys of the first.
func (c *cluster) join(dir string) *member {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	c.must(l.Close())
	m := &member{dir: dir, address: l.Addr().String()}
	c.must(os.MkdirAll(filepath.Join(dir, "data"), 0o700))
	if len(c.members) > 0 {
		for _, name := range []string{keys.TokenFile, keys.LogFile, keys.ChallengeFile, keys.PairwiseFile} {
			key, err := os.ReadFile(filepath.Join(c.members[0].dir, "data", name))
			c.must(err)
			c.must(os.WriteFile(filepath.Join(dir, "data", name), key, 0o600))
		}
	}
	c.must(c.start(m))
	c.t.Cleanup(func() { m.kill() })
	return m
}

// start runs a broker and waits until it serves; it may end before that.
func (c *cluster) start(m *member) error {
	m.said = &buffer{}
	m.process = exec.Command(c.program, "-issuer", c.url, "-listen", m.address, "-data", filepath.Join(m.dir, "data"), "-admin-socket", m.admin(),
		"-ek-bundle", "none", "-ek-roots", c.roots, "-trust-domain", "example.test", "-store", c.store)
	m.process.Stderr = m.said
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.process.Start(); err != nil {
		return err
	}
	m.ended = make(chan error, 1)
	go func(p *exec.Cmd, ended chan error) { ended <- p.Wait() }(m.process, m.ended)
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(m.said.String(), "msg=serving"); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("did not start: %v: %s", err, m.said)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("does not start: %s", m.said)
		}
	}
	m.serves.Store(true)
	return nil
}

func (m *member) kill() {
	_ = m.process.Process.Kill()
	m.ended <- <-m.ended
	m.serves.Store(false)
}

// stop ends a broker as an operator does.
func (m *member) stop() error {
	if err := m.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-m.ended
	m.ended <- err
	return err
}

// inspect stops all brokers and goes through what they left.
func (c *cluster) inspect(fn func(r *store.Reader) error) {
	c.t.Helper()
	for i, m := range c.members {
		if err := m.stop(); err != nil {
			c.t.Errorf("broker %d ended with %v: %s", i, err, m.said)
		}
		if strings.Contains(m.said.String(), c.db.Password()) {
			c.t.Errorf("broker %d logs the database's password", i)
		}
	}
	k, err := keys.Open(filepath.Join(c.members[0].dir, "data"), rand.Reader)
	c.must(err)
	origin, err := audit.Origin(c.url)
	c.must(err)
	signer, err := audit.NewSigner(origin, k.Log)
	c.must(err)
	s, err := postgres.Open(context.Background(), c.store, signer, time.Now())
	c.must(err)
	defer s.Close()
	c.must(s.Check(context.Background()))
	c.must(s.View(context.Background(), fn))
}

// crowd runs n callers at once and counts those that got a yes.
func crowd(n int, do func(i int) bool) int {
	var good atomic.Int64
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			if do(i) {
				good.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	return int(good.Load())
}

// try sends a request whose answer may not come.
func try(target, contentType, body string, header ...string) (answer, error) {
	r, err := http.NewRequest(http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.raw, err = io.ReadAll(resp.Body); err == nil && bytes.HasPrefix(a.raw, []byte("{")) {
		err = json.Unmarshal(a.raw, &a.body)
	}
	return a, err
}

// TestSeveralBrokers: three brokers on one database are one broker. What may
// happen once happens once among them, and each knows at once what another
// revoked.
func TestSeveralBrokers(t *testing.T) {
	c := newCluster(t, 3)
	c.register()
	c.host = c.enrol("h1")
	c.subject = c.host.Measure(t, 4711, nil)
	d := c.approved(nil)
	// Challenge, evidence and exchange are at three brokers, in each order.
	for range 4 {
		c.ok(c.token(d))
	}
	t.Run("replayed evidence", func(t *testing.T) {
		_, nonce, have := c.challenge(c.hostID())
		bundle := string(c.host.Bundle(t, nonce, have, c.wish(d)))
		if n := crowd(30, func(int) bool {
			a, err := try(c.url+"/v1/evidence", evidence.MediaType, bundle)
			return err == nil && a.status == http.StatusOK
		}); n != 1 {
			t.Errorf("one bundle was believed %d times", n)
		}
	})
	t.Run("replayed exchange", func(t *testing.T) {
		nonce, a := c.evidence(c.wish(d))
		if ok, again := c.parallel(100, c.form(d, ref(a, 0)), c.proof(c.key, object{"nonce": nonce})); ok != 1 || again != 99 {
			t.Errorf("%d tokens and %d refusals for the same bytes", ok, again)
		}
	})
	t.Run("one jti", func(t *testing.T) {
		var forms []url.Values
		var proofs []string
		for range 9 {
			nonce, a := c.evidence(c.wish(d))
			forms, proofs = append(forms, c.form(d, ref(a, 0))), append(proofs, c.proof(c.key, object{"nonce": nonce, "jti": "same"}))
		}
		if n := crowd(len(forms), func(i int) bool { ok, _ := c.parallel(1, forms[i], proofs[i]); return ok == 1 }); n != 1 {
			t.Errorf("%d proofs with one jti were taken", n)
		}
	})
	t.Run("last use", func(t *testing.T) { c.lastUse(t) })
	t.Run("revocation", func(t *testing.T) { c.revocation(t) })
	c.inspect(func(r *store.Reader) error {
		row, err := r.Delegation(d["id"].(string))
		if err == nil && row.UsesLeft != 20-uint64(countAllowed(t, r, row.ID)) {
			t.Errorf("%d uses left, but %d tokens in the log", row.UsesLeft, countAllowed(t, r, row.ID))
		}
		return err
	})
}

// lastUse is attack 39 at three brokers.
func (c *cluster) lastUse(t *testing.T) {
	d := c.approved(object{"uses": 1})
	var forms []url.Values
	var proofs []string
	for range 32 {
		nonce, a := c.evidence(c.wish(d))
		forms, proofs = append(forms, c.form(d, ref(a, 0))), append(proofs, c.proof(c.key, object{"nonce": nonce}))
	}
	var refusals atomic.Int64
	if n := crowd(32, func(i int) bool {
		ok, refused := c.parallel(1, forms[i], proofs[i])
		refusals.Add(int64(refused))
		return ok == 1
	}); n != 1 || refusals.Load() != 31 {
		t.Errorf("%d tokens and %d refusals for one use", n, refusals.Load())
	}
	nonce, a := c.evidence(c.wish(d))
	c.refused(c.exchange(c.form(d, ref(a, 0)), c.proof(c.key, object{"nonce": nonce})), 400, oauth.InvalidRequest, "delegation_used_up")
}

// revocation asks every broker about a token, before and after one of them heard
// that its delegation is revoked.
func (c *cluster) revocation(t *testing.T) {
	secret := c.resourceSecret()
	d := c.approved(nil)
	token := c.ok(c.token(d)).str("access_token")
	balancer := c.url
	defer func() { c.url = balancer }()
	ask := func(want bool) {
		t.Helper()
		for i, m := range c.members {
			c.url = "http://" + m.address
			if got := c.ok(c.introspect(secret, token)).body["active"]; got != want {
				t.Errorf("broker %d says active=%v, want %v", i, got, want)
			}
		}
		c.url = balancer
	}
	ask(true)
	c.clock.add(time.Since(c.clock.now()))
	c.ok(c.say(d, delegation.Revocation, c.alice))
	ask(false)
}

// countAllowed counts the tokens of a delegation in the log.
func countAllowed(t testing.TB, r *store.Reader, id string) int {
	t.Helper()
	n := 0
	for from := uint64(0); ; {
		leaves, err := r.Leaves(from, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leaves {
			e, err := audit.ParseEntry(l.Entry)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == audit.TypeDecision && e.Decision == "allow" && e.DelegationID == id {
				n++
			}
		}
		if len(leaves) < 1000 {
			return n
		}
		from += 1000
	}
}
