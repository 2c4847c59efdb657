// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// overlaid runs a program in a mount namespace of its own, from an overlay
// over dir. The result's inside is that overlay's directory seen from here.
func overlaid(t testing.TB, dir string, attr *syscall.SysProcAttr, args ...string) (p *process, inside string) {
	t.Helper()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lower", "lib"), []byte("lower"), 0o755); err != nil {
		t.Fatal(err)
	}
	copyTo(t, filepath.Join(dir, "lower", "victim"), victim(t))
	cmd := exec.Command(victim(t), append([]string{"overlay", dir}, args...)...)
	cmd.Args[0] = "victim"
	cmd.SysProcAttr = attr
	p = start(t, cmd)
	return p, filepath.Join(fmt.Sprintf("/proc/%d/root", p.pid), dir, "merged")
}

func ownMounts() *syscall.SysProcAttr { return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS} }

// overlayFacts adds what the kernel says of the file below the overlay.
func overlayFacts(t testing.TB, p *process, below string) *Facts {
	t.Helper()
	f := p.facts(t)
	f.Exec.Text = inode(t, below)
	f.Exec.Text.Writers = 0 // nothing denies writing there
	return f
}

func TestOverlay(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	below := filepath.Join(dir, "lower", "victim")
	p, inside := overlaid(t, dir, ownMounts(), "map", filepath.Join(dir, "merged", "lib"))
	f := overlayFacts(t, p, below)
	if f.Exec.Exe.Magic != magicOverlay {
		t.Fatalf("exe is on file system %x", f.Exec.Exe.Magic)
	}
	exe, lib := sumOf(t, below), sumOf(t, filepath.Join(dir, "lower", "lib"))
	if d := exeDigest(t, m, &f.Exec); known(t, d) != exe {
		t.Errorf("exec: %v", d)
	}
	out, pins := full(t, m, p, f)
	if d := value(t, out.Exe).Digest; known(t, d) != exe {
		t.Errorf("exe is %v", d)
	}
	if d := value(t, out.Maps)[1].Digest; known(t, d) != lib {
		t.Errorf("library is %v", d)
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}

	// A change of the mode copies the executable, a write the library.
	if err := os.Chmod(filepath.Join(inside, "victim"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inside, "lib"), []byte("upper"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s := m.Look(p.pidfd, pins); len(value(t, s.Missing)) != 2 {
		t.Errorf("look is %+v", s)
	}
	time.Sleep(settleTime + tick)
	for range 2 {
		if d := exeDigest(t, m, &f.Exec); !slices.Equal(d.Taints(), []string{taintCopiedUp}) {
			t.Errorf("copied up, exec: %v", d)
		}
		out, _ = full(t, m, p, f)
		if d := value(t, out.Exe).Digest; !slices.Equal(d.Taints(), []string{taintCopiedUp}) {
			t.Errorf("copied up, exe is %v", d)
		}
		if d := value(t, out.Maps)[1].Digest; !slices.Equal(d.Taints(), []string{taintCopiedUp}) {
			t.Errorf("copied up, library is %v", d)
		}
	}
}

// Without page frames (CAP_SYS_ADMIN) no file is bound to its mapping.
func TestOverlayUnbound(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	unix.Close(m.pageFlags)
	m.pageFlags = -1
	dir := t.TempDir()
	p, _ := overlaid(t, dir, ownMounts(), "wait")
	out, _ := full(t, m, p, overlayFacts(t, p, filepath.Join(dir, "lower", "victim")))
	if d := value(t, out.Exe).Digest; d.Reason() != reasonUnbound {
		t.Errorf("exe is %v", d)
	}
}

// Below the overlay is a tmpfs: times say nothing there.
func TestOverlayOnTmpfs(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir, err := os.MkdirTemp("/dev/shm", "measure")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p, _ := overlaid(t, dir, ownMounts(), "map", filepath.Join(dir, "merged", "lib"))
	f := overlayFacts(t, p, filepath.Join(dir, "lower", "victim"))
	if d := exeDigest(t, m, &f.Exec); !slices.Equal(d.Taints(), []string{taintCtime}) {
		t.Errorf("exec: %v", d)
	}
	out, _ := full(t, m, p, f)
	for _, file := range value(t, out.Maps) {
		if !slices.Equal(file.Digest.Taints(), []string{taintCtime}) {
			t.Errorf("%+v", file)
		}
	}
}

// In a user namespace of their own anybody mounts an overlay over directories
// that are theirs to write.
func TestOverlayOfUser(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	p, _ := overlaid(t, dir, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids},
		"map", filepath.Join(dir, "merged", "lib"))
	f := overlayFacts(t, p, filepath.Join(dir, "lower", "victim"))
	if d := exeDigest(t, m, &f.Exec); d.Reason() != reasonForeign {
		t.Errorf("exec: %v", d)
	}
	out, pins := full(t, m, p, f)
	if d := value(t, out.Exe).Digest; d.Reason() != reasonForeign {
		t.Errorf("exe is %v", d)
	}
	if maps := value(t, out.Maps); len(maps) != 2 || maps[1].Digest.Reason() != reasonForeign {
		t.Errorf("maps are %+v", maps)
	}
	if s := m.Look(p.pidfd, pins); value(t, s.Unmeasured) != 2 {
		t.Errorf("look is %+v", s)
	}
	target, err := m.attach(p.pidfd)
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	if _, err := target.resolve(filepath.Join(dir, "merged", "lib"), &overlays{m: m, t: target}); !errors.Is(err, errUnresolvable) {
		t.Errorf("a script there: %v", err)
	}
	if out.Container.Reason() != "unrecognised" {
		t.Errorf("container is %v", out.Container)
	}
}

// A dirty page behind a shared mapping is written before the hash, so that
// the next write to it shows in the ctime: nothing else tells of the mapping.
func TestOverlayMappedForWriting(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	p, inside := overlaid(t, dir, ownMounts(), "wait")
	_ = p
	path := filepath.Join(inside, "new")
	write(t, path, []byte("first"))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	page[0] = 'F' // dirty
	time.Sleep(settleTime + tick)
	if d := fileDigest(t, m, path); known(t, d) != sumOf(t, path) {
		t.Errorf("digest is %v", d)
	}
	page[0] = 'E'
	if d := fileDigest(t, m, path); observed(d) != sumOf(t, path) {
		t.Errorf("the old digest stands for the new content: %v", d)
	}
}
