// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
)

// TestDisturbanceTaintsTheHost: what the guard finds is in the log once, and
// in every look from then on.
func TestDisturbanceTaintsTheHost(t *testing.T) {
	for name, disturb := range map[string]func(r *rig) error{
		"program-detached": func(r *rig) error {
			r.sensor.mu.Lock()
			defer r.sensor.mu.Unlock()
			r.sensor.findings = []bpf.Finding{{Name: "program-detached", Detail: "on_exec"}}
			return nil
		},
		"socket-gone": func(r *rig) error { return os.Rename(r.socket, r.socket+".away") },
		"socket-squatted": func(r *rig) error {
			if err := os.Rename(r.socket, r.socket+".away"); err != nil {
				return err
			}
			l, err := net.Listen("unix", r.socket)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		"state-open": func(r *rig) error { return os.Chmod(r.state, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start().self()
			if _, err := r.ask(); err != nil {
				t.Fatal(err)
			}
			if before := r.double.bundles[0].Requests[0].Value.Before.Taints; len(before) != 0 {
				t.Fatalf("tainted before: %q", before)
			}
			if err := disturb(r); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := r.agent.inspect(); err != nil {
					t.Fatal(err)
				}
			}
			var logged []string
			for _, e := range r.entries() {
				if e.Kind == evidence.KindTaint && e.Instance == nil && e.Taint.Name == taintDisturbed {
					logged = append(logged, e.Taint.How)
				}
			}
			if len(logged) != 1 || logged[0][:len(name)] != name {
				t.Errorf("logged %q", logged)
			}
			if !slices.Equal(r.agent.spoilt.names(), []string{taintDisturbed}) {
				t.Errorf("host taints %q", r.agent.spoilt.names())
			}
		})
	}
}

// TestGapIsADiscontinuity: an agent whose sensor did not go on from the one before
// begins with a discontinuity, and says that something may be missing.
func TestGapIsADiscontinuity(t *testing.T) {
	r := newRig(t).start()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.gap = "not-pinned"
	r.start()
	var reasons []string
	for _, e := range r.entries() {
		if e.Start != nil {
			reasons = append(reasons, e.Start.Reason)
		}
	}
	if !slices.Equal(reasons, []string{reasonFirst, reasonDiscontinuity}) || r.lost()[causeGap] != 1 || r.agent.epoch.Load().lost.Load() != 1 {
		t.Errorf("epochs %q, lost %v", reasons, r.lost())
	}
}

func TestUninstall(t *testing.T) {
	dir := t.TempDir()
	state, socket := filepath.Join(dir, "state"), filepath.Join(dir, "s")
	if err := makeState(state); err != nil {
		t.Fatal(err)
	}
	u := Uninstalling{State: state, Socket: socket, Purge: true}
	if _, err := Uninstall(u); err == nil || !exists(state) {
		t.Errorf("a directory that is no agent's: %v", err)
	}
	if err := writeFile(state, identityName, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Uninstall(u); err == nil || !exists(state) {
		t.Errorf("while an agent answers: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if removed, err := Uninstall(u); err != nil || !slices.Equal(removed, []string{socket, state}) || exists(state) || exists(socket) {
		t.Errorf("removed %q, %v", removed, err)
	}
	if removed, err := Uninstall(u); err != nil || len(removed) != 0 {
		t.Errorf("again: removed %q, %v", removed, err)
	}
}
