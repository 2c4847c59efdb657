// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// declarations is a directory that only root can change, where tests may write.
func declarations(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/root", "inputs")
	try(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestInputs(t *testing.T) {
	needRoot(t)
	dir := declarations(t)
	m, _ := newMeter(t, Config{Inputs: dir})
	unit := filepath.Join(m.cgroups.mount, "system.slice", fmt.Sprintf("inputs-%d@1.service", os.Getpid()))
	if err := os.Mkdir(filepath.Dir(unit), 0o755); err == nil {
		defer os.Remove(filepath.Dir(unit))
	}
	try(t, os.Mkdir(unit, 0o755))
	defer os.Remove(unit)
	prompt := filepath.Join(t.TempDir(), "prompt.txt")
	write(t, prompt, []byte("You are careful."))
	time.Sleep(2 * tick)
	p := start(t, exec.Command(victim(t)))
	defer p.stop()
	try(t, os.WriteFile(filepath.Join(unit, "cgroup.procs"), fmt.Append(nil, p.pid), 0))
	f := p.facts(t)

	out, _ := full(t, m, p, f)
	if files := value(t, out.Inputs); len(files) != 0 {
		t.Errorf("nothing is declared: %v", files)
	}
	template := strings.Replace(filepath.Base(unit), "@1", "@", 1)
	try(t, os.WriteFile(filepath.Join(dir, template), []byte("# what it reads\n\n"+prompt+"\n"), 0o644))
	out, pins := full(t, m, p, f)
	files := value(t, out.Inputs)
	if len(files) != 1 || files[0].Path != prompt || known(t, files[0].Digest) != sumOf(t, prompt) {
		t.Errorf("inputs are %+v", files)
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
	write(t, prompt, []byte("You are careless."))
	out, _ = full(t, m, p, f)
	if d := value(t, out.Inputs)[0].Digest; !slices.Equal(d.Taints(), []string{taintChanged}) {
		t.Errorf("changed since the exec: %v", d)
	}
	if s := m.Look(p.pidfd, pins); !slices.Equal(value(t, s.Missing), []string{prompt}) {
		t.Errorf("changed since the measurement: %+v", s)
	}

	own := filepath.Join(dir, filepath.Base(unit)) // comes before the template's
	try(t, os.WriteFile(own, []byte(prompt+".gone\n"), 0o644))
	out, pins = full(t, m, p, f)
	if n := pins.Notes(); out.Inputs.Reason() != reasonNotFound || len(n) != 1 || n[0].Path != prompt+".gone" {
		t.Errorf("a file that is missing: %v, %v", out.Inputs, n)
	}
	try(t, os.WriteFile(own, []byte("prompt.txt\n"), 0o644))
	if out, _ := full(t, m, p, f); out.Inputs.Reason() != reasonDeclaration {
		t.Errorf("a path that is not absolute: %v", out.Inputs)
	}
}

// A declaration that others can change is none.
func TestDeclarationIsRoots(t *testing.T) {
	needRoot(t)
	for name, spoil := range map[string]func(dir, file string) error{
		"file of all":          func(dir, file string) error { return os.Chmod(file, 0o666) },
		"file of a group":      func(dir, file string) error { return os.Chmod(file, 0o664) },
		"file of a user":       func(dir, file string) error { return os.Chown(file, 1234, 0) },
		"directory of a user":  func(dir, file string) error { return os.Chown(dir, 1234, 0) },
		"directory of a group": func(dir, file string) error { return os.Chmod(dir, 0o775) },
		"link": func(dir, file string) error {
			if err := os.Rename(file, file+".x"); err != nil {
				return err
			}
			return os.Symlink(file+".x", file)
		},
		"pipe": func(dir, file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return unix.Mkfifo(file, 0o600)
		},
		"too large": func(dir, file string) error {
			return os.WriteFile(file, []byte(strings.Repeat("/x\n", maxDeclaration)), 0o600)
		},
		"too many": func(dir, file string) error {
			return os.WriteFile(file, []byte(strings.Repeat("/x\n", maxInputs+1)), 0o600)
		},
	} {
		dir := declarations(t)
		m := &Meter{inputs: dir}
		file := filepath.Join(dir, "a.service")
		try(t, os.WriteFile(file, []byte("/x\n"), 0o644))
		if paths, err := m.declared("a.service"); err != nil || !slices.Equal(paths, []string{"/x"}) {
			t.Fatalf("%q %v", paths, err)
		}
		try(t, spoil(dir, file))
		if paths, err := m.declared("a.service"); err == nil {
			t.Errorf("%s: %q", name, paths)
		}
	}
}

// Units of a user's manager have their declarations below its name.
func TestDeclarationOfUser(t *testing.T) {
	needRoot(t)
	dir := declarations(t)
	m := &Meter{inputs: dir}
	try(t, os.Mkdir(filepath.Join(dir, "user@1000.service"), 0o755))
	try(t, os.WriteFile(filepath.Join(dir, "user@1000.service", "task.service"), []byte("/y\n"), 0o644))
	for unit, want := range map[string][]string{"user@1000.service/task.service": {"/y"}, "task.service": nil, "user@1.service/task.service": nil, "": nil} {
		if paths, err := m.declared(unit); err != nil || !slices.Equal(paths, want) {
			t.Errorf("%s: %q %v", unit, paths, err)
		}
	}
}

func TestDevices(t *testing.T) {
	majors := parseDevices([]byte("Character devices:\n  1 mem\n195 nvidia-frontend\n234 nvidia-uvm\n510 neuron\n511 kfd\n\nBlock devices:\n  1 ramdisk\n259 blkext\n"))
	for number, want := range map[[2]uint32]string{
		{195, 0}: "/dev/nvidia0", {195, 255}: "/dev/nvidiactl", {195, 254}: "/dev/nvidia-modeset", {226, 1}: "/dev/dri/card1", {226, 130}: "/dev/dri/renderD130",
		{261, 2}: "/dev/accel/accel2", {234, 0}: "/dev/nvidia-uvm", {234, 1}: "/dev/nvidia-uvm-tools", {510, 3}: "/dev/neuron3", {511, 0}: "/dev/kfd",
		{1, 3}: "", {136, 0}: "", {259, 1}: "",
	} {
		if got := acceleratorName(number[0], number[1], majors); got != want {
			t.Errorf("%v: %q, want %q", number, got, want)
		}
	}
}

// A device is known by its number, wherever its node lies, and while it is open.
func TestProcessDevices(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	accelerators["fuse"] = "stand-in" // no machine that tests run on has a better one
	defer delete(accelerators, "fuse")
	node := filepath.Join(t.TempDir(), "node")
	try(t, unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(majorMisc, 229))))
	for flags, want := range map[int][]string{os.O_RDWR: {"/dev/stand-in"}, unix.O_PATH: {}} {
		held, err := os.OpenFile(node, flags, 0)
		try(t, err)
		cmd := exec.Command(victim(t))
		cmd.ExtraFiles = []*os.File{held, held}
		p := start(t, cmd)
		held.Close()
		out, _ := full(t, m, p, p.facts(t))
		if got := value(t, out.Devices); !slices.Equal(got, want) {
			t.Errorf("flags %x: devices are %q", flags, got)
		}
		p.stop()
	}
}

// The kernel's own digest of the executable stands above what was read.
func TestKernelDigest(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	f := p.facts(t)
	plain := exeDigest(t, m, &f.Exec)
	f.Exec.Kernel = KernelDigest{Source: evidence.SourceIMA}
	d, _ := plain.Get()
	copy(f.Exec.Kernel.Sum[:], d.Value)
	out, _ := full(t, m, p, f)
	for _, v := range []evidence.Value[evidence.Digest]{exeDigest(t, m, &f.Exec), value(t, out.Exe).Digest} {
		if known(t, v) != sumOf(t, victim(t)) || sourceOf(v) != evidence.SourceIMA {
			t.Errorf("digest is %v from %q", v, sourceOf(v))
		}
	}
	f.Exec.Kernel.Sum[0]++
	out, _ = full(t, m, p, f)
	if a, b := exeDigest(t, m, &f.Exec), value(t, out.Exe).Digest; a.Reason() != reasonRaced || b.Reason() != reasonRaced {
		t.Errorf("the kernel saw other bytes: %v, %v", a, b)
	}
	f.Exec.Kernel.Source = evidence.SourceFSVerity // of something else than the bytes
	if v := exeDigest(t, m, &f.Exec); known(t, v) != sumOf(t, victim(t)) {
		t.Errorf("digest is %v", v)
	}
	p.stop()
	m.Flush()
	for source, algorithm := range map[string]string{evidence.SourceIMA: Algorithm, evidence.SourceFSVerity: "fsverity-sha-256"} {
		f.Exec.Kernel.Source = source
		if d, ok := exeDigest(t, m, &f.Exec).Get(); !ok || d.Source != source || d.Algorithm != algorithm || !bytes.Equal(d.Value, f.Exec.Kernel.Sum[:]) {
			t.Errorf("of a process that has ended, by %s: %v", source, d)
		}
	}
}

// The agent's lineage counts, with those who ended; who lives is measured. What
// /proc says of parents does not.
func TestLineage(t *testing.T) {
	needRoot(t)
	m, k := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	f := p.facts(t)
	if out, _ := full(t, m, p, f); len(value(t, out.Ancestors)) != 0 {
		t.Errorf("ancestors that the kernel did not name: %v", out.Ancestors)
	}
	notYet := evidence.Unknown[evidence.Digest](reasonNotYet)
	other := start(t, exec.Command(victim(t)))
	alive := other.record(t).Instance
	next := alive
	next.Generation++
	f.Lineage = []evidence.Ancestor{
		{Instance: alive, Path: "alive", Digest: notYet}, {Instance: next, Path: "alive", Digest: notYet},
		{Instance: evidence.Instance{PID: 1 << 22, Start: 1, Generation: 1}, Path: "ended", Digest: notYet},
	}
	out, _ := full(t, m, p, f)
	all := value(t, out.Ancestors)
	if len(all) != 3 || known(t, all[0].Digest) != sumOf(t, victim(t)) || all[1].Digest.Reason() != reasonRaced || all[2].Digest.Reason() != reasonExited {
		t.Errorf("ancestors are %+v", all)
	}
	if f.Lineage[0].Digest.Reason() != reasonNotYet {
		t.Error("the agent's list was changed")
	}
	k.none = alive.PID
	if out, _ := full(t, m, p, f); value(t, out.Ancestors)[0].Digest.Reason() != reasonUnreadable {
		t.Errorf("an ancestor without state: %v", out.Ancestors)
	}
	k.none = 0
	f.LineageUnknown = reasonNotKernel
	if out, _ := full(t, m, p, f); out.Ancestors.Reason() != reasonNotKernel {
		t.Errorf("ancestors are %v", out.Ancestors)
	}
	f.LineageUnknown = ""
	f.Lineage = make([]evidence.Ancestor, maxAncestors+1)
	if out, _ := full(t, m, p, f); out.Ancestors.Reason() != reasonTooMany {
		t.Errorf("ancestors are %v", out.Ancestors)
	}
}
