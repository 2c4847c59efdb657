// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func (p part) is(t *testing.T, what, digest string) {
	t.Helper()
	if p.Digest != digest || p.Reason != "" {
		t.Errorf("%s %+v, want digest %.16s...", what, p, digest)
	}
}

func (p part) unknown(t *testing.T, what, reason string) {
	t.Helper()
	if p.Digest != "" || p.Reason != reason {
		t.Errorf("%s %+v, want unknown (%s)", what, p, reason)
	}
}

// TestEveryKindOfExec holds the package comment to what this kernel does.
func TestEveryKindOfExec(t *testing.T) {
	s := newStage(t)
	h := gated(t, holding{Only: []string{s.dir}})

	t.Run("static", func(t *testing.T) {
		pid, code := run(t, s.path("static"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.static)
		l.Script.is(t, "script", "")
		l.Loader.is(t, "loader", "")
		if code != 11 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("dynamic", func(t *testing.T) {
		pid, _ := run(t, s.path("dynamic"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Loader.is(t, "loader", s.ld)
		l.Script.is(t, "script", "")
	})
	t.Run("script", func(t *testing.T) {
		pid, _ := run(t, s.path("script"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Loader.is(t, "loader", s.ld)
		l.Script.is(t, "script", s.script)
	})
	t.Run("nested scripts", func(t *testing.T) {
		pid, _ := run(t, s.path("nested"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Script.is(t, "script", s.nested)
	})
	t.Run("given to the loader", func(t *testing.T) {
		pid, _ := run(t, s.path("ld"), s.path("dynamic"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.ld)
		l.Loader.is(t, "loader", "")
	})
	t.Run("deleted", func(t *testing.T) {
		digest := put(t, s.path("deleted"), tiny(21, 0x400000, ""))
		f, err := os.Open(s.path("deleted"))
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(s.path("deleted"))
		l := h.next(runFile(t, f, 21))
		l.Exe.is(t, "executable", digest)
	})
	t.Run("O_TMPFILE", func(t *testing.T) {
		fd, err := unix.Open(s.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o700)
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(fd, tiny(22, 0x400000, ""))
		f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // for reading only
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		l := h.next(runFile(t, f, 22))
		l.Exe.is(t, "executable", digestOf(tiny(22, 0x400000, "")))
	})
	t.Run("memfd", func(t *testing.T) {
		pid, code := runPath(t, "memfd", s.path("static"))
		if l := h.next(pid); l.Reason != ReasonNoVerdict || code != 11 {
			t.Errorf("exit code %d, verdict %+v", code, l)
		}
	})
	t.Run("script in a memfd", func(t *testing.T) {
		pid, _ := runPath(t, "memfd-script", s.path("dynamic"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Script.unknown(t, "script", ReasonNoVerdict)
	})
	t.Run("failed script, then one in a memfd", func(t *testing.T) {
		put(t, s.path("broken"), []byte("#!"+s.path("dynamic")+"\n"))
		pid, _ := runPath(t, "broken-then-memfd", s.path("dynamic"), s.path("broken"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Script.unknown(t, "script", ReasonNoVerdict)
	})
	t.Run("a thread that is not the leader", func(t *testing.T) {
		pid, _ := runActor(t, "threads", s.path("script"))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Script.is(t, "script", s.script)
	})
	if c := h.tell("counts"); c.Lost+c.Deadline+c.Overrun+c.Refused != 0 || c.Own == 0 {
		t.Errorf("counts %+v", c)
	}
}

func digestOf(data []byte) string {
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// runFile executes an open file by its descriptor.
func runFile(t *testing.T, f *os.File, code int) int {
	t.Helper()
	defer f.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%v, want exit code %d", err, code)
	}
	return cmd.Process.Pid
}

func runActor(t *testing.T, name string, args ...string) (pid, code int) {
	t.Helper()
	cmd := actor(name, args...)
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, cmd.ProcessState.ExitCode()
}

func runPath(t *testing.T, how, program string, more ...string) (pid, code int) {
	t.Helper()
	return runActor(t, "hidden", append([]string{how, program}, more...)...)
}

// execHiddenScript executes out of an anonymous file in memory.
func execHiddenScript(args []string) error {
	how, program := args[0], args[1]
	fd, err := unix.MemfdCreate("hidden", 0)
	if err != nil {
		return err
	}
	data := []byte("#!" + program + "\n")
	if how == "memfd" {
		if data, err = os.ReadFile(program); err != nil {
			return err
		}
	}
	if _, err := unix.Write(fd, data); err != nil {
		return err
	}
	if how == "broken-then-memfd" {
		// The interpreter's loader is away for a moment: the exec fails after
		// script and interpreter name were read. Then the hidden script goes on.
		if err := os.Rename(program, program+".away"); err != nil {
			return err
		}
		if err := syscall.Exec(args[2], args[2:], nil); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("exec without an interpreter: %v", err)
		}
		if err := os.Rename(program+".away", program); err != nil {
			return err
		}
	}
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	return syscall.Exec(path, []string{path}, nil)
}

// execAmongThreads executes from a thread that is not the leader, while others
// sleep.
func execAmongThreads(args []string) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		for unix.Gettid() == os.Getpid() {
			return // cannot be: the main goroutine is on the leader
		}
		failed <- syscall.Exec(args[0], args, nil)
	}()
	return <-failed
}

func init() { runtime.LockOSThread() }

// TestOverlayIsSeenTwice: once as itself and once as what is below.
func TestOverlayIsSeenTwice(t *testing.T) {
	s := newStage(t)
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(s.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	merged := s.path("merged")
	if err := os.Mkdir(s.path("lower"), 0o700); err != nil {
		t.Fatal(err)
	}
	static := put(t, s.path("lower/static"), tiny(31, 0x400000, ""))
	script := put(t, s.path("lower/script"), []byte("#!"+merged+"/static\n"))
	mountAt(t, "none", merged, "overlay", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", s.path("lower"), s.path("upper"), s.path("work")))
	for name, only := range map[string][]string{"both": {s.dir, merged}, "overlay only": {merged}} {
		t.Run(name, func(t *testing.T) {
			h := gated(t, holding{Only: only})
			pid, _ := run(t, merged+"/static")
			l := h.next(pid)
			l.Exe.is(t, "executable", static)
			pid, _ = run(t, merged+"/script")
			l = h.next(pid)
			l.Exe.is(t, "executable", static)
			l.Script.is(t, "script", script)
		})
	}
	h := gated(t, holding{Only: []string{s.dir, merged}})
	if err := os.Chmod(merged+"/static", 0o755); err != nil { // copies it up
		t.Fatal(err)
	}
	pid, _ := run(t, merged+"/static")
	l := h.next(pid)
	l.Exe.is(t, "executable", static)
}

// TestHandlers: what binfmt_misc hands to a program is bound like a script.
func TestHandlers(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	mountAt(t, "none", dir, "binfmt_misc", "")
	h := gated(t, holding{Only: []string{s.dir}})
	for _, flag := range []string{"", "F", "O"} {
		name := fmt.Sprintf("jurat-gate-%d%s", os.Getpid(), flag)
		rule := fmt.Sprintf(":%s:E::%s::%s:%s", name, name, s.path("dynamic"), flag)
		if err := os.WriteFile(dir+"/register", []byte(rule), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0) })
		document := put(t, s.path("document."+name), []byte("hello"))
		pid, _ := run(t, s.path("document."+name))
		l := h.next(pid)
		l.Exe.is(t, "executable", s.dynamic)
		l.Script.is(t, "document with flag "+flag, document)
	}
}

// TestAQuestionIsNoExec: asking whether a file may be executed leaves nothing
// that the next exec could be taken for.
func TestAQuestionIsNoExec(t *testing.T) {
	s := newStage(t)
	if !execCheck(s.path("script")) {
		t.Skip("this kernel has no AT_EXECVE_CHECK")
	}
	h := gated(t, holding{Only: []string{s.dir}})
	cmd := actor("loop", "1", s.path("script"), s.path("dynamic"))
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	l := h.next(cmd.Process.Pid)
	l.Exe.is(t, "executable", s.dynamic)
	l.Script.is(t, "script", "")
}

// execLoop asks about a file so many times and then executes another.
func execLoop(args []string) error {
	times, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range times {
		execCheck(args[1])
	}
	return syscall.Exec(args[2], args[2:], nil)
}

// TestKilledHolder: fanotify fails open, and it shows.
func TestKilledHolder(t *testing.T) {
	s := newStage(t)
	h := gated(t, holding{Only: []string{s.dir}, Stuck: uint64(len(tiny(41, 0x400000, "")) + 1), Deadline: time.Hour})
	watcher := gated(t, holding{Only: []string{t.TempDir()}}) // has a sensor, and another file system
	put(t, s.path("stuck"), append(tiny(41, 0x400000, ""), 0))

	pid, _ := run(t, s.path("static"))
	l := h.next(pid)
	l.Exe.is(t, "executable", s.static)

	done := make(chan int)
	cmd := exec.Command(s.path("stuck"))
	go func() {
		cmd.Run()
		done <- cmd.ProcessState.ExitCode()
	}()
	for held := uint64(0); held == 0; { // it is in exec now, and stays there
		held = uint64(len(stopped(t, s.path("stuck"))))
	}
	h.kill()
	if code := <-done; code != 41 {
		t.Errorf("exit code %d: the exec did not go on when the holder died", code)
	}
	if l := watcher.next(cmd.Process.Pid); l.Reason != ReasonNoVerdict {
		t.Errorf("held by a gate that died: %+v", l)
	}
	pid, _ = run(t, s.path("static"))
	if l := watcher.next(pid); l.Reason != ReasonNoVerdict {
		t.Errorf("without a gate: %+v", l)
	}
}

// stopped returns the threads that are held in an exec of that file.
func stopped(t *testing.T, path string) []string {
	t.Helper()
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*/wchan")
	for _, p := range all {
		if where, err := os.ReadFile(p); err == nil && string(where) == "fanotify_get_response" {
			found = append(found, p)
		}
	}
	return found
}

// TestClosedGate: closing lets go, too, and what was said stays said.
func TestClosedGate(t *testing.T) {
	s := newStage(t)
	h := gated(t, holding{Only: []string{s.dir}})
	run(t, s.path("static"))
	if c := h.tell("close"); c.Held != 1 {
		t.Errorf("counts %+v", c)
	}
	pid, code := run(t, s.path("static"))
	if l := h.next(pid); l.Reason != ReasonNoVerdict || code != 11 {
		t.Errorf("exit code %d, verdict %+v", code, l)
	}
}

// TestDeadline: a digest that does not come holds nobody for ever, and an
// ordinary exec not at all, however many wait.
func TestDeadline(t *testing.T) {
	s := newStage(t)
	stuck, slow := append(tiny(51, 0x400000, ""), 0), append(tiny(52, 0x400000, ""), 0, 0)
	put(t, s.path("stuck"), stuck)
	put(t, s.path("slow"), slow)
	h := gated(t, holding{Only: []string{s.dir}, Stuck: uint64(len(stuck)), Slow: uint64(len(slow)), Deadline: 2 * time.Second, Workers: 2})
	pid, _ := run(t, s.path("static"))
	h.next(pid)
	var waiting []*exec.Cmd
	for _, name := range []string{"stuck", "slow", "stuck", "slow", "stuck", "slow"} {
		cmd := exec.Command(s.path(name))
		if err := startHeld(cmd); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, cmd)
	}
	for _, cmd := range waiting {
		cmd.Wait()
		l := h.next(cmd.Process.Pid)
		if l.Exe.Reason != "unknown (deadline)" || l.Reason != "" {
			t.Errorf("%s: %+v", cmd.Path, l)
		}
	}
	if c := h.tell("counts"); c.Deadline < 4 {
		t.Errorf("counts %+v", c)
	}
}

// startHeld starts a program whose exec is held: os/exec waits for the exec
// itself, so it is done from a shell that goes on.
func startHeld(cmd *exec.Cmd) error {
	cmd.Args = []string{"sh", "-c", "exec " + cmd.Path}
	cmd.Path = "/bin/sh"
	return cmd.Start()
}

// TestNoProgramFromTheHolder: what would stop the host waits until Close.
func TestNoProgramFromTheHolder(t *testing.T) {
	s := newStage(t)
	out, err := actor("forks", s.dir).Output()
	if err != nil || string(out) != "closed\nran\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func forkUnderGate(args []string) error {
	g, err := Open(Options{Digester: &hasher{}, Only: args})
	if err != nil {
		return err
	}
	ran := make(chan error)
	go func() { ran <- exec.Command(filepath.Join(args[0], "static")).Run() }()
	select {
	case err := <-ran:
		return fmt.Errorf("a program ran: %v", err)
	case <-time.After(200 * time.Millisecond): // long enough for one that is not stopped
	}
	fmt.Println("closed")
	if err := g.Close(); err != nil {
		return err
	}
	if _, ok := errors.AsType[*exec.ExitError](<-ran); !ok {
		return errors.New("it did not run after Close")
	}
	fmt.Println("ran")
	return nil
}

// TestOpenNeedsPrivilege: who may not hold is told so.
func TestOpenNeedsPrivilege(t *testing.T) {
	need(t)
	cmd := actor("forks", "/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var text textBuffer
	cmd.Stderr = &text
	if err := cmd.Run(); err == nil || !text.has("execs cannot be held") || !text.has("CAP_SYS_ADMIN") {
		t.Errorf("%v: %s", err, text.b)
	}
}

type textBuffer struct{ b []byte }

func (t *textBuffer) Write(b []byte) (int, error) { t.b = append(t.b, b...); return len(b), nil }
func (t *textBuffer) has(s string) bool           { return strings.Contains(string(t.b), s) }

// TestResponseSize holds the answer to what the kernel reads.
func TestResponseSize(t *testing.T) {
	if n := unsafe.Sizeof(unix.FanotifyResponse{}); n != 8 {
		t.Errorf("%d bytes, want 8", n)
	}
}
