// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jurat-dev/jurat/scripts/internal/stage"
)

// The parts of the play.
const (
	workloadID = "spiffe://example.test/agents/invoice"
	approver   = "alice@example.test"
	user       = 61001 // the workload's; needs no line in /etc/passwd
	otherUser  = 61002
	action     = "invoice.read"
)

// theatre is the common stage and what the acts hand on.
type theatre struct {
	*stage.Stage
	ctx      context.Context
	show     *show
	audience string
	key      string // alice's private key
	agent    string // path of the workload's binary
	cgroup   *cgroup
	task     string   // id of the approved delegation
	decided  []string // "allow" and "deny", as the broker's log must hold them
}

func newTheatre(ctx context.Context, show *show) (*theatre, error) {
	s, err := stage.Open(ctx, "bin")
	if err != nil {
		return nil, err
	}
	t := &theatre{Stage: s, ctx: ctx, show: show, agent: s.Path("invoice-agent")}
	if t.cgroup, err = newCgroup(fmt.Sprintf("invoice-agent@%d.service", os.Getpid())); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

func (t *theatre) close() error { return errors.Join(t.Close(), t.cgroup.remove()) }

func (t *theatre) startTPMs() ([]string, error) {
	for _, name := range []string{"h1", "h2"} {
		if _, err := t.AddHost(name); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (t *theatre) startBroker() ([]string, error) {
	if err := t.StartBroker(); err != nil {
		return nil, err
	}
	return []string{t.Issuer}, nil
}

func (t *theatre) enrolHosts() ([]string, error) {
	for _, name := range []string{"h1", "h2"} {
		if err := t.Enrol(t.Hosts[name], "--machine", "demo"); err != nil {
			return nil, err
		}
	}
	var list struct {
		Hosts []struct{ Name, ID, Level, State string }
	}
	if err := t.JuratJSON(&list, "host", "list"); err != nil {
		return nil, err
	}
	var lines []string
	for _, h := range list.Hosts {
		if h.State != "enrolled" || h.Level != "ek-cert" {
			return nil, fmt.Errorf("host %s is %s with level %q, want enrolled with ek-cert", h.Name, h.State, h.Level)
		}
		lines = append(lines, fmt.Sprintf("%s  %s", h.ID, h.Level))
	}
	if len(lines) != 2 {
		return nil, fmt.Errorf("the broker lists %d hosts, want 2", len(lines))
	}
	return lines, nil
}

func (t *theatre) startAgents() ([]string, error) {
	for _, name := range []string{"h1", "h2"} {
		if err := t.StartAgent(t.Hosts[name]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// startResource builds and runs the protected service.
func (t *theatre) startResource() ([]string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	t.audience = "http://" + address
	service := t.Path("sample-resource")
	if err := t.build(service, "./scripts/sample-resource", ""); err != nil {
		return nil, err
	}
	if _, err := t.Start("invoices", nil, service, "-listen", address, "-issuer", t.Issuer, "-audience", t.audience); err != nil {
		return nil, err
	}
	return []string{t.audience}, t.WaitHTTP(t.audience + "/healthz")
}

func (t *theatre) registerWorkload() ([]string, error) {
	if err := t.build(t.agent, "./scripts/sample-agent", "1.4.2"); err != nil {
		return nil, err
	}
	digest, err := fileDigest(t.agent)
	if err != nil {
		return nil, err
	}
	file := t.Path("workload.yaml")
	text := fmt.Sprintf(`kind: Machine
name: demo
boot: {pcrs: {}}
---
kind: Workload
id: %s
machines: [demo]
minimum: {ek: ek-cert, anchor: nv-latch, tier: tracepoint, provenance: pinned, ima: none}
code:
  executables: [{digest: "%s", label: invoice-agent 1.4.2}]
context:
  units: ["%s"]
  uids: [%d]
  gids: [%d]
  cgroups: any
  containers: [none]
  ancestors: any
`, workloadID, digest, t.cgroup.unit(), user, user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if _, err := t.Jurat("apply", "-f", file); err != nil {
		return nil, err
	}
	return []string{workloadID, digest, fmt.Sprintf("unit %s, user %d", orNone(t.cgroup.unit()), user)}, nil
}

func (t *theatre) registerApprover() ([]string, error) {
	t.key = t.Path("alice")
	if _, err := t.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", approver, "-f", t.key); err != nil {
		return nil, err
	}
	public, err := os.ReadFile(t.key + ".pub")
	if err != nil {
		return nil, err
	}
	line := strings.Join(strings.Fields(string(public))[:2], " ")
	file := t.Path("approver.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "kind: Approver\nname: %s\nkeys: [%q]\n", approver, line), 0o600); err != nil {
		return nil, err
	}
	_, err = t.Jurat("apply", "-f", file)
	return nil, err
}

// build compiles one of the samples, as a static binary that any user may run.
func (t *theatre) build(out, pkg, build string) error {
	cmd := exec.CommandContext(t.ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.build="+build, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %v: %s", pkg, err, text)
	}
	return os.Chmod(out, 0o755)
}

func fileDigest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "sha-256:" + hex.EncodeToString(sum[:]), nil
}

func orNone(unit string) string {
	if unit == "" {
		return "(none: no cgroup v2 here)"
	}
	return unit
}

// cgroup stands for the systemd unit that a real workload runs in: the demo
// makes the directory that systemd would.
type cgroup struct {
	dir  string // "" where the machine has no writable cgroup v2
	name string
}

func newCgroup(name string) (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") || fields[3] != "/" {
			continue
		}
		dir := filepath.Join(fields[4], "system.slice", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue // read-only, as in some containers
		}
		return &cgroup{dir: dir, name: name}, nil
	}
	return new(cgroup), nil
}

func (c *cgroup) unit() string {
	if c.dir == "" {
		return ""
	}
	return c.name
}

func (c *cgroup) remove() error {
	if c.dir == "" {
		return nil
	}
	if err := os.Remove(c.dir); err != nil && !os.IsNotExist(err) {
		return err
	}
	os.Remove(filepath.Dir(c.dir)) // only if the demo made it: a slice in use stays
	return nil
}

// decode reads one JSON object the command line printed.
func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%v in %.300q", err, data)
	}
	return nil
}
