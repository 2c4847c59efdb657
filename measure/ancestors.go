// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// lineage returns who made the process, as the kernel told the agent at each
// fork. What one that still lives runs is measured where it was not yet. The
// parents that /proc names do not count: a process whose maker ends is given to
// another, and one that is made by CLONE_PARENT never had its maker for a parent.
func (m *Meter) lineage(ctx context.Context, f *Facts) evidence.Value[[]evidence.Ancestor] {
	switch {
	case f.LineageUnknown != "":
		return evidence.Unknown[[]evidence.Ancestor](f.LineageUnknown)
	case len(f.Lineage) > maxAncestors:
		return evidence.Unknown[[]evidence.Ancestor](reasonTooMany)
	}
	out := append([]evidence.Ancestor{}, f.Lineage...)
	for k := range out {
		if out[k].Digest.Reason() == reasonNotYet {
			out[k].Digest = m.runs(ctx, out[k].Instance)
		}
	}
	return evidence.Known(out)
}

// runs returns the digest of what that very instance runs, if it still does.
func (m *Meter) runs(ctx context.Context, i evidence.Instance) evidence.Value[evidence.Digest] {
	pidfd, err := unix.PidfdOpen(int(i.PID), 0)
	if err != nil {
		return unread[evidence.Digest](err)
	}
	defer unix.Close(pidfd)
	t, err := m.attach(pidfd)
	if err != nil {
		return unread[evidence.Digest](err)
	}
	defer t.close()
	if err := m.check(t, i); err != nil {
		return unread[evidence.Digest](err)
	}
	fd, err := t.link("exe")
	if err != nil {
		return evidence.Unknown[evidence.Digest](reasonUnreadable)
	}
	defer unix.Close(fd)
	if magic, err := fileSystem(fd); err != nil || magic == magicOverlay || remote(magic) {
		return evidence.Unknown[evidence.Digest](reasonUnbound) // nothing to hold the file against
	}
	seen, err := fstat(fd)
	if err != nil {
		return evidence.Unknown[evidence.Digest](reasonUnreadable)
	}
	d := m.digest(ctx, &source{path: fd, seen: seen, limit: MaxFile})
	if err := m.check(t, i); err != nil {
		return unread[evidence.Digest](err)
	}
	return d
}
