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
	"os"

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
	cgroup   *stage.Unit
	task     string // id of the approved delegation
	ranker   ranker
	decided  []string // "allow" and "deny", as the broker's log must hold them
}

func newTheatre(ctx context.Context, show *show) (*theatre, error) {
	s, err := stage.Open(ctx, "bin")
	if err != nil {
		return nil, err
	}
	t := &theatre{Stage: s, ctx: ctx, show: show, agent: s.Path("invoice-agent")}
	if t.cgroup, err = stage.NewUnit(fmt.Sprintf("invoice-agent@%d.service", os.Getpid())); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

func (t *theatre) close() error { return errors.Join(t.Close(), t.cgroup.Remove()) }

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
func (t *theatre) startResource() (_ []string, err error) {
	t.audience, err = t.StartResource()
	return []string{t.audience}, err
}

func (t *theatre) registerWorkload() ([]string, error) {
	if err := t.build(t.agent, "./scripts/sample-agent", "1.4.2"); err != nil {
		return nil, err
	}
	digest, err := fileDigest(t.agent)
	if err != nil {
		return nil, err
	}
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
`, workloadID, digest, t.cgroup.Name(), user, user)
	if err := t.Apply(text); err != nil {
		return nil, err
	}
	return []string{workloadID, digest, fmt.Sprintf("unit %s, user %d", orNone(t.cgroup.Name()), user)}, nil
}

func (t *theatre) registerApprover() (_ []string, err error) {
	t.key, err = t.AddApprover(approver)
	return nil, err
}

// build compiles a sample under a version.
func (t *theatre) build(out, pkg, version string) error {
	return t.Build(out, pkg, "-X main.build="+version)
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

// decode reads one JSON object the command line printed.
func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%v in %.300q", err, data)
	}
	return nil
}
