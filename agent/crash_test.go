// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// victim is set in an agent that is killed: what it runs with.
const victim = "JURAT_AGENT_VICTIM"

type victimConfig struct {
	State, URL, Origin, LogKey, TPM, BootLog, Task string
	Die                                            string // where it kills itself; empty: nowhere
}

// TestVictim is that agent. It obtains one credential after the other.
func TestVictim(t *testing.T) {
	raw := os.Getenv(victim)
	if raw == "" {
		return // an ordinary run of the tests
	}
	var c victimConfig
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.double.url, r.double.origin, r.double.logKey = c.URL, c.Origin, c.LogKey
	r.state, r.logs.boot, r.anchor.Mode = c.State, c.BootLog, evidence.AnchorNVLatch
	r.open = func(ctx context.Context) (Chip, error) { return openChip(ctx, c.TPM) }
	r.prepare = func(a *Agent) { a.anchor.journal = &mortal{journal: a.anchor.journal, die: c.Die} }
	r.start()
	for generation := uint32(1); ; generation++ {
		r.execAgain(generation)
		if _, err := r.askFor(c.Task); err != nil {
			t.Fatal(err)
		}
	}
}

// victim is what an agent runs with that goes on where r's agent ended.
func (r *rig) victim(bootLog, tpm string) victimConfig {
	return victimConfig{State: r.state, URL: r.double.url, Origin: r.double.origin, LogKey: r.double.logKey, TPM: tpm, BootLog: bootLog, Task: r.double.task.ID}
}

// start runs the agent as a process of its own; ended is closed when it is gone.
func (c victimConfig) start(t *testing.T) (cmd *exec.Cmd, ended chan struct{}) {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("/proc/self/exe", "-test.run=^TestVictim$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), victim+"="+string(raw), "TMPDIR="+t.TempDir()) // which it cannot clean up
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	return cmd, ended
}

// TestCrashLoop kills an agent at any moment, again and again. Its broker
// verifies every bundle against the one before it: no sequence number is used
// twice, no log is shorter than it was, every run is an epoch of its own.
func TestCrashLoop(t *testing.T) {
	const kills = 15
	r := newRig(t)
	device := r.withTPM()
	config := r.victim(device.EventLog(), device.Path())
	for round := range kills {
		before := r.double.count()
		cmd, ended := config.start(t)
		for deadline := time.Now().Add(50 * time.Second); r.double.count() == before && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(rand.N(60 * time.Millisecond))
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatalf("round %d: the agent ended by itself", round)
		}
		<-ended
		if r.double.count() == before {
			t.Fatalf("round %d: no evidence was sent", round)
		}
		if t.Failed() { // the double found something untrue
			t.FailNow()
		}
	}
	r.double.mu.Lock()
	last := *r.double.host.Last
	r.double.mu.Unlock()
	if last.Epoch != kills {
		t.Errorf("%d kills, epoch %d", kills, last.Epoch)
	}
	t.Logf("%d kills, %d bundles, %d entries", kills, r.double.count(), last.Size)
	// And the log goes on where the broker saw it end.
	r.start()
	if size := r.agent.log.Size(); size < last.Size {
		t.Errorf("%d entries, the broker saw %d", size, last.Size)
	}
}
