// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/bpf"
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
	h := openGate(t, Options{only: []string{s.dir}})

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
}

func digestOf(data []byte) string {
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// runFile executes an open file by its descriptor.
func runFile(t *testing.T, f *os.File, code int) int {
	t.Helper()
	defer f.Close()
	cmd := command(t, "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%v, want exit code %d", err, code)
	}
	return cmd.Process.Pid
}

func runActor(t *testing.T, name string, args ...string) (pid, code int) {
	t.Helper()
	cmd := actor(t, name, args...)
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
			h := openGate(t, Options{only: only})
			pid, _ := run(t, merged+"/static")
			l := h.next(pid)
			l.Exe.is(t, "executable", static)
			pid, _ = run(t, merged+"/script")
			l = h.next(pid)
			l.Exe.is(t, "executable", static)
			l.Script.is(t, "script", script)
		})
	}
	h := openGate(t, Options{only: []string{s.dir, merged}})
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
	h := openGate(t, Options{only: []string{s.dir}})
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
	h := openGate(t, Options{only: []string{s.dir}})
	cmd := actor(t, "loop", "1", s.path("script"), s.path("dynamic"))
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

// TestKilledHolder: the kernel lets go, what was held has no verdict, and
// another holder takes over.
func TestKilledHolder(t *testing.T) {
	s := newStage(t)
	stuck := append(tiny(41, 0x400000, ""), 0)
	put(t, s.path("stuck"), stuck)
	t.Setenv("GATE_STUCK", strconv.Itoa(len(stuck)))
	h := openGate(t, Options{only: []string{s.dir}, Deadline: time.Hour})
	pid, _ := run(t, s.path("static"))
	h.next(pid).Exe.is(t, "executable", s.static)

	holder := h.holder()
	cmd := held1(t, s.path("stuck"))
	unix.Kill(holder, unix.SIGKILL)
	end(t, cmd, 41)
	if l := h.next(cmd.Process.Pid); l.Reason != ReasonNoVerdict {
		t.Errorf("held by a gate that died: %+v", l)
	}
	h.gone(holder)
	if next := h.holder(); next == holder {
		t.Error("no other holder")
	}
	pid, _ = run(t, s.path("static"))
	h.next(pid).Exe.is(t, "executable", s.static)
}

// TestStoppedHolder: whatever keeps the holder from running, the host goes on.
func TestStoppedHolder(t *testing.T) {
	s := newStage(t)
	h := openGate(t, Options{only: []string{s.dir}})
	for name, stop := range map[string]func(pid int){
		"SIGSTOP":  func(pid int) { unix.Kill(pid, unix.SIGSTOP) },
		"debugger": func(pid int) { debugged(t, pid) },
		"freezer":  func(pid int) { freeze(t, pid) },
	} {
		t.Run(name, func(t *testing.T) {
			holder := h.holder()
			stop(holder)
			pid, code := run(t, s.path("static"))
			if l := h.next(pid); l.Reason != ReasonNoVerdict || code != 11 {
				t.Errorf("exit code %d, verdict %+v", code, l)
			}
			h.gone(holder)
			h.holder()
			pid, _ = run(t, s.path("static"))
			h.next(pid).Exe.is(t, "executable", s.static)
		})
	}
}

// debugged has a debugger stop a process.
func debugged(t *testing.T, pid int) {
	t.Helper()
	cmd := actor(t, "debugger", strconv.Itoa(pid))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var b [1]byte
	if _, err := out.Read(b[:]); err != nil {
		t.Fatal(err)
	}
}

// debug stops every thread of a process, and waits to be killed.
func debug(args []string) error {
	names, err := os.ReadDir("/proc/" + args[0] + "/task")
	if err != nil {
		return err
	}
	for _, n := range names {
		tid, err := strconv.Atoi(n.Name())
		if err == nil {
			err = unix.PtraceSeize(tid)
		}
		if err == nil {
			err = unix.PtraceInterrupt(tid)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println("stopped")
	select {}
}

// freeze puts a process into a frozen cgroup.
func freeze(t *testing.T, pid int) {
	t.Helper()
	root := ""
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil && root == "" {
			root = dir
		}
	}
	if root == "" {
		t.Skip("no cgroup v2 here")
	}
	dir := filepath.Join(root, fmt.Sprintf("jurat-gate-test-%d", pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	for name, text := range map[string]string{"cgroup.procs": strconv.Itoa(pid)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestKilledAgent: a holder that nobody listens to ends.
func TestKilledAgent(t *testing.T) {
	s := newStage(t)
	h := openGate(t, Options{only: []string{s.dir}})
	fd, err := unix.PidfdOpen(h.holder(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	h.mu.Lock()
	unix.Shutdown(h.conn, unix.SHUT_RDWR) // what the kernel does when the agent dies
	h.mu.Unlock()
	if ended, err := readable(fd, patience); err != nil || !ended {
		t.Errorf("the holder goes on: %v", err)
	}
}

// TestClosedGate: closing lets go, too, and what was said stays said.
func TestClosedGate(t *testing.T) {
	s := newStage(t)
	h := openGate(t, Options{only: []string{s.dir}})
	before, _ := run(t, s.path("static"))
	h.Close()
	h.next(before).Exe.is(t, "executable", s.static)
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
	t.Setenv("GATE_STUCK", strconv.Itoa(len(stuck)))
	t.Setenv("GATE_SLOW", strconv.Itoa(len(slow)))
	h := openGate(t, Options{only: []string{s.dir}, Deadline: 2 * time.Second})
	pid, _ := run(t, s.path("static"))
	h.next(pid)
	var all []*exec.Cmd
	for range workers + 2 { // more than there are to wait for them
		all = append(all, held1(t, s.path("stuck")), held1(t, s.path("slow")))
	}
	pid, _ = run(t, s.path("static"))
	h.next(pid).Exe.is(t, "executable", s.static)
	for i, cmd := range all {
		end(t, cmd, 51+i%2)
		if l := h.next(cmd.Process.Pid); l.Exe.Reason != ReasonDeadline || l.Reason != "" {
			t.Errorf("%s: %+v", cmd.Args, l)
		}
	}
}

// TestStuckReader: who reads events hangs at a file it took for known. Another
// one takes over, and this one's file is let go.
func TestStuckReader(t *testing.T) {
	s := newStage(t)
	t.Setenv("GATE_STUCK", "1")
	h := openGate(t, Options{only: []string{s.dir}, Deadline: 500 * time.Millisecond})
	for i, want := range []string{"", ReasonDeadline, ReasonDeadline} {
		pid, _ := run(t, s.path("static"))
		if l := h.next(pid); l.Exe.Reason != want || l.Reason != "" {
			t.Errorf("%d: %+v, want %q", i, l, want)
		}
	}
	pid, _ := run(t, s.path("script")) // others are not held up by it
	h.next(pid).Script.is(t, "script", s.script)
}

// held1 starts a program whose exec is held, and returns when it is: os/exec
// waits for the exec itself, so a shell that goes on does it.
func held1(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := command(t, "/bin/sh", "-c", "exec "+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	nextExec(t, cmd.Process.Pid) // the shell's own
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", cmd.Process.Pid))
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", cmd.Process.Pid))
		number, _, _ := strings.Cut(string(state), " ")
		if n, err := strconv.Atoi(number); strings.Contains(string(where), "fanotify") || err == nil && n == unix.SYS_EXECVE {
			return cmd
		}
	}
	t.Fatalf("%s is not held", path)
	return nil
}

func end(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	if err := cmd.Wait(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Errorf("%s: %v, want exit code %d: it did not go on", cmd.Args, err, code)
	}
}

// TestManyExecs: each exec of a storm has its verdict, and nothing is left.
func TestManyExecs(t *testing.T) {
	s := newStage(t)
	h := openGate(t, Options{only: []string{s.dir}})
	const each = 200
	var group sync.WaitGroup
	pids := make(chan int, 4*each)
	for range 4 {
		group.Go(func() {
			for i := range each {
				pid, _ := run(t, s.path([]string{"static", "script"}[i%2]))
				pids <- pid
			}
		})
	}
	group.Wait()
	close(pids)
	for pid := range pids {
		ev := nextExec(t, pid)
		h.mu.Lock()
		h.drain()
		h.mu.Unlock()
		dump := ""
		for _, k := range h.lines[uint32(pid)] {
			dump += fmt.Sprintf("%+v\n", *k)
		}
		v, ok := h.of(ev).Get()
		if script, known := v.Script.Get(); !ok || !known || (script != nil) != (ev.Program.Filename.String() == s.path("script")) {
			t.Fatalf("exec of %s, interpreter %s: script %v, %+v\n%s lost %d at %d", ev.Program.Filename.String(), ev.Program.Interp.String(), v.Script, v, dump, h.lost, ev.Time)
		}
	}
	if h.count != 0 {
		t.Errorf("%d files left", h.count)
	}
}

// TestNewMounts: what is mounted while the gate holds is held soon after, in
// this mount namespace and, after one exec without verdict, in another.
func TestNewMounts(t *testing.T) {
	h := openGate(t, Options{})
	s := newStage(t)
	within(t, "a mount", func() bool {
		pid, _ := run(t, s.path("static"))
		return h.next(pid).Exe.Digest == s.static
	})
	// The shell mounts out of sight, and runs what is there again and again.
	script := "mount -t tmpfs none " + s.dir + " && cp /proc/self/fd/3 " + s.path("hidden") + " && while :; do " + s.path("hidden") + "; echo; read x || exit; done"
	program, err := os.Open(s.path("static"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	cmd := command(t, "/bin/sh", "-c", script)
	cmd.ExtraFiles = []*os.File{program}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line [1]byte
	first := true
	within(t, "a mount in another namespace", func() bool {
		if _, err := out.Read(line[:]); err != nil {
			t.Fatal(err)
		}
		v := h.of(execOf(t, s.path("hidden")))
		_, ok := v.Get()
		if first && ok {
			t.Error("held at once: this shows nothing")
		}
		first = false
		fmt.Fprintln(in)
		return ok
	})
	in.Close()
	cmd.Wait()
}

// within repeats something until it is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Errorf("%s: not seen", what)
}

// execOf returns an exec of that file.
func execOf(t *testing.T, path string) *bpf.Event {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		hub.mu.Lock()
		for pid, all := range hub.execs {
			for i, ev := range all {
				if ev.Program.Filename.String() == path {
					hub.execs[pid] = append(all[:i:i], all[i+1:]...)
					hub.mu.Unlock()
					return ev
				}
			}
		}
		hub.mu.Unlock()
	}
	t.Fatalf("no exec of %s", path)
	return nil
}

// TestOpenNeedsPrivilege: who may not hold is told so.
func TestOpenNeedsPrivilege(t *testing.T) {
	need(t)
	cmd := actor(t, "open")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "execs cannot be held") || !strings.Contains(string(out), "CAP_SYS_ADMIN") {
		t.Errorf("%v: %s", err, out)
	}
}

func openUnprivileged([]string) error {
	g, err := Open(context.Background(), Options{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		g.Close()
		return errors.New("execs are held")
	}
	if !errors.Is(err, ErrUnsupported) {
		return err
	}
	fmt.Println(err)
	return nil
}

// TestSizes holds what the kernel is told to what it reads.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(unix.FanotifyResponse{}); n != 8 {
		t.Errorf("response of %d bytes, want 8", n)
	}
	if n := unsafe.Sizeof(sigevent{}); n != 64 {
		t.Errorf("sigevent of %d bytes, want 64", n)
	}
}

// BenchmarkExec runs a program that ends at once, with execs held or not. Beside
// the time by the clock it tells the processor time of all that take part, which
// a busy machine disturbs less.
func BenchmarkExec(b *testing.B) {
	for _, on := range []bool{false, true} {
		for _, name := range []string{"static", "script"} {
			b.Run(map[bool]string{false: "free", true: "held"}[on]+"/"+name, func(b *testing.B) {
				s, holder := newStage(b), 0
				if on {
					holder = openAlone(b, Options{only: []string{s.dir}}).holder()
				}
				exec.Command(s.path(name)).Run()
				before := spent(b, holder)
				for b.Loop() {
					exec.Command(s.path(name)).Run()
				}
				b.ReportMetric(float64((spent(b, holder)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// spent is the processor time of this process, the programs it waited for, and
// a holder.
func spent(b *testing.B, holder int) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if holder == 0 {
		return sum
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", holder))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range threads {
		text, _ := os.ReadFile(path)
		first, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.Atoi(first)
		sum += time.Duration(n)
	}
	return sum
}
