// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
)

// sparse makes a file of that size with nothing in it, and lets it settle.
func sparse(t testing.TB, size int64) (path string, fd int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "weights.gguf")
	try(t, os.WriteFile(path, nil, 0o600))
	try(t, os.Truncate(path, size))
	time.Sleep(settleTime + tick)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return path, fd
}

// A large file keeps nobody with a small one waiting, and shows how far it is;
// whoever gives up leaves the pass to those who ask again.
func TestLargeFilesHaveTheirOwnLane(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path, fd := sparse(t, 2<<30)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan evidence.Value[evidence.Digest])
	go func() {
		_, d := m.Digest(ctx, fd)
		gaveUp <- d
	}()
	for {
		if h := m.Hashing(); len(h) == 1 && h[0].Done > 0 {
			if h[0].Path != path || h[0].Total != 2<<30 || h[0].Done > h[0].Total {
				t.Errorf("hashing %+v", h)
			}
			break
		}
	}
	known(t, fileDigest(t, m, victim(t)))
	if h := m.Hashing(); len(h) != 1 {
		t.Errorf("the small file waited for the large one: %+v", h)
	}
	cancel()
	if d := <-gaveUp; d.Reason() != reasonDeadline {
		t.Errorf("digest is %v", d)
	}
	at := m.Hashing()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, d := m.Digest(t.Context(), fd); sourceOf(d) != evidence.SourceRead {
				t.Errorf("digest is %v from %q", d, sourceOf(d))
			}
		})
	}
	both.Wait()
	if len(at) != 1 || at[0].Done == 0 {
		t.Errorf("the pass ended with who gave up: %+v", at)
	}
	if use := m.CacheUse(); use.Files != 2 {
		t.Errorf("cache %+v", use)
	}
	if _, d := m.Digest(t.Context(), fd); sourceOf(d) != evidence.SourceCache || len(m.Hashing()) != 0 {
		t.Errorf("digest is %v from %q", d, sourceOf(d))
	}
}

// A Meter that closes does not wait for a file to be read to its end.
func TestCloseEndsPasses(t *testing.T) {
	needRoot(t)
	m, err := Open(Config{Kernel: &kernel{}})
	try(t, err)
	_, fd := sparse(t, 1<<40)
	done := make(chan evidence.Value[evidence.Digest])
	go func() {
		s := source{path: fd, limit: MaxModel}
		s.seen, _ = fstat(fd)
		done <- m.digest(t.Context(), &s)
	}()
	for len(m.Hashing()) == 0 {
		time.Sleep(time.Millisecond)
	}
	m.Close()
	if d := <-done; d.Reason() != reasonDeadline {
		t.Errorf("digest is %v", d)
	}
}

// BenchmarkHash compares with openssl and sha256sum on the same file; run with
// -benchtime 1x. The x-... figures are our speed as a part of theirs.
func BenchmarkHash(b *testing.B) {
	needRoot(b)
	const size = 4 << 30
	m, _ := newMeter(b, Config{})
	path := filepath.Join(b.TempDir(), "weights.gguf")
	f, err := os.Create(path)
	try(b, err)
	block := make([]byte, 1<<20)
	for k := range size / len(block) {
		for i := range 64 {
			block[i*4096] = byte(k + i)
		}
		_, err := f.Write(block)
		try(b, err)
	}
	try(b, f.Sync())
	defer f.Close()
	try(b, f.Close())
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(b, err)
	defer unix.Close(fd)
	for _, cold := range []bool{false, true} {
		name := map[bool]string{false: "warm", true: "cold"}[cold]
		b.Run(name, func(b *testing.B) {
			var ours, openssl, sum time.Duration
			for b.Loop() {
				m.Flush()
				chill(b, path, cold)
				start := time.Now()
				_, d := m.Digest(b.Context(), fd)
				ours += time.Since(start)
				chill(b, path, cold)
				openssl += byTool(b, known(b, d), "openssl", "dgst", "-sha256", path)
				chill(b, path, cold)
				sum += byTool(b, known(b, d), "sha256sum", path)
			}
			b.ReportMetric(size*float64(b.N)/1e9/ours.Seconds(), "GB/s")
			b.ReportMetric(openssl.Seconds()/ours.Seconds(), "x-openssl")
			b.ReportMetric(sum.Seconds()/ours.Seconds(), "x-sha256sum")
		})
	}
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			m.Digest(b.Context(), fd)
		}
	})
}

// chill drops the file from memory, or reads it in.
func chill(b *testing.B, path string, cold bool) {
	b.Helper()
	if !cold {
		try(b, exec.Command("cat", path).Run())
		return
	}
	f, err := os.Open(path)
	try(b, err)
	defer f.Close()
	try(b, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func byTool(b *testing.B, want string, args ...string) time.Duration {
	b.Helper()
	_, err := exec.LookPath(args[0])
	require.Need(b, args[0], err)
	start := time.Now()
	out, err := exec.Command(args[0], args[1:]...).Output()
	try(b, err)
	if !strings.Contains(string(out), want) {
		b.Fatalf("%s says %s, want %s", args[0], out, want)
	}
	return time.Since(start)
}
