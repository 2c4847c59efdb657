// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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

	"github.com/jurat-dev/jurat/internal/require"
	"golang.org/x/sys/unix"
)

// The test binary is also the programs that tests watch: argument 1 says which.
var actors = map[string]func(args []string) error{
	"thread-exec": execFromThread,
	"orphan-exec": func(args []string) error {
		return withoutLeader(func() error { return syscall.Exec(args[0], args, nil) })
	},
	"orphan-exit": func([]string) error {
		return withoutLeader(func() error { os.Exit(7); return nil })
	},
	"open-in-time-namespace": func([]string) error {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/self/timens_offsets", []byte("boottime 1000000 0"), 0); err != nil {
			return err
		}
		out, err := actor("open").CombinedOutput()
		os.Stdout.Write(out)
		return err
	},
	"no-new-privs": func(args []string) error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		return syscall.Exec(args[0], args, nil)
	},
	"open-without-btf": func([]string) error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, ""); err != nil {
			return err
		}
		return openAndSay(nil)
	},
	"open": openAndSay,
	"wait": func([]string) error { os.Stdin.Read(make([]byte, 1)); return nil },
}

// Some actors end the leader of their process. The main goroutine is only sure
// to be on it when it is held there from the beginning.
func init() { runtime.LockOSThread() }

func openAndSay([]string) error {
	s, err := Open(Options{RingBytes: 1 << 16})
	if err != nil {
		fmt.Println(err)
		if open := new(OpenError); errors.As(err, &open) {
			fmt.Println(open.Hint)
		}
		return nil
	}
	fmt.Println("opened")
	return s.Close()
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && actors[os.Args[1]] != nil {
		if err := actors[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// execFromThread waits for a line, then calls exec on a thread that is not
// the leader.
func execFromThread(args []string) error {
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	done := make(chan error)
	for range 64 { // locked threads are not shared: one of them is not the leader
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() != os.Getpid() {
				done <- syscall.Exec(args[0], args, nil)
			}
			select {}
		}()
	}
	return <-done
}

// withoutLeader ends the leader's thread, waits for a line, then calls f on
// another thread.
func withoutLeader(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		for {
			state, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid()))
			if err == nil && strings.Contains(string(state), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			done <- err
		}
		done <- f()
	}()
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		return errors.New("main goroutine is not on the leader")
	}
	time.Sleep(10 * time.Millisecond)
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	return <-done
}

// needKernel goes on where programs can be loaded: root and type information.
func needKernel(t testing.TB) {
	t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	} else {
		_, err = os.Stat("/sys/kernel/btf/vmlinux")
	}
	require.Need(t, "bpf", err)
	require.Loads(t)
}

func open(t testing.TB, o Options) *Sensor {
	t.Helper()
	needKernel(t)
	s, err := Open(o)
	if err != nil {
		t.Fatalf("%v (cause: %+v)", err, errors.Unwrap(err))
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

// tape reads a sensor in the background and keeps all it says.
type tape struct {
	mu     sync.Mutex
	events []Event
}

func record(t testing.TB, s *Sensor) *tape {
	tp := new(tape)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var ev Event
		for {
			switch err := s.Read(&ev); {
			case err == nil:
				tp.mu.Lock()
				tp.events = append(tp.events, ev)
				tp.mu.Unlock()
				release(s)
			case errors.Is(err, ErrClosed):
				return
			case !errors.Is(err, ErrNoEvent):
				t.Errorf("reading: %v", err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return tp
}

// find returns the events for which want holds.
func (tp *tape) find(want func(*Event) bool) []Event {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	var found []Event
	for i := range tp.events {
		if want(&tp.events[i]) {
			found = append(found, tp.events[i])
		}
	}
	return found
}

// await returns the first event for which want holds.
func (tp *tape) await(t testing.TB, what string, want func(*Event) bool) Event {
	t.Helper()
	for range 5000 {
		if found := tp.find(want); len(found) > 0 {
			return found[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no event: %s", what)
	return Event{}
}

func is(kind Kind, pid int) func(*Event) bool {
	return func(ev *Event) bool { return ev.Kind == kind && ev.Process.PID == uint32(pid) }
}

// child is a process under test; it ends when its input does.
type child struct {
	*exec.Cmd
	pidfd int
	in    io.WriteCloser
}

func spawn(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd, pidfd: -1}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.PidFD = &c.pidfd
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.in.Close()
		c.Process.Kill()
		c.Wait()
		unix.Close(c.pidfd)
	})
	return c
}

// say sends a line to the child.
func (c *child) say(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

// actor is this test binary in the role of name.
func actor(name string, args ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{name}, args...)...)
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return st
}

func copyFile(t testing.TB, to, from string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// mount mounts a file system at dir for the test.
func mount(t testing.TB, kind, dir, options string) {
	t.Helper()
	err := unix.Mount(kind, dir, kind, 0, options)
	require.Need(t, "bpf", err)
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// status returns a line of /proc/PID/status, split at blanks.
func status(t testing.TB, pid int, name string) []string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Fields(rest)
		}
	}
	t.Fatalf("no %s in /proc/%d/status", name, pid)
	return nil
}

// startTicks returns field 22 of /proc/PID/stat: start time in 1/100 s.
func startTicks(t testing.TB, pid int) uint64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

// tiny writes the smallest program: it ends with status 0.
func tiny(t testing.TB) string {
	t.Helper()
	code := map[string][]uint32{
		"amd64": {0x00003cb8, 0x0fff3100, 0x00000005}, // mov eax, 60; xor edi, edi; syscall
		"arm64": {0xd2800ba8, 0xd2800000, 0xd4000001}, // mov x8, 93; mov x0, 0; svc 0
	}[runtime.GOARCH]
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + 4*len(code))
	var b []byte
	b = append(b, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for _, v := range []any{
		uint16(2), machine, uint32(1), uint64(base + headers), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096), code,
	} {
		b, _ = binary.Append(b, binary.LittleEndian, v)
	}
	path := filepath.Join(t.TempDir(), "tiny")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
