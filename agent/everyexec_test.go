// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// watched is set in an agent that only watches, until it is killed: its state
// directory and where it pins.
const watched = "JURAT_AGENT_WATCHED"

// TestWatched is that agent.
func TestWatched(t *testing.T) {
	state, pin, ok := strings.Cut(os.Getenv(watched), "\n")
	if !ok {
		return // an ordinary run of the tests
	}
	r := newRig(t)
	r.state = state
	r.watchWith(pin)
	r.start()
	os.Stdout.WriteString("\nready\n")
	select {}
}

// TestEveryExecIsLogged kills an agent again and again while programs are
// started: the log has every exec, and no loss.
func TestEveryExecIsLogged(t *testing.T) {
	require.Undisturbed(t)
	kills := 6
	if testing.Short() {
		kills = 2
	}
	pin := pinDir(t)
	r := newRig(t)
	program := filepath.Join(t.TempDir(), "program")
	body, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(program, body, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	started, stop := make(map[int]int), make(chan struct{})
	var storm sync.WaitGroup
	begin := sync.OnceFunc(func() {
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				cmd := exec.Command(program)
				if err := cmd.Run(); err != nil {
					t.Error(err)
					return
				}
				started[cmd.Process.Pid]++
			}
		})
	})
	for round := range kills {
		cmd, ready := watcher(t, r.state, pin)
		if !ready {
			t.Fatalf("round %d: the agent did not get ready", round)
		}
		begin()
		time.Sleep(time.Duration(100+150*round%400) * time.Millisecond)
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
	}
	close(stop)
	storm.Wait()
	last := next(t, r, pin)
	last.agent.sensor.Barrier(t.Context())
	eventually(t, "the last execs to be logged", func() bool { return len(last.agent.queue) == 0 })
	last.end()
	last.reopen()
	es := last.entries()
	logged := make(map[evidence.Instance]bool)
	for _, e := range es {
		if e.Exec != nil && e.Exec.Hint == program {
			logged[*e.Instance] = true
		}
	}
	pids := make(map[int]int)
	for i := range logged {
		pids[int(i.PID)]++
	}
	total, missing := 0, 0
	for pid, n := range started {
		total += n
		missing += max(0, n-pids[pid])
	}
	reasons, lost := epochsOf(es)
	if missing > 0 || lost > 0 || total < 50 {
		t.Errorf("%d execs, %d of them not logged; %d records lost", total, missing, lost)
	}
	for _, reason := range reasons[1:] {
		if reason != reasonRestart {
			t.Errorf("epochs %q", reasons)
		}
	}
	t.Logf("%d execs over %d kills", total, kills)
}

// watcher starts an agent that only watches.
func watcher(t *testing.T, state, pin string) (*exec.Cmd, bool) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWatched$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), watched+"="+state+"\n"+pin, "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var said []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(said, []byte("\nready\n")) {
		n, err := out.Read(buf)
		if said = append(said, buf[:n]...); err != nil {
			t.Logf("%s", said)
			return cmd, false
		}
	}
	return cmd, true
}
