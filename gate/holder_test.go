// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// patience bounds everything a test waits for: a test that waits longer failed.
const patience = 30 * time.Second

// The test binary is the holder, too, and the programs that tests watch.
var actors = map[string]func(args []string) error{
	"threads":  execAmongThreads,
	"hidden":   execHiddenScript,
	"loop":     execLoop,
	"open":     openUnprivileged,
	"debugger": debug,
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == HolderCommand {
		if err := Hold(HolderConn, newHasher()); err != nil {
			fmt.Fprintln(os.Stderr, "holder:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if name := os.Getenv("GATE_ACTOR"); name != "" {
		os.Unsetenv("GATE_ACTOR")
		if err := actors[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func actor(t testing.TB, name string, args ...string) *exec.Cmd {
	cmd := command(t, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "GATE_ACTOR="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// command is a program that is killed when a test waits too long for it.
func command(t testing.TB, path string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, path, args...)
}

// hasher is a Digester that remembers what had settled. A file of the size that
// the environment names gets no digest, or one when the time is up.
type hasher struct {
	stuck, slow uint64
	mu          sync.Mutex
	known       map[evidence.FileID]evidence.Digest
}

func newHasher() *hasher {
	h := &hasher{known: make(map[evidence.FileID]evidence.Digest)}
	h.stuck, _ = strconv.ParseUint(os.Getenv("GATE_STUCK"), 10, 64)
	h.slow, _ = strconv.ParseUint(os.Getenv("GATE_SLOW"), 10, 64)
	return h
}

func (h *hasher) Digest(ctx context.Context, fd int) (evidence.FileID, evidence.Value[evidence.Digest]) {
	var before, after unix.Stat_t
	unix.Fstat(fd, &before)
	id := identity(&before)
	h.mu.Lock()
	d, ok := h.known[id]
	h.mu.Unlock()
	switch {
	case ok && h.stuck == 1: // known, and yet it does not come: the reader itself hangs
		select {}
	case ok:
		return id, evidence.Known(d)
	case h.stuck != 0 && id.Size == h.stuck:
		select {}
	case h.slow != 0 && id.Size == h.slow:
		<-ctx.Done()
		return id, evidence.Unknown[evidence.Digest](ReasonDeadline)
	}
	sum := sha256.New()
	io.Copy(sum, io.NewSectionReader(readerAt(fd), 0, 1<<40))
	unix.Fstat(fd, &after)
	if identity(&after) != id {
		return id, evidence.Unknown[evidence.Digest]("raced")
	}
	d = evidence.Digest{Algorithm: "sha-256", Value: sum.Sum(nil), Source: evidence.SourceCache}
	h.mu.Lock()
	h.known[id] = d
	h.mu.Unlock()
	return id, evidence.Known(d)
}

type readerAt int

func (fd readerAt) ReadAt(b []byte, at int64) (int, error) {
	n, err := unix.Pread(int(fd), b, at)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// hub keeps the execs that the sensor records, for whoever asks.
var hub struct {
	once  sync.Once
	mu    sync.Mutex
	execs map[uint32][]*bpf.Event
	err   error // of reading
	none  error // why there is no sensor
}

func startHub() {
	sensor, err := bpf.Open(bpf.Options{Canary: []string{"/bin/true"}})
	hub.execs, hub.none = make(map[uint32][]*bpf.Event), err
	if err != nil {
		return
	}
	go func() {
		for {
			ev := new(bpf.Event)
			err := sensor.Read(ev)
			if errors.Is(err, bpf.ErrNoEvent) {
				continue
			}
			hub.mu.Lock()
			hub.err = err
			if err == nil && ev.Kind == bpf.KindExec {
				pid := ev.Process.Instance.PID
				hub.execs[pid] = append(hub.execs[pid], ev)
			}
			hub.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

// nextExec returns the next exec of that process, but for an actor's own.
func nextExec(t testing.TB, pid int) *bpf.Event {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		hub.mu.Lock()
		err, all := hub.err, hub.execs[uint32(pid)]
		var ev *bpf.Event
		for len(all) > 0 && ev == nil {
			ev, all = all[0], all[1:]
			if ev.Program.Filename.String() == "/proc/self/exe" {
				ev = nil
			}
		}
		hub.execs[uint32(pid)] = all
		hub.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if ev != nil {
			return ev
		}
	}
	t.Fatalf("no exec of process %d was recorded", pid)
	return nil
}

// answered is what the gate says about one exec.
type answered struct {
	Filename            string
	Reason              string // why there is no verdict
	Exe, Script, Loader part
}

type part struct {
	Digest string
	Reason string // why Digest, or the whole part, is unknown
}

func partOf(v evidence.Value[*File]) part {
	f, ok := v.Get()
	if !ok {
		return part{Reason: v.Reason()}
	}
	if f == nil {
		return part{}
	}
	return partOfFile(f)
}

func partOfFile(f *File) part {
	d, ok := f.Digest.Get()
	if !ok {
		return part{Reason: f.Digest.Reason()}
	}
	return part{Digest: hex.EncodeToString(d.Value)}
}

// gated is a gate under test; it ends with the test.
type gated struct {
	*Gate
	t testing.TB
}

func need(t testing.TB) {
	t.Helper()
	var err error
	if os.Getuid() != 0 {
		err = errors.New("not root")
	}
	require.Need(t, "root", err)
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_REPORT_PIDFD|unix.FAN_CLOEXEC, unix.O_RDONLY)
	require.Need(t, "fanotify", err)
	unix.Close(fd)
}

func openGate(t testing.TB, o Options) *gated {
	t.Helper()
	need(t)
	require.Loads(t)
	hub.once.Do(startHub)
	require.Need(t, "bpf", hub.none)
	return openAlone(t, o)
}

// openAlone opens a gate without a sensor beside it.
func openAlone(t testing.TB, o Options) *gated {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	g, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return &gated{g, t}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// next returns what the gate says about the next exec of that process.
func (g *gated) next(pid int) answered {
	g.t.Helper()
	ev := nextExec(g.t, pid)
	l := answered{Filename: ev.Program.Filename.String()}
	got, ok := g.of(ev).Get()
	if !ok {
		l.Reason = ReasonNoVerdict
		return l
	}
	l.Exe, l.Script, l.Loader = partOfFile(&got.Executable), partOf(got.Script), partOf(got.Loader)
	return l
}

func (g *gated) of(ev *bpf.Event) evidence.Value[Verdict] {
	p, who := &ev.Program, ev.Process.Instance
	id := func(f *bpf.File) evidence.FileID {
		return evidence.FileID{Device: f.Device, Inode: f.Inode, Ctime: f.Ctime, Size: f.Size}
	}
	return g.Exec(&Record{
		Process: Process{PID: who.PID, PidfdInode: who.PidfdInode, Start: who.Start}, Parent: ev.Parent.PID, At: ev.Time,
		Exe: id(&p.File), Text: id(&p.Backing), Stacked: p.File.Magic == unix.OVERLAYFS_SUPER_MAGIC,
		Scripted: p.Filename.String() != p.Interp.String(), Interpreter: p.Interp.String(), Cut: ev.Flags.Has(bpf.FlagInterpCut),
	})
}

// holder returns the process number of a holder that holds.
func (g *gated) holder() int {
	g.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		g.mu.Lock()
		pid, conn := g.pid, g.conn
		g.mu.Unlock()
		if conn >= 0 {
			return pid
		}
	}
	g.t.Fatal("no holder")
	return 0
}

// gone waits until a holder is dead and the gate knows.
func (g *gated) gone(pid int) {
	g.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		g.mu.Lock()
		now, conn := g.pid, g.conn
		g.mu.Unlock()
		if now != pid || conn < 0 {
			return
		}
	}
	g.t.Fatalf("holder %d did not end", pid)
}

// run runs a program and returns its pid and exit code.
func run(t testing.TB, path string, args ...string) (pid, code int) {
	t.Helper()
	cmd := command(t, path, args...)
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return cmd.Process.Pid, cmd.ProcessState.ExitCode()
}

// tiny is a program that ends with a code, at an address of its own; loader
// names its ELF loader, "" for none.
func tiny(code byte, base uint64, loader string) []byte {
	machine, text := uint16(62), []byte{0xbf, code, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}
	if runtime.GOARCH == "arm64" {
		machine, text = 183, nil
		for _, word := range []uint32{0xd2800000 | uint32(code)<<5, 0xd2800000 | 93<<5 | 8, 0xd4000001} {
			text = binary.LittleEndian.AppendUint32(text, word)
		}
	}
	headers := uint64(1)
	if loader != "" {
		headers = 2
	}
	start := 64 + 56*headers
	size := start + uint64(len(text)+len(loader)+1)
	var b bytes.Buffer
	b.Write([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	le([]uint16{2, machine})
	le(uint32(1))
	le([]uint64{base + start, 64, 0})
	le(uint32(0))
	le([]uint16{64, 56, uint16(headers), 0, 0, 0})
	if loader != "" {
		le([]uint32{3, 4})
		at := start + uint64(len(text))
		le([]uint64{at, base + at, base + at, uint64(len(loader) + 1), uint64(len(loader) + 1), 1})
	}
	le([]uint32{1, 5})
	le([]uint64{0, base, base, size, size, 4096})
	b.Write(text)
	b.WriteString(loader + "\x00")
	return b.Bytes()
}

// put writes an executable file and returns its digest.
func put(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// stage is a file system of its own with programs on it.
type stage struct {
	dir                                 string
	static, dynamic, ld, script, nested string // digests
}

// mounted returns a new tmpfs.
func mounted(t testing.TB) string {
	t.Helper()
	need(t)
	dir := t.TempDir()
	mountAt(t, "none", dir, "tmpfs", "")
	return dir
}

func mountAt(t testing.TB, source, dir, kind, options string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		t.Fatalf("mounting %s: %v", kind, err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func newStage(t testing.TB) stage {
	t.Helper()
	dir := mounted(t)
	return stage{
		dir:     dir,
		static:  put(t, filepath.Join(dir, "static"), tiny(11, 0x400000, "")),
		ld:      put(t, filepath.Join(dir, "ld"), tiny(12, 0x10000000, "")),
		dynamic: put(t, filepath.Join(dir, "dynamic"), tiny(13, 0x400000, filepath.Join(dir, "ld"))),
		script:  put(t, filepath.Join(dir, "script"), []byte("#! "+dir+"/dynamic arg\n")),
		nested:  put(t, filepath.Join(dir, "nested"), []byte("#!"+dir+"/script\n")),
	}
}

func (s stage) path(name string) string { return filepath.Join(s.dir, name) }
