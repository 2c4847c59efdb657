// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// full measures p and closes what is held for it when the test ends.
func full(t testing.TB, m *Meter, p *process, f *Facts) (*evidence.Process, *Pins) {
	t.Helper()
	out, pins, err := m.Process(context.Background(), p.pidfd, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pins.Close)
	if _, err := evidence.Marshal(out); err != nil {
		t.Fatal(err)
	}
	return out, pins
}

func value[T any](t testing.TB, v evidence.Value[T]) T {
	t.Helper()
	got, ok := v.Get()
	if !ok {
		t.Fatalf("value is %v", v)
	}
	return got
}

func TestProcessStatic(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	out, pins := full(t, m, p, p.facts(t))
	exe := value(t, out.Exe)
	if known(t, exe.Digest) != sumOf(t, victim(t)) || exe.Path != victim(t) {
		t.Errorf("exe is %+v", exe)
	}
	if maps := value(t, out.Maps); len(maps) != 1 || maps[0].ID != exe.ID {
		t.Errorf("maps are %+v", maps)
	}
	if loader := value(t, out.Loader); loader != nil {
		t.Errorf("loader is %+v", loader)
	}
	if script := value(t, out.Script); script != nil {
		t.Errorf("script is %+v", script)
	}
	for _, reason := range []string{out.Code.Reason(), out.Models.Reason(), out.Inputs.Reason(), out.Devices.Reason()} {
		if reason != reasonNotYet {
			t.Errorf("reason %q", reason)
		}
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
}

func TestProcessDynamic(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command("/bin/bash", "-c", "echo ready; read x"))
	out, pins := full(t, m, p, p.facts(t))
	maps := value(t, out.Maps)
	if len(maps) < 3 || maps[0].Path != value(t, out.Exe).Path {
		t.Fatalf("maps are %+v", maps)
	}
	for _, f := range maps {
		if known(t, f.Digest) != sumOf(t, f.Path) {
			t.Errorf("%s: digest %v, want %s", f.Path, f.Digest, sumOf(t, f.Path))
		}
	}
	loader := value(t, out.Loader)
	if loader == nil || !strings.Contains(loader.Path, "ld-linux") || known(t, loader.Digest) != sumOf(t, loader.Path) {
		t.Errorf("loader is %+v", loader)
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
}

// clean reports whether a look shows nothing to hold against a process.
func clean(s evidence.State) bool {
	unmeasured, ok1 := s.Unmeasured.Get()
	private, ok2 := s.Private.Get()
	tracer, ok3 := s.Tracer.Get()
	missing, ok4 := s.Missing.Get()
	return ok1 && ok2 && ok3 && ok4 && s.Alive && s.Generation == 1 && len(s.Taints) == 0 &&
		unmeasured == 0 && private == 0 && tracer == 0 && len(missing) == 0
}

// A program started through the loader shows in the maps: what runs is what
// is mapped, whatever exec was called with.
func TestProcessThroughLoader(t *testing.T) {
	needRoot(t)
	loaders, err := filepath.Glob("/lib64/ld-linux-*.so*")
	if arm, _ := filepath.Glob("/lib/ld-linux-*.so*"); err != nil || len(loaders)+len(arm) == 0 {
		t.Fatal("no loader", err)
	} else {
		loaders = append(loaders, arm...)
	}
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(loaders[0], "/bin/bash", "-c", "echo ready; read x"))
	out, _ := full(t, m, p, p.facts(t))
	if exe := value(t, out.Exe); known(t, exe.Digest) != sumOf(t, loaders[0]) {
		t.Errorf("exe is %+v", exe)
	}
	if !slices.ContainsFunc(value(t, out.Maps), func(f evidence.File) bool { return observed(f.Digest) == sumOf(t, "/bin/bash") }) {
		t.Error("the program is not among the maps")
	}
}

func TestProcessContext(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{Environment: []string{"TASK", "BAD"}})
	dir := t.TempDir()
	cmd := exec.Command(victim(t))
	cmd.Dir = dir
	cmd.Env = []string{"TASK=one", "BAD=\xff", "LD_AUDIT=", "SECRET=x"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 12, Gid: 34, Groups: []uint32{56, 78}},
		Setsid:     true, Cloneflags: unix.CLONE_NEWUTS,
	}
	if err := errors.Join(os.Chmod(filepath.Dir(victim(t)), 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	p := start(t, cmd)
	f := p.facts(t)
	f.Exec.Variables = []string{"LD_AUDIT"}
	out, _ := full(t, m, p, f)
	c := value(t, out.Credentials)
	want := evidence.Credentials{UID: 12, EUID: 12, SUID: 12, FSUID: 12, GID: 34, EGID: 34, SGID: 34, FSGID: 34, Bounding: c.Bounding}
	if c != want || c.Bounding == 0 {
		t.Errorf("credentials are %+v", c)
	}
	if g := value(t, out.Groups); !slices.Equal(g, []uint32{56, 78}) {
		t.Errorf("groups are %v", g)
	}
	ns := value(t, out.Namespaces)
	if ns.UTS == m.own.UTS || ns.PID != m.own.PID || ns.Mount != m.own.Mount || ns.IPC != m.own.IPC {
		t.Errorf("namespaces are %+v, own %+v", ns, m.own)
	}
	if d := value(t, out.Directory); d != dir {
		t.Errorf("directory is %q", d)
	}
	if s := value(t, out.Session); s != uint32(p.pid) {
		t.Errorf("session is %d", s)
	}
	if tty := value(t, out.TTY); tty != "" {
		t.Errorf("tty is %q", tty)
	}
	if e, _ := out.Environment.Observed(); e["TASK"] != "one" || e["BAD"] != `\xff` || len(e) != 2 || out.Environment.Taints()[0] != taintNotText {
		t.Errorf("environment is %v", out.Environment)
	}
	if i := value(t, out.Interference); !slices.Equal(i, []string{"LD_AUDIT"}) {
		t.Errorf("interference is %v", i)
	}
	if a := value(t, out.Arguments); a != evidence.Hash(sha256.Sum256([]byte(victim(t)+"\x00"))) {
		t.Errorf("arguments are %v", a)
	}
	if out.Label.Reason() == "" && len(out.Label.Taints()) > 0 {
		t.Errorf("label is %v", out.Label)
	}
	if c := value(t, out.Container); c != nil {
		t.Errorf("container is %+v", c)
	}
}

// What the kernel saw at exec and the process does not show any more.
func TestProcessRewritesItself(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))

	f := p.facts(t)
	f.Exec.Variables = []string{"LD_PRELOAD"}
	out, _ := full(t, m, p, f)
	if i, _ := out.Interference.Observed(); !slices.Contains(i, "LD_PRELOAD") || !slices.Contains(out.Interference.Taints(), taintEnviron) {
		t.Errorf("interference is %v", out.Interference)
	}

	f = p.facts(t)
	f.Exec.VariablesRead = false
	out, _ = full(t, m, p, f)
	if !slices.Equal(out.Interference.Taints(), []string{taintSelf}) {
		t.Errorf("interference is %v", out.Interference)
	}

	for _, c := range []struct {
		kernel string
		size   uint64
		taint  string
	}{
		{"", 0, taintSelf},
		{victim(t)[:5], uint64(len(victim(t)) + 1), taintSelf},
		{victim(t)[:5], 99, taintArguments},
		{"other", uint64(len(victim(t)) + 1), taintArguments},
	} {
		f = p.facts(t)
		f.Exec.Arguments, f.Exec.ArgumentsSize = []byte(c.kernel), c.size
		out, _ = full(t, m, p, f)
		if !slices.Equal(out.Arguments.Taints(), []string{c.taint}) {
			t.Errorf("%+v: arguments are %v", c, out.Arguments)
		}
	}
	f = p.facts(t)
	f.Exec.Arguments, f.Exec.ArgumentsSize = []byte("real\x00"), 5
	out, _ = full(t, m, p, f)
	if a := value(t, out.Arguments); a != evidence.Hash(sha256.Sum256([]byte("real\x00"))) {
		t.Errorf("the kernel's copy does not count: %v", a)
	}
}

func TestProcessIsAnother(t *testing.T) {
	needRoot(t)
	m, k := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	for name, c := range map[string]struct {
		change func(*Facts)
		want   error
	}{
		"pid":         {func(f *Facts) { f.Instance.PID++ }, ErrExited},
		"pidfd inode": {func(f *Facts) { f.Instance.PidfdInode++ }, ErrExited},
		"start":       {func(f *Facts) { f.Instance.PidfdInode = 0; f.Instance.Start += 2 * clockTick }, ErrExited},
		"generation":  {func(f *Facts) { f.Instance.Generation++ }, ErrChanged},
	} {
		f := p.facts(t)
		c.change(f)
		if _, _, err := m.Process(context.Background(), p.pidfd, f); !errors.Is(err, c.want) {
			t.Errorf("other %s: %v", name, err)
		}
	}

	// Exec in the middle of the measurement.
	f, asked := p.facts(t), 0
	k.asked = func(uint32) {
		if asked++; asked > 1 {
			k.states[uint32(p.pid)] = State{Generation: 2}
		}
	}
	if _, _, err := m.Process(context.Background(), p.pidfd, f); !errors.Is(err, ErrChanged) {
		t.Errorf("exec while measured: %v", err)
	}
	k.asked = nil

	f = p.facts(t)
	p.stop()
	if _, _, err := m.Process(context.Background(), p.pidfd, f); !errors.Is(err, ErrExited) {
		t.Errorf("ended: %v", err)
	}
	if _, _, err := m.Process(context.Background(), 0, f); err == nil {
		t.Error("a descriptor that is no pidfd is taken for one")
	}
	if _, _, err := m.Process(context.Background(), -1, f); err == nil {
		t.Error("a descriptor that is closed is taken for a pidfd")
	}
}

// Another executable than the kernel reported: PR_SET_MM_EXE_FILE, or a
// record that is not of this program.
func TestProcessExeIsNotTheKernels(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	f := p.facts(t)
	f.Exec.Exe.Inode++
	f.Exec.Text.Inode++
	out, _ := full(t, m, p, f)
	if exe := value(t, out.Exe); exe.Digest.Reason() != reasonRaced {
		t.Errorf("exe is %+v", exe)
	}
	if maps := value(t, out.Maps); maps[0].Digest.Reason() != reasonRaced {
		t.Errorf("maps are %+v", maps)
	}
}

// The executable is not mapped executable: the process runs something else.
func TestProcessExeNotMapped(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := copyTo(t, filepath.Join(t.TempDir(), "other"), victim(t))
	p := start(t, exec.Command(victim(t), "map", path))
	target, err := m.attach(p.pidfd)
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	e := p.record(t)
	i := &image{m: m, t: target, e: &e, index: make(map[evidence.FileID]int), loader: -1, overlays: overlays{m: m, t: target}}
	if err := i.executable(context.Background()); err != nil {
		t.Fatal(err)
	}
	all, _, err := target.executables(0)
	if err != nil {
		t.Fatal(err)
	}
	for k := range all {
		if all[k].name == path {
			err = i.add(context.Background(), &all[k], nil)
		}
	}
	if v := i.exe(); err != nil || len(i.files) != 2 || !slices.Equal(v.Taints(), []string{taintNotMapped}) {
		t.Error(v, i.files, err)
	}
}

// The mappings change while they are measured.
func TestProcessMapsMeanwhile(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := copyTo(t, filepath.Join(t.TempDir(), "plugin"), victim(t))
	p := start(t, exec.Command(victim(t), "again", path))
	f, changes := p.facts(t), 1
	m.now = func() time.Time { // asked for every file
		if changes > 0 {
			changes--
			p.in.Write([]byte{0})
			if line, err := p.out.ReadString('\n'); line != "mapped\n" {
				t.Errorf("%q, %v", line, err)
			}
		}
		return time.Now()
	}
	out, _ := full(t, m, p, f)
	if d := mapped(t, out, path).Digest; known(t, d) != sumOf(t, path) {
		t.Errorf("a file mapped meanwhile: %v", d)
	}
	changes = 1000
	out, _ = full(t, m, p, f)
	if out.Maps.Reason() != reasonRaced || out.Exe.Reason() != reasonRaced || out.Script.Reason() != reasonRaced {
		t.Errorf("maps that keep changing: %v, %v, %v", out.Maps, out.Exe, out.Script)
	}
}

func TestProcessAncestors(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	out, _ := full(t, m, p, p.facts(t))
	all := value(t, out.Ancestors)
	if len(all) < 2 || all[0].Instance.PID != uint32(os.Getpid()) || all[len(all)-1].Instance.PID != 1 {
		t.Fatalf("ancestors are %+v", all)
	}
	if d := all[0].Digest; observed(d) != sumOf(t, "/proc/self/exe") {
		t.Errorf("parent runs %v", d)
	}
	if start := startOf(t, os.Getpid()); all[0].Instance.Start != start-start%clockTick {
		t.Errorf("parent is %v, started %d", all[0].Instance, start)
	}

	told := evidence.Ancestor{Path: "told", Digest: evidence.Unknown[evidence.Digest]("x")}
	m.table = table{pid: uint32(os.Getpid()), found: told}
	out, _ = full(t, m, p, p.facts(t))
	if all := value(t, out.Ancestors); all[0].Path != "told" || all[1].Path == "told" {
		t.Errorf("ancestors are %+v", all)
	}
}

// table knows the process pid, or every process when pid is 0.
type table struct {
	pid   uint32
	found evidence.Ancestor
}

func (t table) Find(i evidence.Instance) (evidence.Ancestor, bool) {
	return t.found, i.PID == t.pid || t.pid == 0
}

func TestProcessCgroup(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	if m.cgroups.root < 0 {
		t.Fatal("no cgroup2 mount")
	}
	slice := filepath.Join(m.cgroups.mount, "system.slice")
	if err := os.Mkdir(slice, 0o755); err == nil {
		defer os.Remove(slice)
	}
	unit := filepath.Join(slice, fmt.Sprintf("measure-%d.service", os.Getpid()))
	inner := filepath.Join(unit, "docker-"+id64+".scope")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(unit)
	defer os.Remove(inner)
	p := start(t, exec.Command(victim(t)))
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), fmt.Append(nil, p.pid), 0); err != nil {
		t.Fatal(err)
	}
	out, _ := full(t, m, p, p.facts(t))
	want := strings.TrimPrefix(inner, m.cgroups.mount)
	if got := value(t, out.Cgroup); got != want {
		t.Errorf("cgroup %q, want %q", got, want)
	}
	if got := value(t, out.Unit); got != filepath.Base(unit) {
		t.Errorf("unit %q", got)
	}
	if c := value(t, out.Container); c == nil || c.ID != id64 || c.Runtime != "docker" {
		t.Errorf("container %+v", c)
	}

	var st unix.Stat_t
	if err := unix.Stat(inner, &st); err != nil {
		t.Fatal(err)
	}
	for range 2 { // read, and remembered
		if got := value(t, m.cgroups.path(st.Ino)); got != want {
			t.Errorf("cgroup %d is %q, want %q", st.Ino, got, want)
		}
	}
	if err := unix.Stat(m.cgroups.mount, &st); err != nil {
		t.Fatal(err)
	}
	if got := value(t, m.cgroups.path(st.Ino)); got != "/" {
		t.Errorf("the root is %q", got)
	}
	p.stop()
	if err := os.Remove(inner); err != nil {
		t.Fatal(err)
	}
	clear(m.cgroups.paths)
	if v := m.cgroups.path(st.Ino + 1<<40); v.Reason() == "" {
		t.Errorf("a cgroup that never was is %v", v)
	}
	if v := m.cgroups.path(0); v.Reason() != reasonNotKernel {
		t.Errorf("no number: %v", v)
	}
}

// Everything a process can choose is chosen badly.
func TestProcessHostile(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := filepath.Join(t.TempDir(), "a\nb\xff"+strings.Repeat("x", 200))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "1-2 r-xp 0 0:0 0 [vdso]\n0-ffff r-xp 0 0:0 0")
	copyTo(t, name, victim(t))
	cmd := exec.Command(victim(t), "map", name)
	cmd.Dir = dir
	cmd.Env = []string{"LD_" + strings.Repeat("\xff", 9000) + "=1", "=", "x", strings.Repeat("A=\xfe", 10000)}
	cmd.Args = append(cmd.Args, string(bytes.Repeat([]byte("\xff\n"), 30000)))
	p := start(t, cmd)
	os.WriteFile(fmt.Sprintf("/proc/%d/comm", p.pid), []byte("x\nTracerPid:\t1"), 0)
	f := p.facts(t)
	f.Exec.Filename = "\xff"
	out, pins := full(t, m, p, f)
	e := evidence.Entry{Version: 1, Kind: evidence.KindProcess, Instance: &f.Instance, Process: out}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.ParseEntry(b); err != nil {
		t.Errorf("the entry does not decode: %v", err)
	}
	light := m.Exec(context.Background(), &f.Exec)
	e = evidence.Entry{Version: 1, Kind: evidence.KindExec, Instance: &f.Instance, Exec: &light}
	if b, err = e.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.ParseEntry(b); err != nil {
		t.Errorf("the entry does not decode: %v", err)
	}
	maps := value(t, out.Maps)
	if len(maps) != 2 || known(t, maps[1].Digest) != sumOf(t, name) {
		t.Errorf("maps are %+v", maps)
	}
	if !slices.Equal(out.Directory.Taints(), []string{taintNotText}) {
		t.Errorf("directory is %v", out.Directory)
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
}

func TestFit(t *testing.T) {
	p := &evidence.Process{
		Exe: evidence.Unknown[evidence.File]("x"), Loader: evidence.Unknown[*evidence.File]("x"), Script: evidence.Unknown[*evidence.Script]("x"),
		Maps:      evidence.Known(make([]evidence.File, 9)),
		Arguments: evidence.Unknown[evidence.Hash]("x"), Code: evidence.Unknown[evidence.Manifest]("x"), Models: evidence.Unknown[[]evidence.File]("x"),
		Inputs: evidence.Unknown[[]evidence.File]("x"), Credentials: evidence.Unknown[evidence.Credentials]("x"), Groups: evidence.Unknown[[]uint32]("x"),
		Namespaces: evidence.Unknown[evidence.Namespaces]("x"), Cgroup: evidence.Unknown[string]("x"), Unit: evidence.Unknown[string]("x"),
		Container: evidence.Unknown[*evidence.Container]("x"), Ancestors: evidence.Unknown[[]evidence.Ancestor]("x"), Label: evidence.Unknown[string]("x"),
		Session: evidence.Unknown[uint32]("x"), TTY: evidence.Unknown[string]("x"), Directory: evidence.Unknown[string]("x"),
		Environment: evidence.Known(map[string]string{"A": "1"}), Devices: evidence.Unknown[[]string]("x"), Interference: evidence.Unknown[[]string]("x"),
	}
	files := make([]evidence.File, 100)
	for i := range files {
		files[i] = evidence.File{Path: strings.Repeat("x", evidence.MaxText), Digest: evidence.Unknown[evidence.Digest]("x")}
	}
	p.Maps = evidence.Known(files)
	if err := fit(p); err != nil {
		t.Fatal(err)
	}
	if p.Maps.Reason() != reasonTooLarge || p.Environment.Reason() != reasonTooLarge || p.Ancestors.Reason() != "x" {
		t.Errorf("maps %v, environment %v, ancestors %v", p.Maps.Reason(), p.Environment, p.Ancestors)
	}
	p.Directory = evidence.Known(strings.Repeat("x", maxEntryBody))
	if err := fit(p); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
}

func BenchmarkProcess(b *testing.B) {
	needRoot(b)
	m, _ := newMeter(b, Config{Table: table{found: evidence.Ancestor{Digest: evidence.Unknown[evidence.Digest]("told")}}})
	p := start(b, exec.Command("/bin/bash", "-c", "echo ready; read x"))
	f := p.facts(b)
	for b.Loop() {
		_, pins, err := m.Process(context.Background(), p.pidfd, f)
		if err != nil {
			b.Fatal(err)
		}
		pins.Close()
	}
}

func BenchmarkLook(b *testing.B) {
	needRoot(b)
	m, _ := newMeter(b, Config{})
	p := start(b, exec.Command("/bin/bash", "-c", "echo ready; read x"))
	_, pins := full(b, m, p, p.facts(b))
	for b.Loop() {
		if s := m.Look(p.pidfd, pins); !s.Alive {
			b.Fatal(s)
		}
	}
}
