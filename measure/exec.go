// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Exec returns the log entry's body for one exec: what the kernel said, and
// the digest of what it ran. It is called for every exec on the host; when the
// file is in the cache it opens nothing and allocates nothing.
//
// e is not kept, but its Taints are shared with the result.
func (m *Meter) Exec(ctx context.Context, e *Exec) evidence.Exec {
	return evidence.Exec{
		CPU: e.CPU, Record: e.Record, Seen: e.Seen, Parent: e.Parent,
		Hint: hint(e.Filename, evidence.MaxText), Exe: m.execFile(ctx, e), Creds: e.Credentials,
		CgroupID: e.CgroupID, Cgroup: m.cgroups.path(e.CgroupID), Taints: e.Taints,
	}
}

// execFile returns the file an exec ran. Its identity is the kernel's word,
// so the cache answers for it even when the process has already ended.
func (m *Meter) execFile(ctx context.Context, e *Exec) evidence.Value[evidence.File] {
	if e.Exe.Inode == 0 {
		return evidence.Unknown[evidence.File](reasonNotKernel)
	}
	f := evidence.File{Path: hint(e.path(), evidence.MaxText), ID: e.Exe.id()}
	if f.Path == "" { // it ran before the sensor did, and nobody saw what it was called
		if link, err := readlinkAt(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/exe", e.Instance.PID)); err == nil {
			f.Path = hint(link, evidence.MaxText)
		}
	}
	switch {
	case remote(e.Exe.Magic) || remote(e.Text.Magic):
		f.Digest = evidence.Unknown[evidence.Digest](reasonRemote)
	case e.Text.Inode == 0 || e.Text.Magic == magicOverlay:
		// What lies below the overlay was not told: nothing to hold a file against.
		f.Digest = e.confirm(evidence.Unknown[evidence.Digest](reasonUnbound))
	default:
		s := source{kernel: &e.Text, magic: e.Text.Magic, seen: info{links: 1}, limit: MaxExecFile}
		var ok bool
		if f.Digest, ok = m.cached(&s); !ok {
			f.Digest = m.execDigest(ctx, e)
		}
		f.Digest = e.confirm(f.Digest)
	}
	return evidence.Known(f)
}

// path is where the kernel found the executable: a hint.
func (e *Exec) path() string {
	if e.Interpreter != "" {
		return e.Interpreter
	}
	return e.Filename
}

// execDigest hashes the executable through the running process.
func (m *Meter) execDigest(ctx context.Context, e *Exec) evidence.Value[evidence.Digest] {
	pidfd, err := unix.PidfdOpen(int(e.Instance.PID), 0)
	if err != nil {
		return unread[evidence.Digest](err)
	}
	defer unix.Close(pidfd)
	t, err := m.attach(pidfd)
	if err != nil {
		return unread[evidence.Digest](err)
	}
	defer t.close()
	fd, err := t.link("exe")
	if err != nil {
		return unread[evidence.Digest](err)
	}
	defer unix.Close(fd)
	if err := m.check(t, e.Instance); err != nil {
		return unread[evidence.Digest](err)
	}
	d, _ := m.kernelFile(ctx, fd, e, &overlays{m: m, t: t}, MaxExecFile)
	return d
}

// kernelFile hashes the open file if it is the one the kernel reported at
// exec; id is what fstat showed.
func (m *Meter) kernelFile(ctx context.Context, fd int, e *Exec, o *overlays, limit uint64) (evidence.Value[evidence.Digest], evidence.FileID) {
	if e.Exe.Inode == 0 || e.Text.Inode == 0 {
		return evidence.Unknown[evidence.Digest](reasonNotKernel), e.Exe.id()
	}
	_, refused, err := o.check(fd)
	switch {
	case err != nil:
		refused = reasonUnreadable
	case remote(e.Exe.Magic) || remote(e.Text.Magic):
		refused = reasonRemote
	}
	if refused != "" {
		return evidence.Unknown[evidence.Digest](refused), e.Exe.id()
	}
	seen, err := fstat(fd)
	if err != nil {
		return evidence.Unknown[evidence.Digest](reasonUnreadable), e.Exe.id()
	}
	same, unchanged := matches(&e.Exe, &e.Text, seen.id)
	if !same {
		return evidence.Unknown[evidence.Digest](reasonRaced), seen.id
	}
	if unchanged {
		return m.digest(ctx, &source{path: fd, seen: seen, kernel: &e.Text, limit: limit}), seen.id
	}
	d := m.digest(ctx, &source{path: fd, seen: seen, limit: limit})
	if e.Exe.Memfd {
		d = taint(d, taintMemfd)
	}
	if e.Exe.Magic == magicOverlay {
		return taint(d, taintCopiedUp), seen.id
	}
	return taint(d, taintChanged), seen.id
}

// check returns nil while the process is the instance i, running the program
// of its generation.
func (m *Meter) check(t *target, i evidence.Instance) error {
	same, err := t.is(i)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("process %d is another one: %w", t.pid, ErrExited)
	}
	s, err := m.kernel.State(t.pidfd)
	if !t.alive() {
		return fmt.Errorf("process %d: %w", t.pid, ErrExited)
	}
	if err != nil {
		return fmt.Errorf("kernel state of process %d: %w", t.pid, err)
	}
	if s.Generation != i.Generation {
		return fmt.Errorf("process %d is at exec %d, not %d: %w", t.pid, s.Generation, i.Generation, ErrChanged)
	}
	return nil
}
