// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// tail is a file that only grows, with its last part still in memory.
type tail struct {
	f    *os.File
	disk int64  // bytes written to the file
	buf  []byte // what follows them
}

func openTail(dir, name string) (*tail, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", f.Name()), f.Close())
	}
	return &tail{f: f, disk: info.Size()}, nil
}

func (t *tail) size() int64 { return t.disk + int64(len(t.buf)) }

// readAt fills p. An item is never cut in two by the end of the disk part,
// since flush writes all there is.
func (t *tail) readAt(p []byte, off int64) error {
	if off >= t.disk {
		at := off - t.disk
		if at+int64(len(p)) > int64(len(t.buf)) {
			return fmt.Errorf("%w: %d bytes at %d of %s, which has %d", errTorn, len(p), off, t.f.Name(), t.size())
		}
		copy(p, t.buf[at:])
		return nil
	}
	_, err := t.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s ends in the %d bytes at %d", errTorn, t.f.Name(), len(p), off)
	}
	return err
}

func (t *tail) flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	if _, err := t.f.WriteAt(t.buf, t.disk); err != nil {
		return err
	}
	t.disk += int64(len(t.buf))
	t.buf = t.buf[:0]
	return nil
}

// cut shortens the file to size; only recovery does that.
func (t *tail) cut(size int64) error {
	if size == t.disk {
		return nil
	}
	if err := t.f.Truncate(size); err != nil {
		return err
	}
	t.disk = size
	return nil
}

// syncData returns when what was written to f is on disk, its size included.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync "+f.Name(), err)
		}
	}
}

// syncAll does that for several files at once: a file system that writes a
// journal then writes it once.
func syncAll(files ...*os.File) error {
	errs := make([]error, len(files))
	var group sync.WaitGroup
	for i, f := range files {
		group.Go(func() { errs[i] = syncData(f) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// syncDir makes new names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockDir takes the directory for this process, or says that another has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("log directory %s: another juratd has it", dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes the directory, and takes other people's access to it away.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if info.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
