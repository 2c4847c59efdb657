// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

func TestExecDigest(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	for name, cmd := range map[string]*exec.Cmd{
		"static":  exec.Command(victim(t)),
		"dynamic": exec.Command("/bin/cat"),
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, cmd)
			e := p.record(t)
			d := exeDigest(t, m, &e)
			if want := sumOf(t, cmd.Path); known(t, d) != want {
				t.Errorf("digest %v, want %s", d, want)
			}
			if got, _ := d.Get(); got.Source != evidence.SourceRead || got.Algorithm != "sha-256" {
				t.Errorf("first digest is %+v", got)
			}
			if got, _ := exeDigest(t, m, &e).Get(); got.Source != evidence.SourceCache {
				t.Errorf("second digest comes from %q", got.Source)
			}
			p.stop()
			if got := known(t, exeDigest(t, m, &e)); got != sumOf(t, cmd.Path) {
				t.Errorf("after exit the cache says %s", got)
			}
		})
	}
}

func TestExecOfEndedProcess(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	e := p.record(t)
	p.stop()
	if d := exeDigest(t, m, &e); d.Reason() != reasonExited {
		t.Errorf("digest is %v", d)
	}
}

// What the gate hashed before the program ran stands for what cannot be read
// any more, and gives away what was changed by stealth.
func TestExecHeldByGate(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	e := p.record(t)
	held := Held{ID: e.Exe.id(), Runs: true, Digest: evidence.Known(evidence.Digest{Algorithm: Algorithm, Value: []byte("other"), Source: evidence.SourceRead})}
	e.Held = []Held{{Digest: held.Digest}, held}
	if d := exeDigest(t, m, &e); d.Reason() != reasonRaced {
		t.Errorf("the gate saw other bytes: %v", d)
	}
	e.Held = e.Held[:1] // of another file
	own := exeDigest(t, m, &e)
	known(t, own)
	p.stop()
	m.Flush()
	if d := exeDigest(t, m, &e); d.Reason() != reasonExited {
		t.Errorf("nothing held, and ended: %v", d)
	}
	held.Digest = own
	e.Held = []Held{held}
	if d := exeDigest(t, m, &e); known(t, d) != known(t, own) {
		t.Errorf("ended, and held before: %v", d)
	}
	held.Digest = evidence.Unknown[evidence.Digest](reasonDeadline)
	e.Held = []Held{held}
	if d := exeDigest(t, m, &e); d.Reason() != reasonExited {
		t.Errorf("ended, and let go unread: %v", d)
	}
	e.Text.Magic, held.Digest = magicOverlay, own
	e.Held = []Held{held}
	if d := exeDigest(t, m, &e); known(t, d) != known(t, own) {
		t.Errorf("what is below the overlay was held: %v", d)
	}
}

// The pid of an ended process belongs to another one by now.
func TestExecOfReusedPID(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	for name, change := range map[string]func(*Exec){
		"pidfd inode": func(e *Exec) { e.Instance.PidfdInode++ },
		"start time":  func(e *Exec) { e.Instance.PidfdInode = 0; e.Instance.Start -= clockTick },
	} {
		e := p.record(t)
		change(&e)
		if d := exeDigest(t, m, &e); d.Reason() != reasonExited {
			t.Errorf("other %s: digest is %v", name, d)
		}
	}
	e := p.record(t)
	e.Instance.PidfdInode = 0 // as on kernels before 6.9
	if d := exeDigest(t, m, &e); known(t, d) != sumOf(t, victim(t)) {
		t.Errorf("without pidfd inode: digest is %v", d)
	}
}

// The process runs the next program before the record of this one is read.
func TestExecOfNextGeneration(t *testing.T) {
	needRoot(t)
	m, k := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	k.set(uint32(p.pid), State{Generation: 2})
	e := p.record(t)
	if d := exeDigest(t, m, &e); d.Reason() != reasonRaced {
		t.Errorf("digest is %v", d)
	}
}

func TestExecOfAnotherFile(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	for name, change := range map[string]func(*Inode){
		"inode":  func(i *Inode) { i.Inode++ },
		"device": func(i *Inode) { i.Device++ },
	} {
		e := p.record(t)
		change(&e.Exe)
		change(&e.Text)
		if d := exeDigest(t, m, &e); d.Reason() != reasonRaced {
			t.Errorf("other %s: digest is %v", name, d)
		}
	}
	for name, change := range map[string]func(*Inode){
		"ctime": func(i *Inode) { i.Ctime++ },
		"size":  func(i *Inode) { i.Size++ },
	} {
		e := p.record(t)
		change(&e.Exe)
		change(&e.Text)
		if d := exeDigest(t, m, &e); !slices.Equal(d.Taints(), []string{taintChanged}) {
			t.Errorf("other %s: digest is %v", name, d)
		}
	}
	e := p.record(t)
	e.Exe, e.Text = Inode{}, Inode{}
	if out := m.Exec(context.Background(), &e); out.Exe.Reason() != reasonNotKernel {
		t.Errorf("no file in the record: exe is %v", out.Exe)
	}
}

func TestExecTaints(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	want := sumOf(t, victim(t))

	p := start(t, exec.Command(victim(t), "memfd"))
	e := p.record(t)
	e.Exe.Memfd, e.Text.Memfd = true, true
	if d := exeDigest(t, m, &e); !slices.Equal(d.Taints(), []string{taintMemfd}) || observed(d) != want {
		t.Errorf("memfd: %v", d)
	}

	path := copyTo(t, filepath.Join(t.TempDir(), "gone"), victim(t))
	p = start(t, exec.Command(path))
	before := p.record(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if d := exeDigest(t, m, &before); !slices.Equal(d.Taints(), []string{taintDeleted, taintChanged}) || observed(d) != want {
		t.Errorf("deleted after exec: %v", d)
	}
	after := p.record(t)
	if d := exeDigest(t, m, &after); !slices.Equal(d.Taints(), []string{taintDeleted}) || observed(d) != want {
		t.Errorf("deleted before exec: %v", d)
	}
	if n := m.CacheUse().Files; n != 0 {
		t.Errorf("%d of these digests were kept", n)
	}

	p = start(t, exec.Command(victim(t)))
	for name, change := range map[string]func(*Inode){
		"writer":  func(i *Inode) { i.Writers = 1 },
		"mapping": func(i *Inode) { i.MapWritable = 1 },
	} {
		e := p.record(t)
		exeDigest(t, m, &e) // even when the cache knows it
		change(&e.Text)
		if d := exeDigest(t, m, &e); !slices.Equal(d.Taints(), []string{taintWriters}) {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// Whoever swaps the file at the path between exec and measurement never has
// the wrong file's digest stand for what runs.
func TestExecSwappedFile(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	path, spare := filepath.Join(dir, "prog"), filepath.Join(dir, "spare")
	good, err := os.ReadFile(victim(t))
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[uint64]string) // by inode
	for round := range 60 {
		content := append(slices.Clone(good), byte(round)) // trailing bytes do no harm
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
		sums[inode(t, path).Inode] = sumOf(t, path)
		p := start(t, exec.Command(path))
		e := p.record(t)
		if err := os.WriteFile(spare, append(content, 'x'), 0o755); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- os.Rename(spare, path) }()
		d := exeDigest(t, m, &e)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := observed(d), sums[e.Exe.Inode]; got != "" && got != want {
			t.Fatalf("round %d: %v, but %s runs", round, d, want)
		}
		p.stop()
		if d := exeDigest(t, m, &e); observed(d) != "" && observed(d) != sums[e.Exe.Inode] {
			t.Fatalf("round %d: the cache was poisoned: %v, want %s", round, d, sums[e.Exe.Inode])
		}
	}
}

// Nobody may write to a running executable, and who is about to is noticed.
func TestExecWriteInPlace(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := copyTo(t, filepath.Join(t.TempDir(), "prog"), victim(t))
	p := start(t, exec.Command(path))
	e := p.record(t)
	want := sumOf(t, path)
	if known(t, exeDigest(t, m, &e)) != want {
		t.Fatal("wrong digest")
	}
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		f.Close()
		t.Log("this kernel lets a running executable be written")
	}
	p.stop()
	write(t, path, append([]byte("#!/bin/true\n"), make([]byte, e.Exe.Size-12)...)) // same size
	p2 := launch(t, exec.Command("/bin/cat"))
	e2 := p2.record(t)
	e2.Exe, e2.Text = inode(t, path), inode(t, path)
	if d := exeDigest(t, m, &e2); observed(d) == want {
		t.Errorf("the old digest stands for the new content: %v", d)
	}
	if d := exeDigest(t, m, &e); observed(d) != "" {
		t.Errorf("the old content is gone, its digest is %v", d)
	}
}

func TestExecAllocatesNothing(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	e := p.record(t)
	known(t, exeDigest(t, m, &e))
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { m.Exec(ctx, &e) }); n != 0 {
		t.Errorf("%v allocations for an exec in the cache", n)
	}
}

func TestExecRemoteFileSystem(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	e := p.record(t)
	e.Exe.Magic, e.Text.Magic = 0x65735546, 0x65735546
	if d := exeDigest(t, m, &e); d.Reason() != reasonRemote {
		t.Errorf("FUSE: digest is %v", d)
	}
	e.Exe.Magic, e.Text.Magic = magicOverlay, magicOverlay
	if d := exeDigest(t, m, &e); d.Reason() != reasonUnbound {
		t.Errorf("overlay with nothing known below: digest is %v", d)
	}
}

func TestExecDeadline(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	p := start(t, exec.Command(victim(t)))
	e := p.record(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if f, _ := m.Exec(ctx, &e).Exe.Get(); f.Digest.Reason() != reasonDeadline {
		t.Errorf("digest is %v", f.Digest)
	}
}

func BenchmarkExecWarm(b *testing.B) {
	needRoot(b)
	m, _ := newMeter(b, Config{})
	p := start(b, exec.Command(victim(b)))
	e := p.record(b)
	ctx := context.Background()
	known(b, exeDigest(b, m, &e))
	b.ReportAllocs()
	for b.Loop() {
		m.Exec(ctx, &e)
	}
}

func BenchmarkExecCold(b *testing.B) {
	needRoot(b)
	m, _ := newMeter(b, Config{})
	p := start(b, exec.Command(victim(b)))
	e := p.record(b)
	ctx := context.Background()
	b.SetBytes(int64(e.Exe.Size))
	for b.Loop() {
		m.Flush()
		m.Exec(ctx, &e)
	}
}

func TestKernelDeviceOnBtrfs(t *testing.T) {
	a := Inode{Device: 40, Inode: 7, Ctime: 9, Size: 3, Magic: magicBtrfs}
	same, unchanged := matches(&a, &a, evidence.FileID{Device: 41, Inode: 7, Ctime: 9, Size: 3})
	if !same || !unchanged {
		t.Error("a subvolume's own device number makes another file of it")
	}
	a.Magic = 0xef53
	if same, _ = matches(&a, &a, evidence.FileID{Device: 41, Inode: 7, Ctime: 9, Size: 3}); same {
		t.Error("a file on another device passes for this one")
	}
}
