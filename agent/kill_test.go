// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// mortal is a journal that kills its process before or after a write.
type mortal struct {
	journal
	die    string
	begins int
	writes int
}

func (m *mortal) at(point string, n int) {
	if fmt.Sprintf("%s %d", point, n) == m.die {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (m *mortal) BeginAnchor(h logstore.AnchorHeader) error {
	m.begins++
	m.at("before begin", m.begins)
	err := m.journal.BeginAnchor(h)
	m.at("after begin", m.begins)
	return err
}

func (m *mortal) AppendAnchor(number uint64, digest evidence.Hash) error {
	m.writes++
	m.at("before append", m.writes)
	err := m.journal.AppendAnchor(number, digest)
	m.at("after append", m.writes)
	return err
}

// killed is a rig whose agents run as processes that are killed.
type killed struct {
	*rig
	t      *testing.T
	device *softtpm.TPM
	bus    *tap
	kills  int
}

func newKilled(t *testing.T) *killed {
	r := newRig(t)
	device := r.withTPM()
	return &killed{rig: r, t: t, device: device, bus: newTap(t, device)}
}

// at runs an agent until the TPM is sent its nth command, and kills it before
// the TPM gets to see that, or before the agent sees the answer. It reports
// whether the agent got so far before the broker had a bundle.
func (k *killed) at(nth int, after bool) bool {
	k.t.Helper()
	got := make(chan struct{})
	run := make(chan func(), 1)
	count := 0
	k.bus.set(func(_ tpm2.TPMCC, forward func() []byte) []byte {
		if count++; count != nth {
			return forward()
		}
		if after {
			forward()
		}
		kill := <-run
		kill()
		close(got)
		return nil
	})
	defer k.bus.set(nil)
	before := k.double.count()
	cmd, ended := k.victim(k.device.EventLog(), k.bus.path).start(k.t)
	run <- func() {
		cmd.Process.Signal(syscall.SIGKILL)
		<-ended
	}
	k.kills++
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		select {
		case <-got:
			return true
		case <-ended:
			select {
			case <-got:
				return true
			case <-time.After(time.Second):
				k.t.Fatal("the agent ended by itself")
			}
		default:
		}
		if k.double.count() > before || time.Now().After(deadline) {
			cmd.Process.Signal(syscall.SIGKILL)
			<-ended
			return false
		}
	}
}

// dies runs an agent that kills itself.
func (k *killed) dies(where string) {
	k.t.Helper()
	c := k.victim(k.device.EventLog(), k.device.Path())
	c.Die = where
	cmd, ended := c.start(k.t)
	k.kills++
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		k.t.Fatalf("it did not get to %q", where)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		k.t.Fatalf("it ended by itself before %q: %v", where, cmd.ProcessState)
	}
}

// goesOn holds that an agent goes on with a register that bears the log out,
// to a broker that verifies every bundle, also one that has seen none.
func (k *killed) goesOn(where string) {
	k.t.Helper()
	before := k.double.count()
	cmd, ended := k.victim(k.device.EventLog(), k.device.Path()).start(k.t)
	for deadline := time.Now().Add(30 * time.Second); k.double.count() == before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	<-ended
	k.kills++
	k.double.mu.Lock()
	defer k.double.mu.Unlock()
	if len(k.double.bundles) == before {
		k.t.Fatalf("%s: no evidence afterwards", where)
	}
	if h := k.double.bundles[before].Header; h.Anchor != evidence.AnchorNVLatch {
		k.t.Fatalf("%s: anchor %s", where, h.Anchor)
	}
	if k.t.Failed() {
		k.t.Fatalf("%s: that is what broke it", where)
	}
	if k.kills%3 == 0 { // a broker that has it all anew wants all of the register
		k.double.host.Last = nil
	}
}

// TestKilledAtEveryCommand kills the agent at each command that it sends the
// TPM from its start to its first bundle: before the TPM sees it, and when the
// TPM has done it. A crash alone never breaks the register, and never leaves
// one that the verifier does not take.
func TestKilledAtEveryCommand(t *testing.T) {
	for name, fresh := range map[string]bool{"register to be opened": true, "register that goes on": false} {
		t.Run(name, func(t *testing.T) {
			k := newKilled(t)
			if !fresh {
				k.goesOn("at first")
			}
			for _, after := range []bool{false, true} {
				for nth := 1; ; nth++ {
					if fresh {
						if err := k.device.Reset(); err != nil {
							t.Fatal(err)
						}
					}
					if !k.at(nth, after) {
						t.Logf("after: %v: %d commands up to the first bundle", after, nth-1)
						break
					}
					if fresh || nth%4 == 0 {
						k.goesOn(fmt.Sprintf("killed at command %d, after it: %v", nth, after))
					}
				}
				k.goesOn("in the end")
			}
			t.Logf("%d kills", k.kills)
		})
	}
}

// TestKilledAroundTheJournal does it between what the TPM does not see.
func TestKilledAroundTheJournal(t *testing.T) {
	k := newKilled(t)
	for _, where := range []string{"before begin 1", "after begin 1", "before append 1", "after append 1"} {
		if err := k.device.Reset(); err != nil {
			t.Fatal(err)
		}
		k.dies(where)
		k.goesOn(where)
	}
	for range 3 {
		for _, where := range []string{"before append 1", "after append 1", "before append 2", "after append 2", "before append 3", "after append 3"} {
			k.dies(where)
			k.goesOn(where)
		}
	}
}

// TestKilledAtRandom kills the agent anywhere, while the machine sleeps,
// hibernates and starts again in between.
func TestKilledAtRandom(t *testing.T) {
	const kills = 200
	k := newKilled(t)
	for k.kills < kills {
		switch power := rand.N(24); power {
		case 0, 1, 2, 3:
			cycle := []func(*softtpm.TPM) error{(*softtpm.TPM).Reset, (*softtpm.TPM).PowerCut, (*softtpm.TPM).Restart, (*softtpm.TPM).Resume}[power]
			if err := cycle(k.device); err != nil {
				t.Fatal(err)
			}
		}
		nth, after := 1+rand.N(110), rand.N(2) == 0
		if k.at(nth, after); t.Failed() {
			t.Fatalf("killed at command %d, after it: %v", nth, after)
		}
		if k.kills%7 == 0 {
			k.goesOn(fmt.Sprintf("killed at command %d, after it: %v", nth, after))
		}
	}
	k.goesOn("in the end")
	t.Logf("%d kills, %d bundles", k.kills, k.double.count())
}
