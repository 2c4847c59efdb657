// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDigestRefusals(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{fifo: reasonNotRegular, "/dev/zero": reasonNotRegular, dir: reasonNotRegular} {
		if d := fileDigest(t, m, path); d.Reason() != reason {
			t.Errorf("%s: %v", path, d)
		}
	}
	sparse := filepath.Join(dir, "sparse")
	if err := os.WriteFile(sparse, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if d := fileDigest(t, m, sparse); d.Reason() != reasonTooLarge {
		t.Errorf("too large: %v", d)
	}
}

func TestDigestRefusesRemoteFiles(t *testing.T) {
	regular := info{mode: unix.S_IFREG}
	for _, c := range []struct {
		opened, below uint64
		reason        string
	}{
		{0xef53, 0xef53, ""}, {0x65735546, 0x65735546, reasonRemote}, {0x6969, 0, reasonRemote},
		{magicOverlay, 0xef53, ""}, {magicOverlay, 0x01021997, reasonRemote},
	} {
		s := source{seen: regular, kernel: &Inode{Magic: c.below}}
		if got := s.refused(c.opened); got != c.reason {
			t.Errorf("%x over %x: %q, want %q", c.opened, c.below, got, c.reason)
		}
	}
}

// during is a context that does something while the file is being read.
type during struct {
	context.Context
	do func()
}

func (d during) Err() error {
	d.do()
	return nil
}

func TestDigestOfFileChangedWhileRead(t *testing.T) {
	needRoot(t)
	m, _ := newMeter(t, Config{})
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, make([]byte, 1<<20))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen, err := fstat(fd)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls := 0
	ctx := during{context.Background(), func() {
		if calls++; calls == 3 { // the first half is read, and changes now
			if _, err := f.WriteAt([]byte("late"), 0); err != nil {
				t.Error(err)
			}
		}
	}}
	k := inode(t, path)
	if d := m.digest(ctx, &source{path: fd, seen: seen, kernel: &k, limit: MaxFile}); d.Reason() != reasonRaced {
		t.Errorf("digest is %v", d)
	}
}

// A file that changes while it is hashed is hashed again, and in the end unknown.
func TestDigestOfChangingFile(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, []byte("first"))
	m, _ := newMeter(t, Config{})
	changes := 0
	m.now = func() time.Time { // asked before each hash
		if changes > 0 {
			changes--
			if err := os.WriteFile(path, fmt.Appendf(nil, "%d", changes), 0o644); err != nil {
				t.Error(err)
			}
		}
		return time.Now()
	}
	changes = 2
	if d := fileDigest(t, m, path); known(t, d) != sumOf(t, path) {
		t.Errorf("digest is %v, want %s", d, sumOf(t, path))
	}
	changes = 1000
	if d := fileDigest(t, m, path); d.Reason() != reasonRaced {
		t.Errorf("digest is %v", d)
	}
}
