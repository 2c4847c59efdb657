// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with somebody at it.
type terminal struct {
	t      *testing.T
	master *os.File
	done   chan struct{}

	mu   sync.Mutex // guards seen
	seen bytes.Buffer
}

// onTerminal starts cmd as the leader of a session on a terminal of its own, of
// the usual size.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, master: os.NewFile(uintptr(fd), "ptmx"), done: make(chan struct{})}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	go func() {
		defer close(p.done)
		buffer := make([]byte, 4096)
		for {
			n, err := p.master.Read(buffer)
			p.mu.Lock()
			p.seen.Write(buffer[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { p.master.Close() })
	return p
}

func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.seen.String(), "\r\n", "\n")
}

// answer waits until prompt is on the screen, and types.
func (p *terminal) answer(prompt, typed string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(p.text(), prompt); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %q on the screen:\n%s", prompt, p.text())
		}
	}
	if _, err := io.WriteString(p.master, typed); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the command and returns its exit code and the screen.
func (p *terminal) end(cmd *exec.Cmd) (int, string) {
	p.t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	<-p.done // a terminal that nobody holds open any more ends
	return cmd.ProcessState.ExitCode(), p.text()
}

func TestColour(t *testing.T) {
	w := newWorld(t)
	sampleBroker(t, w)
	for name, row := range map[string]struct {
		env  string
		args []string
		want bool
	}{
		"on a terminal":  {"TERM=xterm", []string{"why", "DENIED"}, true},
		"NO_COLOR":       {"NO_COLOR=1", []string{"why", "DENIED"}, false},
		"dumb terminal":  {"TERM=dumb", []string{"why", "DENIED"}, false},
		"--no-color":     {"TERM=xterm", []string{"--no-color", "why", "DENIED"}, false},
		"JSON":           {"TERM=xterm", []string{"--json", "why", "DENIED"}, false},
		"NO_COLOR empty": {"NO_COLOR=", []string{"why", "DENIED"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := w.command(row.args...)
			cmd.Env = append(cmd.Env, "NO_COLOR=", "TERM=xterm", row.env)
			code, screen := onTerminal(t, cmd).end(cmd)
			if got := strings.Contains(screen, "\x1b["); got != row.want || code != 0 {
				t.Errorf("exit %d, colour %v, want %v:\n%s", code, got, row.want, screen)
			}
		})
	}
	cmd := w.command("why", "DENIED")
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=")
	if _, out, _ := finish(t, cmd); strings.Contains(out, "\x1b[") || !strings.Contains(out, "the first no") {
		t.Errorf("colour in a pipe:\n%s", out)
	}
}

func TestAsksOnTerminal(t *testing.T) {
	for typed, want := range map[string]int{"n\n": 1, "\n": 1, "y\n": 0, "yes\n": 0, "\x04": 1, "\x03": -1} {
		t.Run(fmt.Sprintf("%q", typed), func(t *testing.T) {
			w := newWorld(t)
			alice := newApprover(t, w, "alice", "")
			s := newSigning(t, w, alice)
			cmd := w.command("--broker", w.public.URL, "delegation", "approve", sampleID, "--key", alice.file)
			p := onTerminal(t, cmd)
			p.answer("Approve this? [y/N] ", typed)
			code, screen := p.end(cmd)
			if code != want || (len(s.given) == 1) != (want == 0) {
				t.Errorf("exit %d, want %d; the broker took %d answers:\n%s", code, want, len(s.given), screen)
			}
			if shown, asked := strings.Index(screen, "Close October invoices"), strings.Index(screen, "Approve this?"); shown < 0 || shown > asked {
				t.Errorf("asked before it was shown:\n%s", screen)
			}
		})
	}
}

func TestPassphrase(t *testing.T) {
	w := newWorld(t)
	alice := newApprover(t, w, "alice", "correct horse")
	s := newSigning(t, w, alice)
	cmd := w.command("--broker", w.public.URL, "delegation", "approve", sampleID, "--key", alice.file, "--yes")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK=", "SSH_ASKPASS=", "DISPLAY=")
	p := onTerminal(t, cmd)
	p.answer("Enter passphrase", "correct horse\n")
	code, screen := p.end(cmd)
	if code != 0 || len(s.given) != 1 || strings.Contains(screen, "correct horse") {
		t.Errorf("exit %d, %d answers:\n%s", code, len(s.given), screen)
	}
}

// TestExecInterruptedOnTerminal: the terminal interrupts the whole foreground,
// so the program gets one SIGINT, not two.
func TestExecInterruptedOnTerminal(t *testing.T) {
	w := newWorld(t)
	w.agent.set(tokens(time.Hour))
	file := w.path("token")
	cmd := w.command("exec", "--delegation", "d", "--token-file", file, "sh", "-c",
		`trap 'echo one' INT; trap 'exit 6' TERM; `+waiting+`echo ready; while :; do sleep 0.02; done`)
	p := onTerminal(t, cmd)
	p.answer("ready", "\x03")
	p.answer("one", "")
	time.Sleep(300 * time.Millisecond)
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code, screen := p.end(cmd)
	if code != 6 || strings.Count(screen, "one") != 1 || exists(file) {
		t.Errorf("exit %d, file there: %v:\n%s", code, exists(file), screen)
	}
}
