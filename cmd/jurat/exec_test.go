// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// command returns this test binary as the jurat command in this world.
func (w *world) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"--socket", w.path("agent.sock"), "--admin", w.path("admin.sock")}, args...)...)
	cmd.Env = append(os.Environ(), "JURAT_TEST_AS_COMMAND=1")
	return cmd
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

const secret = "tok.en.secret"

// tokens makes the agent hand out numbered tokens that live so long.
func tokens(life time.Duration, before ...*local.Error) func(int, local.Request) any {
	given := 0
	return func(_ int, r local.Request) any {
		if r.Op == local.OpStatus {
			return sampleStatus()
		}
		if len(before) > 0 {
			e := before[0]
			before = before[1:]
			if e != nil {
				return e
			}
		}
		given++
		return local.Credential{Token: fmt.Sprintf("%s%d", secret, given), TokenType: "DPoP", ExpiresAt: time.Now().Add(life).Unix()}
	}
}

func TestExecBecomesTheProgram(t *testing.T) {
	w := newWorld(t)
	cmd := w.command("exec", "--delegation", "dlg_1", "--", "sh", "-c", `echo "$$ $JURAT_DELEGATION $JURAT_SOCKET ${JURAT_TOKEN_FILE-unset} $1"; exit 7`, "sh", "--json")
	cmd.Env = append(cmd.Env, "JURAT_DELEGATION=old", "JURAT_TOKEN_FILE=old")
	code, out, errs := finish(t, cmd)
	want := fmt.Sprintf("%d dlg_1 %s unset --json\n", cmd.Process.Pid, w.path("agent.sock"))
	if code != 7 || out != want || errs != "" {
		t.Errorf("exit %d, %q, want %q; %s", code, out, want, errs)
	}
	if n := len(w.agent.requests()); n != 0 {
		t.Errorf("juratd was asked %d times", n)
	}
}

func TestExecCodes(t *testing.T) {
	w := newWorld(t)
	w.agent.set(tokens(time.Hour))
	plain := w.path("plain")
	write(t, plain, []byte("no program\n"))
	write(t, w.path("precious"), []byte("x"))
	if err := os.Chmod(w.path("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := w.path("token")
	for name, row := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no delegation":           {[]string{"exec", "--", "true"}, 125, "--delegation ID is missing"},
		"no program":              {[]string{"exec", "--delegation", "d"}, 125, "CMD is missing"},
		"unknown flag":            {[]string{"exec", "--deligation", "d", "true"}, 125, "unknown flag"},
		"bearer without file":     {[]string{"exec", "--delegation", "d", "--bearer", "true"}, 125, "--bearer needs --token-file"},
		"not found":               {[]string{"exec", "--delegation", "d", "nosuchprogram"}, 127, "not found"},
		"path not found":          {[]string{"exec", "--delegation", "d", "/nowhere/x"}, 127, "no such file"},
		"not executable":          {[]string{"exec", "--delegation", "d", plain}, 126, "permission denied"},
		"child not executable":    {[]string{"exec", "--delegation", "d", "--token-file", file, plain}, 126, "permission denied"},
		"somebody else's file":    {[]string{"exec", "--delegation", "d", "--token-file", w.path("precious"), "true"}, 125, "no token file of an earlier run"},
		"no directory for it":     {[]string{"exec", "--delegation", "d", "--token-file", w.path("no/where"), "sleep", "20"}, 125, "no such file or directory"},
		"no juratd":               {[]string{"--socket", w.path("none"), "exec", "--delegation", "d", "--token-file", file, "touch", w.path("ran")}, 125, "juratd does not answer"},
		"the program's own code":  {[]string{"exec", "--delegation", "d", "--token-file", file, "sh", "-c", "exit 3"}, 3, ""},
		"the program was killed":  {[]string{"exec", "--delegation", "d", "--token-file", file, "sh", "-c", "kill -9 $$"}, 137, ""},
		"the program's own flags": {[]string{"exec", "--delegation", "d", "env", "--json"}, 125, "env"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := finish(t, w.command(row.args...))
			if code != row.code || !strings.Contains(errs, row.says) {
				t.Errorf("exit %d, want %d; printed %s%s", code, row.code, out, errs)
			}
		})
	}
	if exists(w.path("ran")) {
		t.Error("the program ran although juratd could not be asked")
	}
	if exists(file) {
		t.Error("the token file is still there")
	}
	code, out, _ := finish(t, w.command("--json", "exec", "--delegation", "d", "nosuchprogram"))
	var e errorJSON
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 127 || e.Exit != 127 || e.Code != "not-found" {
		t.Errorf("exit %d, %s (%v)", code, out, err)
	}
}

// waiting is the beginning of a program that waits for its token.
const waiting = `while [ ! -e "$JURAT_TOKEN_FILE" ]; do sleep 0.02; done; `

func TestExecTokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent.set(tokens(3 * time.Second))
	file := w.path("token")
	write(t, file, []byte("left by an earlier run"))
	cmd := w.command("exec", "--delegation", "dlg_1", "--token-file", file, "--action", "invoice.read", "--", "sh", "-c",
		waiting+`first=$(cat "$JURAT_TOKEN_FILE"); echo "$$ $first $(stat -c '%a %s %F' "$JURAT_TOKEN_FILE")"; env; tr '\0' ' ' < /proc/$PPID/cmdline
		while [ "$(cat "$JURAT_TOKEN_FILE")" = "$first" ]; do sleep 0.05; done; echo; echo "then $(cat "$JURAT_TOKEN_FILE")"; exit 5`)
	code, out, errs := finish(t, cmd)
	lines := strings.Split(out, "\n")
	pid, rest, _ := strings.Cut(lines[0], " ")
	if want := fmt.Sprintf("%s1 600 %d regular file", secret, len(secret)+1); code != 5 || rest != want {
		t.Errorf("exit %d, %q, want %q; %s", code, rest, want, errs)
	}
	if !strings.Contains(out, "\nthen "+secret+"2\n") {
		t.Errorf("no second token: %s", out)
	}
	if strings.Count(out, secret) != 2 {
		t.Errorf("the token is in the environment or on a command line:\n%s", out)
	}
	if left, _ := filepath.Glob(w.path("*token*")); len(left) != 0 {
		t.Errorf("still there: %v", left)
	}
	for _, r := range w.agent.requests()[1:] {
		if !r.Child || r.Delegation != "dlg_1" || len(r.Actions) != 1 || r.Bearer {
			t.Errorf("asked %+v", r)
		}
	}
	for _, p := range w.agent.pids {
		if itoa(p) != pid {
			t.Errorf("the pidfd is of process %d, the program is %s", p, pid)
		}
	}
}

func TestExecWaitsForTheProgramToSettle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent.set(tokens(time.Hour, &local.Error{Code: local.CodeUnmeasured, Message: "x"}, &local.Error{Code: local.CodeUnreachable, Message: "x"},
		&local.Error{Code: local.CodeRefused, Message: "x", Retry: "now"}))
	code, out, errs := finish(t, w.command("exec", "--delegation", "d", "--token-file", w.path("token"), "--bearer", "sh", "-c", waiting+`cat "$JURAT_TOKEN_FILE"`))
	if code != 0 || out != secret+"1" || errs != "" {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	if asked := w.agent.requests(); len(asked) != 5 || !asked[4].Bearer {
		t.Errorf("asked %+v", asked)
	}
}

func TestExecRefused(t *testing.T) {
	w := newWorld(t)
	w.agent.set(tokens(time.Hour, &local.Error{Code: local.CodeRefused, Message: "attestation", Txn: "01JD", Retry: "after-change",
		Failed: []local.Check{{Attestor: "code", Check: "exe-digest"}}}))
	begin := time.Now()
	code, out, errs := finish(t, w.command("--json", "exec", "--delegation", "d", "--token-file", w.path("token"), "sleep", "60"))
	var e errorJSON
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 125 || e.Code != "refused" || e.Txn != "01JD" || len(e.Failed) != 1 {
		t.Errorf("exit %d, %s (%v)", code, out, err)
	}
	if !strings.Contains(errs, "sleep was stopped") || !strings.Contains(errs, "code/exe-digest") || !strings.Contains(errs, "jurat why 01JD") {
		t.Errorf("said %s", errs)
	}
	if time.Since(begin) > killAfter {
		t.Error("the program was not asked to end")
	}
}

func TestExecRenewalRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent.set(tokens(2*time.Second, nil, &local.Error{Code: local.CodeRefused, Message: "revoked", Retry: "new-delegation"}))
	code, out, errs := finish(t, w.command("exec", "--delegation", "d", "--token-file", w.path("token"), "sh", "-c",
		waiting+`while [ -e "$JURAT_TOKEN_FILE" ]; do sleep 0.05; done; echo gone; exit 4`))
	if code != 4 || out != "gone\n" || !strings.Contains(errs, "warning: the credential has ended: E_BROKER_REFUSED: revoked") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
}

func TestExecRenewalDelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := &local.Error{Code: local.CodeUnreachable, Message: "x"}
	w.agent.set(tokens(2*time.Second, nil, away, away, away, away, away))
	code, out, errs := finish(t, w.command("exec", "--delegation", "d", "--token-file", w.path("token"), "sh", "-c",
		waiting+`until grep -q 2$ "$JURAT_TOKEN_FILE" 2>/dev/null; do [ -e "$JURAT_TOKEN_FILE" ] || gone=yes; sleep 0.05; done; echo "gone: $gone"`))
	if code != 0 || out != "gone: yes\n" || strings.Count(errs, "could not be renewed yet") != 1 {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
}

func TestExecForwardsSignals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent.set(tokens(time.Hour))
	file := w.path("token")
	cmd := w.command("exec", "--delegation", "d", "--token-file", file, "sh", "-c",
		`trap 'echo usr1' USR1; trap 'echo int' INT; trap 'echo term; exit 9' TERM; `+waiting+`touch "$JURAT_TOKEN_FILE.ready"; while :; do sleep 0.02; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, so SIGINT comes from nowhere else
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; !exists(file + ".ready"); i++ {
		if i > 1000 {
			cmd.Process.Kill()
			t.Fatal("the program did not begin")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 9 || out.String() != "usr1\nint\nterm\n" {
		t.Errorf("%v, printed %q", err, out.String())
	}
	if exists(file) {
		t.Error("the token file is still there")
	}
}
