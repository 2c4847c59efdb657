// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

func TestBrokerDownThenUp(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil { // so that the delegation is known
		t.Fatal(err)
	}
	r.execAgain(2)
	r.double.set(down)
	var asked atomic.Int32
	go func() {
		eventually(t, "the agent to notice", func() bool {
			s, err := r.client().Status(t.Context())
			return err == nil && strings.HasPrefix(s.BrokerState, "unreachable: ")
		})
		r.double.set(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	}()
	if _, err := r.ask(); err != nil {
		t.Errorf("after the broker came back: %v", err)
	}
	s, err := r.client().Status(t.Context())
	if err != nil || s.BrokerState != reachable || asked.Load() == 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	if !r.logged("the broker does not answer") || !r.logged("the broker answers again") {
		t.Error("the log says nothing of it")
	}
}

func TestBrokerDown(t *testing.T) {
	r := newRig(t)
	r.limits.Deadline = time.Second
	r.start().self()
	r.double.server.Close()
	begin := time.Now()
	_, err := r.ask()
	if code(err) != codeUnreachable || !strings.Contains(err.Error(), r.double.url) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("gave up after %v, the deadline is one second", took)
	}
	size := r.agent.log.Size()
	r.sensor.exec(1, 1)
	eventually(t, "the log to go on", func() bool { return r.agent.log.Size() > size })
}

// TestBrokerVanishesBehindTheChallenge: a quote that could not be sent is not
// lost time for ever; the next one carries the same request.
func TestBrokerVanishesBehindTheChallenge(t *testing.T) {
	r := newRig(t).start().self()
	var bundles atomic.Int32
	r.double.set(func(w http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path != "/v1/evidence" || bundles.Add(1) > 1 {
			return false
		}
		// Taken in, used up, and the answer is lost.
		panic(http.ErrAbortHandler)
	})
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	if bundles.Load() < 2 {
		t.Errorf("%d bundles sent", bundles.Load())
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		answer map[string]any
		status int
		code   string
		quotes int
	}{
		"evidence never": {"/v1/evidence", map[string]any{"error": "invalid_request", "code": "E_MAGIC", "retry": "never", "txn": "t9",
			"failed": []any{map[string]any{"attestor": "hardware", "check": "V2"}}}, 400, codeRefused, 1},
		"evidence now":   {"/v1/evidence", map[string]any{"error": "invalid_request", "code": "E_SEQUENCE", "retry": "now", "txn": "t9"}, 400, codeRefused, maxTries},
		"not enrolled":   {"/oauth/challenge", map[string]any{"error": "invalid_client", "retry": "operator", "txn": "t9"}, 401, codeRefused, 0},
		"token":          {"/oauth/token", map[string]any{"error": "invalid_request", "reason": "delegation_expired", "retry": "new-delegation", "txn": "t9"}, 400, codeRefused, 1},
		"other code":     {"/v1/evidence", map[string]any{"requests": []any{}, "expires_in": 30, "verdict": "none", "txn": "t9"}, 200, codeRefused, 1},
		"failed request": {"/v1/evidence", map[string]any{"expires_in": 30, "requests": []any{map[string]any{"index": 0, "txn": "t9", "evidence_ref": "r", "verdict": "contraindicated", "failed": []any{map[string]any{"attestor": "code", "check": "exe-digest"}}}}}, 200, codeRefused, 1},
		"bad answer":     {"/v1/evidence", map[string]any{"requests": "no"}, 200, codeUnreachable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start().self()
			r.double.set(func(w http.ResponseWriter, q *http.Request) bool {
				if q.URL.Path != c.path {
					return false
				}
				say(w, c.status, c.answer)
				return true
			})
			_, err := r.ask()
			said, ok := errors.AsType[*local.Error](err)
			if !ok || said.Code != c.code || r.chip.quotes != c.quotes {
				t.Fatalf("%v after %d quotes, want %s after %d", err, r.chip.quotes, c.code, c.quotes)
			}
			if strings.HasPrefix(name, "evidence never") && (said.Txn != "t9" || len(said.Failed) != 1 || said.Failed[0].Attestor != "hardware" || !strings.Contains(said.Message, "E_MAGIC")) {
				t.Errorf("%+v", said)
			}
			if name == "failed request" && (said.Failed[0].Check != "exe-digest" || said.Txn != "t9" || r.double.exchanges != 0) {
				t.Errorf("%+v", said)
			}
			if name == "token" && !strings.Contains(said.Message, "delegation_expired") {
				t.Errorf("%+v", said)
			}
		})
	}
}

func TestTPMGone(t *testing.T) {
	r := newRig(t).start().self()
	gone := fmt.Errorf("%w: the line is dead", tpm.ErrGone)
	set := func(err error) {
		r.chip.mu.Lock()
		defer r.chip.mu.Unlock()
		r.chip.gone = err
	}
	set(gone)
	if _, err := r.ask(); code(err) != codeTPM || !strings.Contains(err.Error(), "the line is dead") {
		t.Errorf("%v", err)
	}
	set(nil)
	r.duringQuote(func() { r.chip.gone = gone }) // the fake holds the lock
	if _, err := r.ask(); code(err) != codeTPM {
		t.Errorf("gone in the middle of a quote: %v", err)
	}
	if len(r.double.bundles) != 0 {
		t.Error("evidence was sent without a TPM")
	}
	r.duringQuote(nil)
	set(nil)
	if _, err := r.ask(); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	if s, err := r.client().Status(t.Context()); err != nil || s.Epoch != 1 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestAnotherTPM(t *testing.T) {
	r := newRig(t).start().self()
	r.chip.mu.Lock()
	r.chip.gone = tpm.ErrGone
	r.chip.mu.Unlock()
	r.ask() // drops the TPM
	r.chip.mu.Lock()
	r.chip.gone, r.chip.name = nil, append([]byte{0, 11, 9}, make([]byte, 31)...)
	r.chip.mu.Unlock()
	if _, err := r.ask(); code(err) != codeTPM || !strings.Contains(err.Error(), "enrolled") || len(r.double.bundles) != 0 {
		t.Errorf("another TPM: %v", err)
	}
}

// TestLogThatCannotGoOn ends the agent: there is no evidence without a log.
func TestLogThatCannotGoOn(t *testing.T) {
	r := newRig(t).start().self()
	r.mayFail = true
	r.agent.log.Close()
	_, err := r.ask()
	if err == nil {
		t.Fatal("a token without a log")
	}
	if err := r.stop(); err == nil {
		t.Error("the agent went on without a log")
	}
}

// TestBrokerSawMore: a log that is behind what the broker knows is broken.
func TestBrokerSawMore(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	r.execAgain(2)
	r.double.mu.Lock()
	r.double.host.Last.Size = 1 << 40
	r.double.mu.Unlock()
	if _, err := r.ask(); code(err) != codeLog {
		t.Errorf("%v", err)
	}
}

func TestBrokerLogIsHeldToItsWord(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	if head, err := os.ReadFile(filepath.Join(r.state, headName)); err != nil || !strings.HasPrefix(string(head), r.double.origin+"\n1\n") {
		eventually(t, "the broker's checkpoint to be kept", func() bool {
			head, err := os.ReadFile(filepath.Join(r.state, headName))
			return err == nil && strings.HasPrefix(string(head), r.double.origin+"\n1\n")
		})
	}
	r.execAgain(2)
	r.double.mu.Lock()
	r.double.hashes, r.double.leaves = nil, nil // the log begins anew
	r.double.mu.Unlock()
	if _, err := r.ask(); err != nil {
		t.Fatalf("a log of one entry again, with the same root: %v", err)
	}
	r.execAgain(3)
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	r.execAgain(4)
	r.double.mu.Lock()
	r.double.hashes, r.double.leaves = nil, nil
	r.double.mu.Unlock()
	if _, err := r.ask(); code(err) != codeBrokerLog {
		t.Errorf("the broker's log shrank: %v", err)
	}
}

func TestBootLog(t *testing.T) {
	r := newRig(t)
	log := []byte("event log of the firmware")
	if err := os.WriteFile(filepath.Join(r.state, "boot-log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[0]
	hash, known := b.Header.BootLog.Get()
	if !known || string(b.BootLog) != string(log) {
		t.Fatalf("boot log %q, %s", b.BootLog, b.Header.BootLog)
	}
	r.double.mu.Lock()
	r.double.host.Last.BootLog = hash
	r.double.mu.Unlock()
	r.execAgain(2)
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	if b := r.double.bundles[1]; len(b.BootLog) != 0 {
		t.Error("the boot log was sent although the broker has it")
	}
	for want, make := range map[string]func(path string) error{
		"no-log":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"truncated":  func(path string) error { return os.WriteFile(path, make([]byte, evidence.MaxBootLog+1), 0o600) },
		"unreadable": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if raw, hash := readLog(path, evidence.MaxBootLog); raw != nil || hash.Reason() != want {
			t.Errorf("%s: %d bytes, %s", want, len(raw), hash)
		}
	}
}

// TestGivingUp: who gives up leaves nothing behind, and nothing is exchanged
// for them.
func TestGivingUp(t *testing.T) {
	r := newRig(t)
	r.limits.Deadline = time.Second
	r.start().self()
	r.chip.mu.Lock()
	r.chip.delay = 3 * time.Second
	r.chip.mu.Unlock()
	if _, err := r.ask(); code(err) != codeDeadline {
		t.Errorf("%v", err)
	}
	if _, err := r.client().Status(context.Background()); err != nil {
		t.Error(err)
	}
	eventually(t, "the desk to be clear", func() bool { return r.agent.desk.waiting() == 0 })
	r.chip.mu.Lock()
	r.chip.delay = 0
	r.chip.mu.Unlock()
	if _, err := r.ask(); err != nil {
		t.Errorf("the next request: %v", err)
	}
	if r.double.exchanges != 1 {
		t.Errorf("%d exchanges for one request that was waited for", r.double.exchanges)
	}
}
