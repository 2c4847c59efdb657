// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jurat-dev/jurat/internal/require"
	"golang.org/x/sys/unix"
)

const cat = "/bin/cat" // a program that waits for its input to end

// sameFile compares what the kernel said with what stat says.
func sameFile(t *testing.T, what string, f File, st unix.Stat_t) {
	t.Helper()
	want := File{
		Device: st.Dev, Inode: st.Ino, Size: uint64(st.Size), Ctime: st.Ctim.Nano(), Links: uint32(st.Nlink), Mode: st.Mode,
		Magic: f.Magic, Generation: f.Generation, Writers: f.Writers, MmapWritable: f.MmapWritable, Mount: f.Mount,
	}
	if f != want {
		t.Errorf("%s is %+v, stat says %+v", what, f, want)
	}
}

// sameProcess compares an event's process with /proc and its pidfd.
func sameProcess(t *testing.T, ev Event, c *child) {
	t.Helper()
	p := ev.Process
	if ticks := startTicks(t, c.Process.Pid); p.TID != p.PID || p.Start/1e7 != ticks {
		t.Errorf("%s of %+v, /proc has start %d0 ms", ev.Kind, p, ticks)
	}
	var st unix.Stat_t
	if err := unix.Fstat(c.pidfd, &st); err != nil {
		t.Fatal(err)
	}
	if kernelFrom(t, 6, 9) != (p.PidfdInode != 0) || p.PidfdInode != 0 && p.PidfdInode != st.Ino {
		t.Errorf("%s has pidfd inode %d, fstat says %d", ev.Kind, p.PidfdInode, st.Ino)
	}
	if p.Taints != 0 {
		t.Errorf("%s has taints %v", ev.Kind, p.Taints.Names())
	}
}

func TestForkExecExitAgainstProc(t *testing.T) {
	tp := record(t, open(t, Options{}))
	c := spawn(t, exec.Command(cat, "-", strings.Repeat("x", 200)))
	pid := c.Process.Pid
	fork := tp.await(t, "fork", is(KindFork, pid))
	run := tp.await(t, "exec", is(KindExec, pid))
	sameProcess(t, fork, c)
	sameProcess(t, run, c)
	if fork.Parent.PID != uint32(os.Getpid()) || run.Parent != fork.Parent {
		t.Errorf("parents %+v and %+v, want pid %d", fork.Parent, run.Parent, os.Getpid())
	}
	if fork.Process.Generation != fork.Parent.Generation || run.Process.Generation != fork.Process.Generation+1 {
		t.Errorf("generations: parent %d, fork %d, exec %d", fork.Parent.Generation, fork.Process.Generation, run.Process.Generation)
	}
	if fork.Process.Start != run.Process.Start || !fork.Process.Seen || run.Process.Seen {
		t.Errorf("fork of %+v, exec of %+v", fork.Process, run.Process)
	}
	if run.CgroupID == 0 || run.CgroupID != fork.CgroupID || run.Time < run.Process.Start {
		t.Errorf("cgroup %d and %d, time %d", fork.CgroupID, run.CgroupID, run.Time)
	}
	c.in.Close()
	exit := tp.await(t, "exit", is(KindExit, pid))
	if exit.Status != 1<<8 || exit.Process != run.Process { // cat finds no file xxx…
		t.Errorf("exit %+v with status %#x", exit.Process, exit.Status)
	}
}

func TestProgramAgainstStat(t *testing.T) {
	tp := record(t, open(t, Options{}))
	c := spawn(t, exec.Command(cat, "-", strings.Repeat("x", 200)))
	ev := tp.await(t, "exec", is(KindExec, c.Process.Pid))
	p := ev.Program
	sameFile(t, "file", p.File, stat(t, fmt.Sprintf("/proc/%d/exe", c.Process.Pid)))
	if p.File.Mount != MountAttached || p.Memfd() || p.File.Writers >= 0 {
		t.Errorf("file %+v", p.File)
	}
	backing := p.File
	backing.Mount = MountUnknown
	if p.Backing != backing {
		t.Errorf("backing %+v, file %+v", p.Backing, p.File)
	}
	want := FlagFile | FlagBacking
	if kernelFrom(t, 5, 17) {
		want |= FlagBackingMapped
	}
	if ev.Flags != want {
		t.Errorf("flags %b, want %b", ev.Flags, want)
	}
	if p.Argc != 3 || p.ArgvLen != uint32(len(cat)+1+2+201) || p.Argv.String() != (cat + "\x00-\x00" + strings.Repeat("x", 200))[:128] {
		t.Errorf("argc %d, %d bytes: %q", p.Argc, p.ArgvLen, p.Argv.String())
	}
	if p.Filename.String() != cat || p.Interp.String() != cat || p.CommString() != "cat" || p.OldTID != ev.Process.PID {
		t.Errorf("filename %q, interp %q, comm %q, old tid %d", p.Filename.String(), p.Interp.String(), p.CommString(), p.OldTID)
	}
}

func TestExitStatus(t *testing.T) {
	tp := record(t, open(t, Options{}))
	for script, want := range map[string]uint32{"exit 7": 7 << 8, "exit 0": 0, "kill -9 $$": 9} {
		c := spawn(t, exec.Command("/bin/sh", "-c", script))
		if ev := tp.await(t, script, is(KindExit, c.Process.Pid)); ev.Status != want {
			t.Errorf("%s: status %#x, want %#x", script, ev.Status, want)
		}
	}
	// A leader ends its thread with 0, another thread the process with 7.
	c := spawn(t, actor("orphan-exit", ""))
	c.say(t)
	if ev := tp.await(t, "exit without leader", is(KindExit, c.Process.Pid)); ev.Status != 7<<8 || ev.Process.TID == ev.Process.PID {
		t.Errorf("exit without leader: status %#x of %+v", ev.Status, ev.Process)
	}
}

func TestCredentialsAndNamespaces(t *testing.T) {
	tp := record(t, open(t, Options{}))
	cmd := exec.Command(cat)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65533},
		AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE},
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
			unix.CLONE_NEWCGROUP,
	}
	pid := spawn(t, cmd).Process.Pid
	ev := tp.await(t, "exec", is(KindExec, pid))
	c := ev.Program.Creds
	if have, want := fmt.Sprint(c.UID, c.EUID, c.SUID, c.FSUID), strings.Join(status(t, pid, "Uid"), " "); have != want {
		t.Errorf("uids %s, want %s", have, want)
	}
	if have, want := fmt.Sprint(c.GID, c.EGID, c.SGID, c.FSGID), strings.Join(status(t, pid, "Gid"), " "); have != want {
		t.Errorf("gids %s, want %s", have, want)
	}
	for name, have := range map[string]uint64{
		"CapInh": c.Inheritable, "CapPrm": c.Permitted, "CapEff": c.Effective, "CapBnd": c.Bounding, "CapAmb": c.Ambient,
	} {
		if want := status(t, pid, name)[0]; fmt.Sprintf("%016x", have) != want {
			t.Errorf("%s %016x, want %s", name, have, want)
		}
	}
	n := ev.Program.Namespaces
	for name, have := range map[string]uint32{
		"pid": n.PID, "mnt": n.Mount, "user": n.User, "net": n.Net, "cgroup": n.Cgroup, "uts": n.UTS, "ipc": n.IPC,
	} {
		if want := stat(t, fmt.Sprintf("/proc/%d/ns/%s", pid, name)).Ino; uint64(have) != want {
			t.Errorf("%s namespace %d, want %d", name, have, want)
		}
		if name != "user" && uint64(have) == stat(t, "/proc/self/ns/"+name).Ino {
			t.Errorf("%s namespace %d is our own", name, have)
		}
	}
	if ev.Flags.Has(FlagNoNewPrivs) || ev.Program.Creds.SeccompMode != 0 {
		t.Errorf("flags %b, seccomp %d", ev.Flags, ev.Program.Creds.SeccompMode)
	}

	bound := spawn(t, actor("no-new-privs", cat)).Process.Pid
	ev = tp.await(t, "exec under no_new_privs", func(ev *Event) bool {
		return is(KindExec, bound)(ev) && ev.Program.Filename.String() == cat
	})
	if !ev.Flags.Has(FlagNoNewPrivs) {
		t.Errorf("no_new_privs not reported: %b", ev.Flags)
	}
}

func TestLoaderVariables(t *testing.T) {
	tp := record(t, open(t, Options{}))
	hidden := "A=" + strings.Repeat("a", 255-2) + "LD_PRELOAD=x" // at the start of a piece, not of a variable
	many := make([]string, 300)
	for i := range many {
		many[i] = "V" + strconv.Itoa(i) + "="
	}
	for _, test := range []struct {
		env  []string
		want Flags
	}{
		{[]string{}, 0},
		{[]string{"LD_PRELOAD=/none"}, FlagPreload},
		{[]string{"A=1", "LD_AUDIT=", "B=2"}, FlagAudit},
		{[]string{"LD_LIBRARY_PATH=/none", "LD_PRELOAD="}, FlagLibraryPath | FlagPreload},
		{[]string{"XLD_PRELOAD=1", "LD_PRELOADX=1", "LD_PRELOAD", "LD_AUDI=", "LD_LIBRARY_PATHS=", "ld_preload="}, 0},
		{[]string{hidden}, 0},
		{[]string{"A=" + strings.Repeat("a", 254) + "LD_PRELOAD=x"}, 0},
		{[]string{"A=" + strings.Repeat("a", 253), "LD_AUDIT=x"}, FlagAudit}, // fills a piece
		{[]string{"", "LD_AUDIT=x"}, FlagAudit},
		{[]string{hidden + strings.Repeat("b", 5000), "LD_AUDIT=x"}, FlagAudit},
		{many[:256], 0},
		{many[:257], FlagEnvUnknown},
		{append(many, "LD_PRELOAD=x"), FlagEnvUnknown},
	} {
		cmd := exec.Command(cat)
		cmd.Env = test.env
		ev := tp.await(t, "exec", is(KindExec, spawn(t, cmd).Process.Pid))
		if have := ev.Flags & (FlagPreload | FlagAudit | FlagLibraryPath | FlagEnvUnknown); have != test.want {
			t.Errorf("environment of %d variables, %.40q…: flags %b, want %b", len(test.env), test.env, have, test.want)
		}
	}
}

// open3 makes the file descriptor 3 of cmd, which runs it.
func open3(cmd *exec.Cmd, fd int) *exec.Cmd {
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "program")}
	return cmd
}

func TestMemfdAndDeletedFile(t *testing.T) {
	tp := record(t, open(t, Options{}))
	code, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.MemfdCreate("anonymous", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(memory, code); err != nil {
		t.Fatal(err)
	}
	ev := tp.await(t, "memfd", is(KindExec, spawn(t, open3(exec.Command("/proc/self/fd/3"), memory)).Process.Pid))
	if f := ev.Program.File; !ev.Program.Memfd() || f.Mount != MountInternal || f.Links != 0 {
		t.Errorf("memfd: %v, %+v", ev.Program.Memfd(), f)
	}

	dir := t.TempDir()
	mount(t, "tmpfs", dir, "")
	path := copyFile(t, filepath.Join(dir, "cat"), cat)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ev = tp.await(t, "deleted file", is(KindExec, spawn(t, open3(exec.Command("/proc/self/fd/3"), fd)).Process.Pid))
	if f := ev.Program.File; ev.Program.Memfd() || f.Links != 0 || f.Mount != MountAttached || f.Magic != unix.TMPFS_MAGIC {
		t.Errorf("deleted file on a tmpfs: memfd %v, %+v", ev.Program.Memfd(), f)
	}

	path = copyFile(t, path, cat)
	if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	ev = tp.await(t, "unmounted file", is(KindExec, spawn(t, open3(exec.Command("/proc/self/fd/3"), fd)).Process.Pid))
	if f := ev.Program.File; f.Mount != MountDetached || f.Links != 1 {
		t.Errorf("file of a tmpfs that was unmounted: %+v", f)
	}
}

func TestScriptNamesItselfAndRunsItsInterpreter(t *testing.T) {
	tp := record(t, open(t, Options{}))
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread x\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ev := tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(script)).Process.Pid))
	if p := ev.Program; p.Filename.String() != script || p.Interp.String() != "/bin/sh" {
		t.Errorf("filename %q, interp %q", p.Filename.String(), p.Interp.String())
	}
	sameFile(t, "file", ev.Program.File, stat(t, "/bin/sh"))
}

func TestLongFilenameIsCut(t *testing.T) {
	tp := record(t, open(t, Options{}))
	path := copyFile(t, filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("f", 100)), cat)
	ev := tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(path)).Process.Pid))
	if have := ev.Program.Filename.String(); have != path[:127] || !ev.Flags.Has(FlagFilenameCut|FlagInterpCut) {
		t.Errorf("filename %q, flags %b", have, ev.Flags)
	}
}

// On an overlay the file is the overlay's, and the text is mapped from below.
func TestOverlayBacking(t *testing.T) {
	tp := record(t, open(t, Options{}))
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "")
	lower := copyFile(t, filepath.Join(dir, "lower", "cat"), cat)
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(dir, "merged")
	mount(t, "overlay", merged, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir))
	ev := tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(filepath.Join(merged, "cat"))).Process.Pid))
	if kernelFrom(t, 5, 17) {
		sameFile(t, "backing", ev.Program.Backing, stat(t, lower))
	}
	sameFile(t, "file", ev.Program.File, stat(t, filepath.Join(merged, "cat")))
	if ev.Program.File.Device == ev.Program.Backing.Device && ev.Flags.Has(FlagBackingMapped) {
		t.Errorf("file and backing on one device: %+v", ev.Program)
	}
}

func TestDeviceNumberOfRealFile(t *testing.T) {
	tp := record(t, open(t, Options{}))
	path := copyFile(t, filepath.Join(t.TempDir(), "cat"), cat)
	st := stat(t, path)
	ev := tp.await(t, "exec", is(KindExec, spawn(t, exec.Command(path)).Process.Pid))
	sameFile(t, "file", ev.Program.File, st)
	if ev.Program.File.Device != unix.Mkdev(unix.Major(st.Dev), unix.Minor(st.Dev)) {
		t.Errorf("device %#x, want %d:%d", ev.Program.File.Device, unix.Major(st.Dev), unix.Minor(st.Dev))
	}
}

func TestCgroupMove(t *testing.T) {
	tp := record(t, open(t, Options{}))
	dir, v1 := t.TempDir(), t.TempDir()
	mount(t, "cgroup2", dir, "")
	mount(t, "cgroup", v1, "none,name=jurat-bpf-test")
	group := filepath.Join(dir, "jurat-bpf-test")
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		require.Need(t, "bpf", err)
	}
	c := spawn(t, exec.Command(cat))
	pid := c.Process.Pid
	for _, procs := range []string{filepath.Join(v1, "cgroup.procs"), filepath.Join(group, "cgroup.procs")} {
		if err := os.WriteFile(procs, []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		os.Remove(group)
	})
	ev := tp.await(t, "cgroup move", is(KindCgroup, pid))
	if want := stat(t, group).Ino; ev.CgroupID != want {
		t.Errorf("moved to cgroup %d, want %d", ev.CgroupID, want)
	}
	if moves := tp.find(is(KindCgroup, pid)); len(moves) != 1 {
		t.Errorf("%d moves, one of them in a hierarchy of version 1: %+v", len(moves), moves)
	}
}

func kernelFrom(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}
