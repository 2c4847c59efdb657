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

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

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
	m.runtimes = runtimeFiles(t, map[string]string{dockerContainers + "/" + id64 + "/config.v2.json": `{"ID":"` + id64 + `","Image":"sha256:` + imageHex + `"}`})
	for owner, want := range map[int]string{0: "sha256:" + imageHex, 1000: "?" + reasonDenied} {
		if err := os.Chown(unit, owner, owner); err != nil { // as for a user's own manager, or with Delegate=
			t.Fatal(err)
		}
		out, _ = full(t, m, p, p.facts(t))
		if c := value(t, out.Container); shown(c.Image) != want || owner != 0 && shown(c.Pod) != want {
			t.Errorf("in a cgroup of user %d: image %s, pod %s", owner, shown(c.Image), shown(c.Pod))
		}
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
