// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"encoding/binary"
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
	"github.com/jurat-dev/jurat/internal/require"
)

// witness sees which files below a directory's file system are opened: by
// fanotify, as the sensor is not of this room.
type witness struct{ fd int }

func newWitness(t testing.TB, paths ...string) *witness {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for _, path := range paths {
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN, unix.AT_FDCWD, path); err != nil {
			t.Fatal(err)
		}
	}
	return &witness{fd}
}

// opened returns the code files and models that the process opened so far.
func (w *witness) opened(t testing.TB, pid int) (files []OpenedFile) {
	t.Helper()
	known := make(map[evidence.FileID]bool)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if err == unix.EAGAIN {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) >= 24; b = b[binary.NativeEndian.Uint32(b):] {
			fd, who := int(int32(binary.NativeEndian.Uint32(b[16:]))), int(binary.NativeEndian.Uint32(b[20:]))
			path := pathOf(fd)
			if class := classOf(path); who == pid && class != "" {
				f := inode(t, fmt.Sprintf("/proc/self/fd/%d", fd))
				f.Writers = 0
				if id := f.id(); !known[id] {
					known[id] = true
					files = append(files, OpenedFile{At: sinceBoot(), File: f, Path: path, Class: class})
				}
			}
			unix.Close(fd)
		}
	}
}

func classOf(path string) string {
	switch filepath.Ext(path) {
	case ".py", ".pyc", ".so", ".js":
		return ClassCode
	}
	if modelName(path) {
		return ClassModel
	}
	return ""
}

func needPython(t testing.TB) {
	t.Helper()
	_, err := os.Stat("/usr/bin/python3")
	require.Need(t, "python3", err)
}

// agentFiles is a program of two files below a new directory.
func agentFiles(t testing.TB, tool string) (dir, main string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tools", "__init__.py"), []byte("name = 'tools'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tools", "mail.py"), []byte(tool), 0o644); err != nil {
		t.Fatal(err)
	}
	main = filepath.Join(dir, "agent.py")
	write(t, main, []byte("import json, tools.mail\nprint('ready', flush=True)\nimport sys\nfor line in sys.stdin: exec(line)\n"))
	return dir, main
}

// runPython runs real Python until it is ready and says what it opened.
func runPython(t testing.TB, args ...string) (*process, *Facts, *witness) {
	t.Helper()
	w := newWitness(t, t.TempDir(), "/usr/bin")
	cmd := exec.Command("/usr/bin/python3", args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	p := start(t, cmd)
	f := p.facts(t)
	f.Opened = w.opened(t, p.pid)
	return p, f, w
}

// Two programs under one interpreter are two; the same one is the same,
// wherever it lies; a line changed makes another.
func TestManifestTellsPythonProgramsApart(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	manifest := func(tool string) (evidence.Manifest, string) {
		_, script := agentFiles(t, tool)
		p, f, _ := runPython(t, script)
		out, pins := full(t, m, p, f)
		if s := m.Look(p.pidfd, pins); !clean(s) {
			t.Errorf("look is %+v", s)
		}
		return value(t, out.Code), known(t, value(t, out.Exe).Digest)
	}
	one, exe := manifest("def send(): return 1\n")
	again, _ := manifest("def send(): return 1\n")
	other, exe2 := manifest("def send(): return 2\n")
	if exe != exe2 {
		t.Errorf("executables are %s and %s", exe, exe2)
	}
	if one.Root != again.Root || one.Count != again.Count {
		t.Errorf("the same program twice: %s of %d, %s of %d", one.Root, one.Count, again.Root, again.Count)
	}
	if one.Root == other.Root {
		t.Error("two programs have one root")
	}
	var names []string
	for _, f := range one.Files {
		names = append(names, filepath.Base(f.Path))
	}
	for _, want := range []string{"agent.py", "__init__.py", "mail.py"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in the manifest: %q", want, names)
		}
	}
}

// Whatever happens to one file spoils the manifest, and never makes it shorter.
func TestManifestIsWholeOrUnknown(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	for _, c := range []struct {
		name   string
		spoil  func(t *testing.T, f *Facts, tool string)
		reason string
		taint  string
	}{
		{"deleted", func(t *testing.T, f *Facts, tool string) { try(t, os.Remove(tool)) }, reasonNotFound, ""},
		{"replaced", func(t *testing.T, f *Facts, tool string) {
			try(t, os.WriteFile(tool+".new", []byte("def send(): return 1\n"), 0o644))
			try(t, os.Rename(tool+".new", tool))
		}, reasonReplaced, ""},
		{"directory replaced", func(t *testing.T, f *Facts, tool string) {
			try(t, os.Rename(filepath.Dir(tool), filepath.Dir(tool)+".old"))
		}, reasonNotFound, ""},
		{"behind a link", func(t *testing.T, f *Facts, tool string) {
			try(t, os.Rename(tool, tool+".old"))
			try(t, os.Symlink(tool+".old", tool))
		}, reasonReplaced, ""},
		{"mounted over by somebody else", func(t *testing.T, f *Facts, tool string) {
			try(t, os.WriteFile(tool+".other", []byte("def send(): return 1\n"), 0o644))
			try(t, unix.Mount(tool+".other", tool, "", unix.MS_BIND, ""))
			t.Cleanup(func() { try(t, unix.Unmount(tool, unix.MNT_DETACH)) })
		}, reasonReplaced, ""},
		{"written", func(t *testing.T, f *Facts, tool string) { write(t, tool, []byte("def send(): return 2\n")) }, "", taintOpened},
		{"open for writing", func(t *testing.T, f *Facts, tool string) {
			w, err := os.OpenFile(tool, os.O_WRONLY, 0)
			try(t, err)
			t.Cleanup(func() { w.Close() })
		}, "", taintWriters},
		{"was open for writing", func(t *testing.T, f *Facts, tool string) { of(f, tool).File.Writers = 1 }, "", taintWriters},
		{"was mapped for writing", func(t *testing.T, f *Facts, tool string) { of(f, tool).File.MapWritable = 1 }, "", taintWriters},
		{"another inode of its number", func(t *testing.T, f *Facts, tool string) {
			of(f, tool).File.Generation = generationOf(t, tool) + 1
		}, reasonRaced, ""},
		{"written within the clock's grain", func(t *testing.T, f *Facts, tool string) {
			o := of(f, tool)
			o.At = sinceBoot() - uint64(time.Now().UnixNano()-o.File.Ctime) + uint64(tick)/2
		}, "", taintOpened},
		{"path cut", func(t *testing.T, f *Facts, tool string) { of(f, tool).Cut = true }, reasonTruncated, ""},
		{"no path", func(t *testing.T, f *Facts, tool string) { of(f, tool).Path = "" }, reasonNotFound, ""},
		{"remote", func(t *testing.T, f *Facts, tool string) { of(f, tool).File.Magic = 0x65735546 }, reasonRemote, ""},
		{"opens lost", func(t *testing.T, f *Facts, tool string) { f.OpenedUnknown = "opens-lost" }, "opens-lost", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, script := agentFiles(t, "def send(): return 1\n")
			p, f, _ := runPython(t, script)
			before, _ := full(t, m, p, f)
			value(t, before.Code)
			m.Flush()
			c.spoil(t, f, filepath.Join(dir, "tools", "mail.py"))
			out, pins := full(t, m, p, f)
			if out.Code.Reason() != c.reason || c.taint != "" && !slices.Equal(out.Code.Taints(), []string{c.taint}) || c.taint == "" && out.Code.Taints() != nil {
				t.Errorf("code is %v", out.Code)
			}
			if n := pins.Notes(); c.reason != "opens-lost" && (len(n) == 0 || n[0].Field != "code" || n[0].Why != c.reason+c.taint) {
				t.Errorf("notes are %+v", n)
			}
		})
	}
}

func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// of finds what was told of a file.
func of(f *Facts, path string) *OpenedFile {
	for k := range f.Opened {
		if f.Opened[k].Path == path {
			return &f.Opened[k]
		}
	}
	panic("not opened: " + path)
}

// What is opened after the measurement shows in the next look.
func TestLookAtOpenedSince(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, k := newMeter(t, Config{})
	dir, script := agentFiles(t, "def send(): return 1\n")
	p, f, w := runPython(t, script)
	_, pins := full(t, m, p, f)
	state := State{Generation: 1, Opened: len(f.Opened)}
	k.set(uint32(p.pid), state)
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}
	write(t, filepath.Join(dir, "later.py"), []byte("print('later')\n"))
	fmt.Fprintln(p.in, "import later; sys.stdout.flush()")
	if line, err := p.out.ReadString('\n'); err != nil || line != "later\n" {
		t.Fatalf("%q %v", line, err)
	}
	news := w.opened(t, p.pid)
	state.Opened += len(news)
	k.set(uint32(p.pid), state)
	if n := value(t, m.Look(p.pidfd, pins).Unmeasured); n != 1 || len(news) != 1 {
		t.Errorf("%d unmeasured of %+v", n, news)
	}
	state.OpenedUnknown = "opens-lost"
	k.set(uint32(p.pid), state)
	if s := m.Look(p.pidfd, pins); s.Unmeasured.Reason() != "opens-lost" {
		t.Errorf("unmeasured is %v", s.Unmeasured)
	}
}

// Models are listed with their digests, however they are read; one that is held
// and was not seen to be opened makes the list unknown.
func TestModels(t *testing.T) {
	needRoot(t)
	needPython(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	small, large := filepath.Join(dir, "adapter.safetensors"), filepath.Join(dir, "weights.GGUF")
	try(t, os.WriteFile(small, []byte("small"), 0o644))
	write(t, large, slices.Repeat([]byte("weights!"), 1<<17))
	program := "import sys, mmap\na = open(sys.argv[1], 'rb').read()\nb = open(sys.argv[2], 'rb')\n" +
		"b = mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ)\nprint('ready', flush=True)\nsys.stdin.read()\n"
	script := filepath.Join(dir, "x.py")
	write(t, script, []byte(program))
	p, f, _ := runPython(t, script, small, large)
	out, pins := full(t, m, p, f)
	files := value(t, out.Models)
	if len(files) != 2 || known(t, files[0].Digest) != sumOf(t, small) || known(t, files[1].Digest) != sumOf(t, large) {
		t.Errorf("models are %+v", files)
	}
	if s := m.Look(p.pidfd, pins); !clean(s) {
		t.Errorf("look is %+v", s)
	}

	unseen := *f
	unseen.Opened = slices.DeleteFunc(slices.Clone(f.Opened), func(o OpenedFile) bool { return o.Path == large })
	if out, _ := full(t, m, p, &unseen); out.Models.Reason() != reasonIncomplete {
		t.Errorf("a mapped model that was not seen: %v", out.Models)
	}

	// A byte of the mapped model, changed under the process.
	w, err := os.OpenFile(large, os.O_WRONLY, 0)
	try(t, err)
	_, err = w.WriteAt([]byte("X"), 9)
	try(t, err)
	try(t, w.Close())
	if s := m.Look(p.pidfd, pins); !slices.Equal(value(t, s.Missing), []string{large}) {
		t.Errorf("a model changed since: missing is %v", s.Missing)
	}
	time.Sleep(settleTime + tick)
	out, _ = full(t, m, p, f)
	files = value(t, out.Models)
	if d := files[1].Digest; !slices.Equal(d.Taints(), []string{taintOpened}) || observed(d) != sumOf(t, large) {
		t.Errorf("a model changed since it was opened: %v", d)
	}
}

func TestModelsHeldByDescriptor(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), strings.Repeat("ab", 32))
	write(t, path, []byte("a blob by its digest"))
	for _, c := range []struct {
		flags  int
		reason string
	}{{os.O_RDONLY, reasonIncomplete}, {os.O_RDWR, reasonIncomplete}, {os.O_WRONLY, ""}, {unix.O_PATH, ""}} {
		held, err := os.OpenFile(path, c.flags, 0)
		try(t, err)
		cmd := exec.Command(victim(t))
		cmd.ExtraFiles = []*os.File{held}
		p := start(t, cmd)
		held.Close()
		if out, _ := full(t, m, p, p.facts(t)); out.Models.Reason() != c.reason {
			t.Errorf("flags %x: models are %v", c.flags, out.Models)
		}
		p.stop()
	}
}

func TestModelName(t *testing.T) {
	digest := strings.Repeat("0123456789abcdef", 4)
	for name, want := range map[string]bool{
		"/m/a.safetensors": true, "/m/A.GGUF": true, "x.bin": true, "/m/a.safetensors (deleted)": true, "/blobs/" + digest: true,
		"/blobs/sha256-" + digest: true, "/m/a.txt": false, "/m/safetensors": false, "/blobs/" + digest[1:]: false, "": false,
		"/blobs/" + strings.ToUpper(digest): false, "/blobs/sha512-" + digest: false, "/lib/libc.so.6": false, "/m/x.bin/readme": false,
	} {
		if modelName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
