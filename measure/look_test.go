// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

func TestLookAtGeneration(t *testing.T) {
	needRoot(t)
	m, k := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	_, pins := full(t, m, p, p.facts(t))
	k.set(uint32(p.pid), State{Generation: 2, Taints: []string{"event-loss"}})
	if s := m.Look(p.pidfd, pins); s.Generation != 2 || !slices.Equal(s.Taints, []string{"event-loss"}) || !s.Alive {
		t.Errorf("look is %+v", s)
	}
	k.set(uint32(p.pid), State{Generation: 1})
	asked := 0
	k.asked = func(uint32) {
		if asked++; asked == 2 {
			k.states[uint32(p.pid)] = State{Generation: 3}
		}
	}
	if s := m.Look(p.pidfd, pins); s.Generation != 3 {
		t.Errorf("exec during the look: %+v", s)
	}
	k.asked = nil
	pins.exe.Inode++
	if s := m.Look(p.pidfd, pins); len(value(t, s.Missing)) != 1 {
		t.Errorf("another executable: %+v", s)
	}
	pins.instance.PidfdInode++
	if s := m.Look(p.pidfd, pins); s.Alive || s.Private.Reason() != reasonExited {
		t.Errorf("another process: %+v", s)
	}
	p.stop()
	if s := m.Look(p.pidfd, pins); s.Alive || s.Unmeasured.Reason() != reasonExited || s.Tracer.Reason() != reasonExited {
		t.Errorf("ended: %+v", s)
	}
}

// What a process writes into its own text shows, and in the vdso too.
func TestLookAtRewrittenText(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"text", "vdso"} {
		m, _ := newMeter(t, Config{})
		p := start(t, exec.Command(victim(t), mode))
		_, pins := full(t, m, p, p.facts(t))
		if n := value(t, m.Look(p.pidfd, pins).Private); n != 1 {
			t.Errorf("%s: %d private pages, want 1", mode, n)
		}
		slow, err := slowCount(p)
		if err != nil || slow != 1 {
			t.Errorf("%s: %d private pages by reading pagemap, %v", mode, slow, err)
		}
	}
}

// slowCount counts as on kernels before 6.7.
func slowCount(p *process) (uint64, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/pagemap", p.pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		return 0, err
	}
	exec, err := parseMaps(data, (*mapping).executable)
	if err != nil {
		return 0, err
	}
	return readPages(fd, exec)
}

// Another process writes the text, by /proc/PID/mem and by ptrace.
func TestLookAtPatchedText(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	_, pins := full(t, m, p, p.facts(t))
	text := textOf(t, p)
	if n := value(t, m.Look(p.pidfd, pins).Private); n != 0 {
		t.Fatalf("%d private pages at first", n)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	page := int64(os.Getpagesize())
	for i := range int64(2) { // two pages, not neighbours
		if _, err := mem.WriteAt([]byte{0xcc}, text+2*i*page); err != nil {
			t.Fatal(err)
		}
	}
	if n := value(t, m.Look(p.pidfd, pins).Private); n != 2 {
		t.Errorf("%d private pages after /proc/PID/mem, want 2", n)
	}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(p.pid); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(p.pid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.PtracePokeText(p.pid, uintptr(text+6*page), []byte{0xcc}); err != nil {
		t.Fatal(err)
	}
	s := m.Look(p.pidfd, pins)
	if n := value(t, s.Private); n != 3 {
		t.Errorf("%d private pages after POKETEXT, want 3", n)
	}
	if by := value(t, s.Tracer); by != uint32(unix.Gettid()) {
		t.Errorf("tracer %d, want %d", by, unix.Gettid())
	}
	if err := unix.PtraceDetach(p.pid); err != nil {
		t.Fatal(err)
	}
	if by := value(t, m.Look(p.pidfd, pins).Tracer); by != 0 {
		t.Errorf("tracer %d after detaching", by)
	}
}

func textOf(t testing.TB, p *process) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	exec, err := parseMaps(data, (*mapping).executable)
	if err != nil {
		t.Fatal(err)
	}
	return int64(exec[0].start)
}

// Tracing is by thread; the leader's status says nothing of the others.
func TestLookAtTracedThread(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	_, pins := full(t, m, p, p.facts(t))
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil || len(names) < 2 {
		t.Fatalf("%d threads, %v", len(names), err)
	}
	thread, err := strconv.Atoi(names[len(names)-1].Name())
	if err != nil || thread == p.pid {
		t.Fatal(thread, err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(thread); err != nil {
		t.Fatal(err)
	}
	defer func() { // a traced thread ends when its tracer has seen it
		p.cmd.Process.Kill()
		unix.Wait4(thread, nil, unix.WALL, nil)
	}()
	if by := value(t, m.Look(p.pidfd, pins).Tracer); by != uint32(unix.Gettid()) {
		t.Errorf("tracer %d, want %d", by, unix.Gettid())
	}
}

// A process whose leader thread has ended shows no memory, and is not taken
// for one with nothing in it.
func TestLookAtHeadlessProcess(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := launch(t, exec.Command(victim(t), "leader"))
	f := p.facts(t) // before the leader is gone, or exe could not be read
	pins := &Pins{instance: f.Instance}
	deadline := time.Now().Add(5 * time.Second)
	for {
		if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid)); err == nil && len(maps) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the leader thread did not end")
		}
		time.Sleep(time.Millisecond)
	}
	s := m.Look(p.pidfd, pins)
	if !s.Alive || s.Unmeasured.Reason() == "" || s.Private.Reason() == "" || s.Missing.Reason() == "" {
		t.Errorf("look is %+v", s)
	}
	out, _ := full(t, m, p, f)
	if out.Exe.Reason() == "" || out.Maps.Reason() == "" || out.Loader.Reason() == "" || out.Script.Reason() == "" {
		t.Errorf("measured %v, %v, %v, %v", out.Exe, out.Maps, out.Loader, out.Script)
	}
}

// Executable memory without a file is a taint, whether it lies still or comes
// and goes while the process is looked at. Files are judged as ever.
func TestLookAtAnonymousCode(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	for _, mode := range []string{"anonymous", "jit"} {
		p := start(t, exec.Command(victim(t), mode))
		out, pins := full(t, m, p, p.facts(t))
		if files, _ := out.Maps.Observed(); len(files) != 1 || !slices.Equal(out.Maps.Taints(), []string{taintAnonymous}) {
			t.Errorf("%s: maps are %v", mode, out.Maps)
		}
		s := m.Look(p.pidfd, pins)
		if n := value(t, s.Unmeasured); n != 0 || !slices.Equal(s.Taints, []string{taintAnonymous}) || value(t, s.Private) != 0 {
			t.Errorf("%s: look is %+v", mode, s)
		}
	}
}

// A real JIT compiler at work: what it makes is a taint, and nothing else is
// held against the program.
func TestLookAtJIT(t *testing.T) {
	needRoot(t)
	luajit, err := exec.LookPath("luajit")
	require.Need(t, "luajit", err)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(luajit, "-e", `
		local jit, code = require("jit"), 0
		for round = 1, 1000 do for i = 1, 1000 do code = (code + i * round) % 1021 end end
		assert(jit.status()); print("ready"); io.stdout:flush()
		while true do -- ever new code
			local f = loadstring("local n = 0; for i = 1, 300 do n = n + i % " .. (code % 1021 + 1) .. " end; return n")
			code = code + f(); f()
		end`))
	out, pins := full(t, m, p, p.facts(t))
	if files, _ := out.Maps.Observed(); len(files) < 3 || !slices.Equal(out.Maps.Taints(), []string{taintAnonymous}) {
		t.Errorf("maps are %v", out.Maps)
	}
	for range 20 {
		s := m.Look(p.pidfd, pins)
		if value(t, s.Unmeasured) != 0 || !slices.Equal(s.Taints, []string{taintAnonymous}) || value(t, s.Private) != 0 {
			t.Errorf("look is %+v", s)
		}
	}
}

func TestProcessMemfd(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t), "memfd"))
	f := p.facts(t)
	f.Exec.Exe.Memfd, f.Exec.Text.Memfd = true, true
	out, _ := full(t, m, p, f)
	exe := value(t, out.Exe)
	if !slices.Equal(exe.Digest.Taints(), []string{taintMemfd}) || observed(exe.Digest) != sumOf(t, victim(t)) {
		t.Errorf("exe is %+v", exe)
	}
	if !slices.Equal(out.Maps.Taints(), []string{taintAnonymous}) {
		t.Errorf("maps are %v", out.Maps)
	}
}

// preload runs bash with a library of its own.
func preload(t testing.TB) (*process, string) {
	t.Helper()
	libs, err := filepath.Glob("/lib/*-linux-gnu/libm.so.6")
	if err != nil || len(libs) == 0 {
		t.Fatal("no library to copy", err)
	}
	lib := copyTo(t, filepath.Join(t.TempDir(), "lib.so"), libs[0])
	cmd := exec.Command("/bin/bash", "-c", "echo ready; read x")
	cmd.Env = []string{"LD_PRELOAD=" + lib}
	return start(t, cmd), lib
}

func mapped(t testing.TB, out *evidence.Process, path string) evidence.File {
	t.Helper()
	files, _ := out.Maps.Observed()
	for _, f := range files {
		if strings.HasPrefix(f.Path, path) {
			return f
		}
	}
	t.Fatalf("%s is not among %v", path, out.Maps)
	return evidence.File{}
}

func TestLibraryReplaced(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p, lib := preload(t)
	want := sumOf(t, lib)
	f := p.facts(t)
	out, pins := full(t, m, p, f)
	if d := mapped(t, out, lib).Digest; known(t, d) != want {
		t.Errorf("library is %v", d)
	}
	if !slices.Equal(value(t, out.Interference), []string{"LD_PRELOAD"}) {
		t.Errorf("interference is %v", out.Interference)
	}
	write(t, lib+".new", []byte("another"))
	if err := os.Rename(lib+".new", lib); err != nil {
		t.Fatal(err)
	}
	if s := m.Look(p.pidfd, pins); !slices.Equal(value(t, s.Missing), []string{lib}) {
		t.Errorf("look is %+v", s)
	}
	out, _ = full(t, m, p, f)
	if d := mapped(t, out, lib).Digest; !slices.Equal(d.Taints(), []string{taintDeleted}) || observed(d) != want {
		t.Errorf("replaced library is %v", d)
	}
}

func TestLibraryWrittenInPlace(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p, lib := preload(t)
	_, pins := full(t, m, p, p.facts(t))
	f, err := os.OpenFile(lib, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, _ := full(t, m, p, p.facts(t))
	if d := mapped(t, out, lib).Digest; known(t, d) != sumOf(t, lib) || sourceOf(d) != evidence.SourceCache {
		t.Errorf("library open for writing, not written, is %v", d)
	}
	m.Flush()
	out, _ = full(t, m, p, p.facts(t))
	if d := mapped(t, out, lib).Digest; !slices.Equal(d.Taints(), []string{taintWriters}) {
		t.Errorf("library open for writing is %v", d)
	}
	if _, err := f.WriteAt([]byte("evil"), 8192); err != nil {
		t.Fatal(err)
	}
	if s := m.Look(p.pidfd, pins); !slices.Equal(value(t, s.Missing), []string{lib}) {
		t.Errorf("look is %+v", s)
	}
}

// A library loaded after the measurement.
func TestLibraryAdded(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := copyTo(t, filepath.Join(t.TempDir(), "plugin"), victim(t))
	p := start(t, exec.Command(victim(t), "map", path))
	_, pins := full(t, m, p, p.facts(t))
	for id, name := range pins.files {
		if name == path {
			delete(pins.files, id)
			delete(pins.inodes, [2]uint64{id.Device, id.Inode})
		}
	}
	if s := m.Look(p.pidfd, pins); value(t, s.Unmeasured) != 1 {
		t.Errorf("look is %+v", s)
	}
}

// Everything at once, for the race detector.
func TestMeterIsShared(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{Files: 4})
	p := start(t, exec.Command("/bin/bash", "-c", "echo ready; read x"))
	f := p.facts(t)
	_, pins := full(t, m, p, f)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5 {
				m.Exec(t.Context(), &f.Exec)
				if s := m.Look(p.pidfd, pins); !clean(s) {
					t.Errorf("look is %+v", s)
				}
				_, again, err := m.Process(t.Context(), p.pidfd, f)
				if err != nil {
					t.Error(err)
					return
				}
				again.Close()
				m.Sweep(0)
				m.CacheUse()
				m.Flush()
			}
		})
	}
	group.Wait()
}
