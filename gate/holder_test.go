// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// The process that holds a gate can start no program. So the test binary is
// also the holder: it runs gate and sensor as the agent does, and prints a line
// for each exec. It is the programs that tests watch, too.
var actors = map[string]func(args []string) error{
	"holder":  holder,
	"threads": execAmongThreads,
	"hidden":  execHiddenScript,
	"loop":    execLoop,
	"forks":   forkUnderGate,
}

func TestMain(m *testing.M) {
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

func actor(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "GATE_ACTOR="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// holding is what a holder is told.
type holding struct {
	Only     []string
	Deadline time.Duration
	Workers  int
	Stuck    uint64 // size of files whose digest never comes
	Slow     uint64 // size of files whose digest comes when the time is up
}

// line is what a holder says about one exec.
type line struct {
	PID                 uint32
	Filename            string
	Reason              string // why there is no verdict
	Exe, Script, Loader part
	Counts              *Counts
	Err                 string
}

type part struct {
	Inode  uint64
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
		return part{Inode: f.ID.Inode, Reason: f.Digest.String()}
	}
	return part{Inode: f.ID.Inode, Digest: hex.EncodeToString(d.Value)}
}

func holder(args []string) error {
	var c holding
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	sensor, err := bpf.Open(bpf.Options{Canary: []string{"/bin/true"}})
	if err != nil {
		return err
	}
	g, err := Open(Options{Digester: &hasher{c: c, known: make(map[evidence.FileID]evidence.Digest)}, Deadline: c.Deadline, Workers: c.Workers, Only: c.Only})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	print := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(l)
	}
	counts := g.Counts()
	print(line{Counts: &counts})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			switch in.Text() {
			case "counts":
				counts := g.Counts()
				print(line{Counts: &counts, Err: fmt.Sprint(g.Err())})
			case "close":
				if err := g.Close(); err != nil {
					print(line{Err: err.Error()})
				}
				counts := g.Counts()
				print(line{Counts: &counts, Err: fmt.Sprint(g.Err())})
			}
		}
		os.Exit(0)
	}()
	for {
		var ev bpf.Event
		if err := sensor.Read(&ev); errors.Is(err, bpf.ErrNoEvent) {
			continue
		} else if err != nil {
			return err
		}
		switch who := ev.Process.Instance; ev.Kind {
		case bpf.KindExec:
			if l := lineOf(g, &ev); l.Filename != "/proc/self/exe" { // an actor
				print(l)
			}
		case bpf.KindExit:
			g.Forget(Process{PID: who.PID, PidfdInode: who.PidfdInode, Start: who.Start})
		}
	}
}

func lineOf(g *Gate, ev *bpf.Event) line {
	p, who := &ev.Program, ev.Process.Instance
	id := func(f *bpf.File) evidence.FileID {
		return evidence.FileID{Device: f.Device, Inode: f.Inode, Ctime: f.Ctime, Size: f.Size}
	}
	l := line{PID: who.PID, Filename: p.Filename.String()}
	v := g.Exec(&Record{
		Process: Process{PID: who.PID, PidfdInode: who.PidfdInode, Start: who.Start}, At: ev.Time,
		Exe: id(&p.File), Text: id(&p.Backing), Stacked: p.File.Magic == unix.OVERLAYFS_SUPER_MAGIC,
		Scripted: p.Filename.String() != p.Interp.String(), Interpreter: p.Interp.String(), Cut: ev.Flags.Has(bpf.FlagInterpCut),
	})
	got, ok := v.Get()
	if !ok {
		l.Reason = v.Reason()
		return l
	}
	l.Exe, l.Script, l.Loader = partOfFile(&got.Executable), partOf(got.Script), partOf(got.Loader)
	return l
}

// hasher is a Digester that remembers what had settled.
type hasher struct {
	c     holding
	mu    sync.Mutex
	known map[evidence.FileID]evidence.Digest
}

func (h *hasher) Digest(ctx context.Context, fd int) (evidence.FileID, evidence.Value[evidence.Digest]) {
	var before, after unix.Stat_t
	unix.Fstat(fd, &before)
	id := identity(&before)
	h.mu.Lock()
	d, ok := h.known[id]
	h.mu.Unlock()
	switch {
	case ok:
		return id, evidence.Known(d)
	case h.c.Stuck != 0 && id.Size == h.c.Stuck:
		select {}
	case h.c.Slow != 0 && id.Size == h.c.Slow:
		<-ctx.Done()
		return id, evidence.Unknown[evidence.Digest](ReasonDeadline)
	}
	settled := time.Since(time.Unix(0, id.Ctime)) > 50*time.Millisecond
	sum := sha256.New()
	io.Copy(sum, io.NewSectionReader(readerAt(fd), 0, 1<<40))
	unix.Fstat(fd, &after)
	if identity(&after) != id {
		return id, evidence.Unknown[evidence.Digest]("raced")
	}
	d = evidence.Digest{Algorithm: "sha-256", Value: sum.Sum(nil), Source: evidence.SourceCache}
	if settled {
		h.mu.Lock()
		h.known[id] = d
		h.mu.Unlock()
	}
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

// held is a holder as a test sees it.
type held struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	mu   sync.Mutex
	cond *sync.Cond
	said map[uint32][]line
	cnts []line
	gone bool
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

// gated starts a holder; it ends with the test.
func gated(t testing.TB, c holding) *held {
	t.Helper()
	need(t)
	text, _ := json.Marshal(c)
	h := &held{t: t, cmd: actor("holder", string(text)), said: make(map[uint32][]line)}
	h.cond = sync.NewCond(&h.mu)
	h.in, _ = h.cmd.StdinPipe()
	out, _ := h.cmd.StdoutPipe()
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	go h.listen(out)
	h.counts()
	return h
}

func (h *held) listen(out io.Reader) {
	for dec := json.NewDecoder(out); ; {
		var l line
		err := dec.Decode(&l)
		h.mu.Lock()
		switch {
		case err != nil:
			h.gone = true
		case l.Counts != nil || l.Err != "":
			h.cnts = append(h.cnts, l)
		default:
			h.said[l.PID] = append(h.said[l.PID], l)
		}
		h.cond.Broadcast()
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait waits until there is something to say, for as long as that takes: a
// holder that is gone says nothing more.
func (h *held) wait(ready func() bool) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for !ready() {
		if h.gone {
			h.t.Fatal("the holder is gone")
		}
		h.cond.Wait()
	}
}

// next returns the next line about that process.
func (h *held) next(pid int) (l line) {
	h.t.Helper()
	h.wait(func() bool {
		lines := h.said[uint32(pid)]
		if len(lines) == 0 {
			return false
		}
		l, h.said[uint32(pid)] = lines[0], lines[1:]
		return true
	})
	return l
}

// counts returns what the holder says for a command, or at its start.
func (h *held) counts() (c Counts) {
	h.t.Helper()
	h.wait(func() bool {
		if len(h.cnts) == 0 {
			return false
		}
		if e := h.cnts[0].Err; e != "" && e != "<nil>" {
			h.t.Errorf("the holder says: %s", e)
		}
		c, h.cnts = *h.cnts[0].Counts, h.cnts[1:]
		return true
	})
	return c
}

func (h *held) tell(command string) Counts {
	h.t.Helper()
	fmt.Fprintln(h.in, command)
	return h.counts()
}

func (h *held) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// run runs a program and returns its pid and exit code.
func run(t testing.TB, path string, args ...string) (pid, code int) {
	t.Helper()
	cmd := exec.Command(path, args...)
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
	dir                          string
	static, dynamic, ld, script  string // digests
	nested, program, interpreter string
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
