// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

func needRoot(t testing.TB) {
	t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	}
	require.Need(t, "root", err)
}

// kernel stands in for the sensor: every process is at its first exec, unless
// the test says otherwise.
type kernel struct {
	mu     sync.Mutex
	states map[uint32]State
	none   uint32           // the process it keeps no state for
	asked  func(pid uint32) // called on each question
}

func (k *kernel) State(pidfd int) (State, error) {
	pid, err := pidOf(pidfd)
	if err != nil {
		return State{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked != nil {
		k.asked(pid)
	}
	if pid == k.none {
		return State{}, errors.New("no state")
	}
	if s, ok := k.states[pid]; ok {
		return s, nil
	}
	return State{Generation: 1}, nil
}

func (k *kernel) set(pid uint32, s State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states[pid] = s
}

func newMeter(t testing.TB, c Config) (*Meter, *kernel) {
	t.Helper()
	k := &kernel{states: make(map[uint32]State)}
	c.Kernel = k
	m, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, k
}

var victimPath = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "victim")
	if err != nil {
		return "", err
	}
	victimDir = dir
	out := filepath.Join(dir, "victim")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/victim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building victim: %v: %s", err, text)
	}
	time.Sleep(2 * settleTime) // or its digest would not be kept
	return out, nil
})

var victimDir string // removed at the end

func TestMain(m *testing.M) {
	code := m.Run()
	if victimDir != "" {
		os.RemoveAll(victimDir)
	}
	os.Exit(code)
}

func victim(t testing.TB) string {
	t.Helper()
	path, err := victimPath()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a running program under test.
type process struct {
	pid   int
	pidfd int
	in    io.WriteCloser
	out   *bufio.Reader
	cmd   *exec.Cmd
}

// start runs a program that says "ready" and then waits for the end of its input.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := launch(t, cmd)
	line, err := p.out.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%v: %q %v", cmd.Args, line, err)
	}
	return p
}

// launch runs a program and does not wait for it to say anything.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{pid: cmd.Process.Pid, pidfd: pidfd, in: in, out: bufio.NewReader(r), cmd: cmd}
	t.Cleanup(func() {
		p.stop()
		unix.Close(pidfd)
		r.Close()
	})
	return p
}

// stop ends the program and waits for it.
func (p *process) stop() {
	if p.cmd.ProcessState == nil {
		p.in.Close()
		p.cmd.Process.Signal(syscall.SIGKILL)
		p.cmd.Wait()
	}
}

// record makes up what the kernel would have said about the program p runs.
func (p *process) record(t testing.TB) Exec {
	t.Helper()
	exe := inode(t, fmt.Sprintf("/proc/%d/exe", p.pid))
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	i, err := pidfdInode(p.pidfd)
	if err != nil {
		t.Fatal(err)
	}
	return Exec{
		At:       sinceBoot(),
		Instance: evidence.Instance{PID: uint32(p.pid), Start: startOf(t, p.pid), PidfdInode: i, Generation: 1},
		Filename: p.cmd.Path, Interpreter: p.cmd.Path, Exe: exe, Text: exe,
		Arguments: args, ArgumentsSize: uint64(len(args)), VariablesRead: true,
	}
}

func (p *process) facts(t testing.TB) *Facts {
	e := p.record(t)
	return &Facts{Instance: e.Instance, Origin: evidence.OriginExec, Exec: e}
}

func startOf(t testing.TB, pid int) uint64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks uint64
	if _, err := fmt.Sscan(fields[19], &ticks); err != nil {
		t.Fatal(err)
	}
	return ticks*clockTick + 1234567
}

// inode makes up what the kernel holds of a file that is being executed.
func inode(t testing.TB, path string) Inode {
	t.Helper()
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Stat(path, &st), unix.Statfs(path, &fs)); err != nil {
		t.Fatal(err)
	}
	return Inode{
		Device: uint64(st.Dev), Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size), Links: uint32(st.Nlink),
		Magic: uint64(fs.Type), Writers: -1,
	}
}

// copyTo copies a file and lets its ctime settle.
func copyTo(t testing.TB, to, from string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, data)
	return to
}

func write(t testing.TB, to string, data []byte) {
	t.Helper()
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settleTime + tick)
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// known returns the digest in hexadecimal, and fails where there is none to believe.
func known(t testing.TB, v evidence.Value[evidence.Digest]) string {
	t.Helper()
	d, ok := v.Get()
	if !ok {
		t.Fatalf("digest is %v", v)
	}
	return d.Value.String()
}

func observed(v evidence.Value[evidence.Digest]) string {
	d, _ := v.Observed()
	return d.Value.String()
}

func exeDigest(t testing.TB, m *Meter, e *Exec) evidence.Value[evidence.Digest] {
	t.Helper()
	f, ok := m.Exec(context.Background(), e).Exe.Get()
	if !ok {
		t.Fatalf("exe is %v", f)
	}
	return f.Digest
}
