// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	entry := evidence.Entry{Version: evidence.EntryVersion, Kind: evidence.KindProcess, Instance: &f.Instance, Process: out}
	data, err := entry.Marshal()
	if err == nil {
		_, err = evidence.ParseEntry(data)
	}
	if err != nil {
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
	if n := len(value(t, out.Models)) + len(value(t, out.Inputs)) + len(value(t, out.Devices)); n != 0 {
		t.Errorf("models, inputs, devices are %v, %v, %v", out.Models, out.Inputs, out.Devices)
	}
	if code := value(t, out.Code); code.Count != 0 || code.Root != evidence.NewManifest(nil).Root {
		t.Errorf("code is %+v", code)
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
	all, err := target.executables(0)
	if err != nil {
		t.Fatal(err)
	}
	for k := range all.maps {
		if all.maps[k].name == path {
			err = i.add(context.Background(), &all.maps[k], nil)
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
	m, _ := newMeter(b, Config{})
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
