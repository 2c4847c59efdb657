// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// fileDigest measures a file nobody runs, as a mapped file is.
func fileDigest(t testing.TB, m *Meter, path string) evidence.Value[evidence.Digest] {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen, err := fstat(fd)
	if err != nil {
		t.Fatal(err)
	}
	return m.digest(context.Background(), &source{path: fd, seen: seen, limit: MaxFile})
}

func sourceOf(v evidence.Value[evidence.Digest]) string {
	d, _ := v.Observed()
	return d.Source
}

func TestCacheNoticesEveryChange(t *testing.T) {
	needRoot(t)
	for name, change := range map[string]func(path string) error{
		"same size": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("Z"), 1)
			return err
		},
		"times set back": func(path string) error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte("other"), 0o755); err != nil {
				return err
			}
			return os.Chtimes(path, st.ModTime(), st.ModTime())
		},
		"shared mapping": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			b[0] = 'Z'
			return unix.Munmap(b)
		},
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", []byte("other"), 0o755); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newMeter(t, Config{})
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, []byte("first"))
			if d := fileDigest(t, m, path); known(t, d) != sumOf(t, path) || sourceOf(d) != evidence.SourceRead {
				t.Fatalf("first: %v", d)
			}
			if d := fileDigest(t, m, path); known(t, d) != sumOf(t, path) || sourceOf(d) != evidence.SourceCache {
				t.Fatalf("again: %v from %s", d, sourceOf(d))
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if d := fileDigest(t, m, path); known(t, d) != sumOf(t, path) || sourceOf(d) != evidence.SourceRead {
				t.Errorf("after the change: %v from %s", d, sourceOf(d))
			}
		})
	}
}

// A file that changed a moment ago could change again within the same tick of
// the clock: its digest is not kept.
func TestCacheKeepsNothingYoung(t *testing.T) {
	needRoot(t)
	clock := time.Now
	m, _ := newMeter(t, Config{Now: func() time.Time { return clock() }})
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("first"))
	changed := time.Unix(0, inode(t, path).Ctime)
	for age, kept := range map[time.Duration]int{
		0: 0, settleTime - 1: 0, -time.Hour: 0, settleTime: 1,
	} {
		m.Flush()
		clock = func() time.Time { return changed.Add(age) }
		known(t, fileDigest(t, m, path))
		if n := m.CacheUse().Files; n != kept {
			t.Errorf("%d digests kept of a file %v old, want %d", n, age, kept)
		}
	}
	if settleAfter(time.Second.Nanoseconds()) < time.Second {
		t.Error("a file system that keeps whole seconds is trusted within one")
	}
}

// Who has the file open for writing may have changed its ctime already and
// its content not yet.
func TestCacheKeepsNothingWithWriters(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("first"))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{taintWriters}
	if d := fileDigest(t, m, path); !slices.Equal(d.Taints(), want) {
		t.Errorf("open for writing: %v", d)
	}
	f.Close()
	if d := fileDigest(t, m, path); !slices.Equal(d.Taints(), want) {
		t.Errorf("mapped for writing: %v", d)
	}
	if n := m.CacheUse().Files; n != 0 {
		t.Errorf("%d digests kept", n)
	}
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
	known(t, fileDigest(t, m, path))
}

// On tmpfs a write through a shared mapping leaves no trace in the inode.
func TestCacheKeepsNothingOnTmpfs(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/dev/shm", "measure")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(dir, "file")
	write(t, path, []byte("first"))
	if d := fileDigest(t, m, path); !slices.Equal(d.Taints(), []string{taintCtime}) || observed(d) != sumOf(t, path) {
		t.Errorf("digest is %v", d)
	}
	if n := m.CacheUse().Files; n != 0 {
		t.Errorf("%d digests kept", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	needRoot(t)
	const limit = 8
	m, _ := newMeter(t, Config{Files: limit})
	dir := t.TempDir()
	var paths []string
	for i := range 3 * limit {
		paths = append(paths, filepath.Join(dir, fmt.Sprint(i)))
		if err := os.WriteFile(paths[i], []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(settleTime + tick)
	descriptors := openFiles(t)
	for _, path := range paths {
		known(t, fileDigest(t, m, path))
		known(t, fileDigest(t, m, paths[0])) // in use, so it stays
		if n := m.CacheUse().Files; n > limit {
			t.Fatalf("%d digests kept, at most %d", n, limit)
		}
	}
	if n := openFiles(t) - descriptors; n != limit {
		t.Errorf("%d descriptors held, want %d", n, limit)
	}
	if d := fileDigest(t, m, paths[0]); sourceOf(d) != evidence.SourceCache {
		t.Error("the most used file was forgotten")
	}
	if d := fileDigest(t, m, paths[1]); sourceOf(d) != evidence.SourceRead {
		t.Error("the least used file was kept")
	}
	m.Flush()
	if n := openFiles(t); n != descriptors || m.CacheUse().Files != 0 {
		t.Errorf("%d descriptors after a flush, %d before", n, descriptors)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestSweep(t *testing.T) {
	needRoot(t)
	now := time.Now()
	m, _ := newMeter(t, Config{Now: func() time.Time { return now }})
	dir := t.TempDir()
	old, deleted, used := filepath.Join(dir, "old"), filepath.Join(dir, "deleted"), filepath.Join(dir, "used")
	for _, path := range []string{old, deleted, used} {
		write(t, path, []byte(path))
	}
	now = time.Now()
	for _, path := range []string{old, deleted, used} {
		known(t, fileDigest(t, m, path))
	}
	now = now.Add(time.Minute)
	known(t, fileDigest(t, m, deleted))
	known(t, fileDigest(t, m, used))
	if err := os.Remove(deleted); err != nil {
		t.Fatal(err)
	}
	m.Sweep(30 * time.Second)
	if n := m.CacheUse().Files; n != 1 {
		t.Errorf("%d files kept, want 1", n)
	}
	if d := fileDigest(t, m, used); sourceOf(d) != evidence.SourceCache {
		t.Error("the file in use was dropped")
	}
}

// A digest under way when the clock is set must not be kept.
func TestFlushDuringHash(t *testing.T) {
	m, _ := newMeter(t, Config{})
	epoch := m.cache.begin()
	m.Flush()
	fd, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.cache.add(&entry{fd: fd}, epoch)
	if n := m.CacheUse().Files; n != 0 {
		t.Errorf("%d digests kept", n)
	}
	if _, err := fstat(fd); err == nil {
		t.Error("its descriptor is still open")
	}
}

// The kernel's generation of the inode is part of its name where known.
func TestCacheInodeGeneration(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("first"))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen, err := fstat(fd)
	if err != nil {
		t.Fatal(err)
	}
	k := inode(t, path)
	own := generationOf(t, path)
	for _, step := range []struct {
		generation uint32
		source     string
	}{{own, evidence.SourceRead}, {own, evidence.SourceCache}, {own + 1, ""}, {0, evidence.SourceCache}} {
		k.Generation = step.generation
		d := m.digest(context.Background(), &source{path: fd, seen: seen, kernel: &k, limit: MaxFile})
		if sourceOf(d) != step.source {
			t.Errorf("generation %d: from %q, want %q", step.generation, sourceOf(d), step.source)
		}
	}
}

// TestAlteredFileIsTold: who changes a file whose digest is known is noticed,
// by the next question about it or by the next sweep; who only deletes it, or
// asks about it, is not.
func TestAlteredFileIsTold(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	var told []evidence.FileID
	c := newCache(8)
	c.altered = func(id evidence.FileID) { told = append(told, id) }
	put := func(name string) evidence.FileID {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		st, err := fstat(fd)
		if err != nil {
			t.Fatal(err)
		}
		c.add(&entry{key: st.id, id: st.id, fd: fd, used: now}, c.begin())
		return st.id
	}
	asked, swept, deleted := put("asked"), put("swept"), put("deleted")
	c.sweep(now.Add(-time.Hour))
	if _, ok := c.find(asked, 0, now); !ok || len(told) != 0 {
		t.Fatalf("told %v of files nobody touched", told)
	}
	for _, name := range []string{"asked", "swept"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("other "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "deleted")); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.find(asked, 0, now); ok || !slices.Equal(told, []evidence.FileID{asked}) {
		t.Errorf("found %v, told %v", ok, told)
	}
	c.sweep(now.Add(-time.Hour))
	if !slices.Equal(told, []evidence.FileID{asked, swept}) {
		t.Errorf("told %v, want %v and %v", told, asked, swept)
	}
	if _, ok := c.find(deleted, 0, now); ok {
		t.Error("a deleted file is in the cache still")
	}
}

// generationOf asks the file system for i_generation.
func generationOf(t testing.TB, path string) uint32 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := unix.IoctlGetUint32(int(f.Fd()), 0x80087601)
	if err != nil {
		t.Fatalf("FS_IOC_GETVERSION of %s: %v", path, err)
	}
	return n
}
