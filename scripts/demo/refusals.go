// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

// changedBinary puts another build under the registered path.
func (t *theatre) changedBinary() ([]string, error) {
	good := t.agent + ".good"
	if err := os.Rename(t.agent, good); err != nil {
		return nil, err
	}
	if err := t.build(t.agent, "./scripts/sample-agent", "1.4.2-with-something-else"); err != nil {
		return nil, err
	}
	lines, err := t.refusedBy(t.asRegistered(), "code", "provenance")
	if err != nil {
		return nil, err
	}
	return lines, os.Rename(good, t.agent)
}

func (t *theatre) wrongContext() ([]string, error) {
	w := t.asRegistered()
	w.user, w.inUnit = otherUser, false
	return t.refusedBy(w, "context")
}

// replayedBundle sends the bundle that h1 sent last once more.
func (t *theatre) replayedBundle() ([]string, error) {
	file := t.Path("bundle.cbor")
	if _, err := t.Run(filepath.Join(t.Bin, "jurat"), "--socket", t.Hosts["h1"].Socket, "evidence", "last", "-o", file); err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	answer, err := http.Post(t.Issuer+"/v1/evidence", evidence.MediaType, bytes.NewReader(bundle))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	var said struct {
		Code, Txn string
	}
	if err := decode(body, &said); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusBadRequest || said.Code != "E_NONCE" {
		return nil, fmt.Errorf("want 400 with E_NONCE, got %s: %s", answer.Status, body)
	}
	t.decided = append(t.decided, "deny")
	return t.why(said.Txn, "hardware")
}

// foreignTPM lets h2 claim to be h1: its agent gets h1's identity, and signs
// with the only TPM it has.
func (t *theatre) foreignTPM() ([]string, error) {
	h1, h2 := t.Hosts["h1"], t.Hosts["h2"]
	if err := t.StopAgent(h2); err != nil {
		return nil, err
	}
	if err := impersonate(h2.State, h1.State); err != nil {
		return nil, err
	}
	if err := t.StartAgent(h2); err != nil {
		return nil, err
	}
	if err := t.outgrow(h2, "h1"); err != nil {
		return nil, err
	}
	w := t.asRegistered()
	w.host = h2
	return t.refusedBy(w, "hardware")
}

// outgrow runs programs until the log of h has more entries than the broker
// knows of the host called name. With fewer, an honest agent stops by itself,
// and the broker is not asked.
func (t *theatre) outgrow(h *stage.Host, name string) error {
	var list struct {
		Hosts []struct {
			Name    string
			LogSize uint64 `json:"log_size"`
		}
	}
	if err := t.JuratJSON(&list, "host", "list"); err != nil {
		return err
	}
	var known uint64
	for _, host := range list.Hosts {
		if host.Name == name {
			known = host.LogSize
		}
	}
	client := local.Client{Socket: h.Socket}
	for range 2000 {
		status, err := client.Status(t.ctx)
		if err != nil {
			return err
		}
		if known > 0 && status.LogSize > known {
			return nil
		}
		if _, err := t.Run("/bin/true"); err != nil {
			return err
		}
	}
	return fmt.Errorf("the log of %s did not grow beyond the %d entries known of %s", h.Name, known, name)
}

// impersonate changes the identity of one agent to another's, all but the key.
func impersonate(state, other string) error {
	var own, theirs map[string]any
	for dir, into := range map[string]*map[string]any{state: &own, other: &theirs} {
		data, err := os.ReadFile(filepath.Join(dir, "identity.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, into); err != nil {
			return err
		}
	}
	own["host"], own["ueid"] = theirs["host"], theirs["ueid"]
	data, err := json.Marshal(own)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(state, "identity.json"), data, 0o600)
}

func (t *theatre) expiredDelegation() ([]string, error) {
	const life = 3 * time.Second
	id, err := t.request(life.String())
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := t.approve(id); err != nil {
		return nil, err
	}
	time.Sleep(time.Until(begin.Add(life + time.Second)))
	w := t.asRegistered()
	w.task = id
	return t.refusedBy(w, "delegation")
}

func (t *theatre) unsignedDelegation() ([]string, error) {
	id, err := t.request("1h")
	if err != nil {
		return nil, err
	}
	w := t.asRegistered()
	w.task = id
	return t.refusedBy(w, "delegation")
}

// steal runs the workload with a token file and reads it, as anybody could who
// may read the workload's files.
func (t *theatre) steal() (string, error) {
	dir := t.Path("workload-run")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Chown(dir, user, user); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "token")
	cmd, done, err := t.command(t.asRegistered(), []string{"--token-file", file}, []string{"-url", t.audience + "/invoices"})
	if err != nil {
		return "", err
	}
	defer done()
	stdin, err := cmd.StdinPipe() // the workload waits for its task while this is open
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		stdin.Close()
		cmd.Wait() // how the workload ends does not matter here
	}()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if token, err := os.ReadFile(file); err == nil {
			t.decided = append(t.decided, "allow")
			return string(token), nil
		}
	}
	return "", fmt.Errorf("no token file after 20 s: %s", out.String())
}

// present sends the stolen token to the service, and wants a no.
func (t *theatre) present(headers map[string]string, want string) ([]string, error) {
	request, err := http.NewRequestWithContext(t.ctx, http.MethodGet, t.audience+"/invoices", nil)
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	said := answer.Header.Get("WWW-Authenticate")
	if answer.StatusCode != http.StatusUnauthorized || !strings.Contains(said, want) {
		return nil, fmt.Errorf("want 401 with %q, got %s: %s", want, answer.Status, said)
	}
	return []string{"the service said: " + answer.Status + ", " + said}, nil
}

func (t *theatre) stolenToken() ([]string, error) {
	token, err := t.steal()
	if err != nil {
		return nil, err
	}
	if lines, err := t.present(map[string]string{"Authorization": "Bearer " + token}, ""); err != nil {
		return lines, err
	}
	return t.present(map[string]string{"Authorization": "DPoP " + token}, "invalid_dpop_proof")
}

func (t *theatre) stolenTokenOtherKey() ([]string, error) {
	token, err := t.steal()
	if err != nil {
		return nil, err
	}
	key, err := brokerclient.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	proof, err := key.Proof(http.MethodGet, t.audience+"/invoices", "", token, time.Now())
	if err != nil {
		return nil, err
	}
	return t.present(map[string]string{"Authorization": "DPoP " + token, "DPoP": proof}, "invalid_token")
}

// revokedDelegation ends the task that worked until now.
func (t *theatre) revokedDelegation() ([]string, error) {
	if _, err := t.Jurat("delegation", "revoke", t.task, "--key", t.key, "--yes"); err != nil {
		return nil, err
	}
	return t.refusedBy(t.asRegistered(), "delegation")
}
