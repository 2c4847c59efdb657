// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// lineage returns who made the process, as the agent saw it happen. What one
// that still lives runs is measured where it was not yet.
func (m *Meter) lineage(ctx context.Context, f *Facts) evidence.Value[[]evidence.Ancestor] {
	if len(f.Lineage) > maxAncestors {
		return evidence.Unknown[[]evidence.Ancestor](reasonTooMany)
	}
	out := slices.Clone(f.Lineage)
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
	a, err := m.ancestor(ctx, t)
	if err != nil || a.Instance.Generation != i.Generation {
		return evidence.Unknown[evidence.Digest](reasonRaced)
	}
	return a.Digest
}

// ancestors returns the parents of the process up to process 1. The agent's
// table knows what most of them run; the others are measured now.
func (m *Meter) ancestors(ctx context.Context, t *target) evidence.Value[[]evidence.Ancestor] {
	var out []evidence.Ancestor
	child, owned := t, false
	defer func() {
		if owned {
			closeParent(child)
		}
	}()
	for child.pid != 1 {
		if len(out) == maxAncestors {
			return evidence.Unknown[[]evidence.Ancestor](reasonTooMany)
		}
		parent, err := m.parent(child)
		if err != nil {
			return unread[[]evidence.Ancestor](err)
		}
		if parent == nil {
			break // started by the kernel
		}
		if owned {
			closeParent(child)
		}
		child, owned = parent, true
		a, err := m.ancestor(ctx, parent)
		if err != nil {
			return unread[[]evidence.Ancestor](err)
		}
		out = append(out, a)
	}
	return evidence.Known(out)
}

// parent attaches to the parent of a process. The child names it again after
// it was opened, and it still lives then: so the pid did not change hands.
func (m *Meter) parent(child *target) (*target, error) {
	for range maxTries {
		pid, err := child.parentPID()
		if err != nil || pid == 0 {
			return nil, err
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		t, err := m.attach(pidfd)
		if err != nil {
			unix.Close(pidfd)
			continue
		}
		if again, err := child.parentPID(); err == nil && again == pid && t.alive() {
			return t, nil
		}
		closeParent(t)
	}
	return nil, errRaced
}

func (t *target) parentPID() (int, error) {
	st, err := t.proc.Stat()
	return st.PPID, err
}

// closeParent also closes the pidfd, which parent has opened.
func closeParent(t *target) {
	t.close()
	unix.Close(t.pidfd)
}

// ancestor says what a live process runs. Where the kernel side keeps no state
// for it, nothing would show an exec while its file is read: it is named, and
// its digest is unknown.
func (m *Meter) ancestor(ctx context.Context, t *target) (evidence.Ancestor, error) {
	start, err := t.start()
	if err != nil {
		return evidence.Ancestor{}, err
	}
	state, stateErr := m.kernel.State(t.pidfd)
	if stateErr != nil && !t.alive() {
		return evidence.Ancestor{}, errors.Join(stateErr, errRaced)
	}
	i := evidence.Instance{PID: t.pid, Start: start, PidfdInode: t.inode, Generation: state.Generation}
	a := evidence.Ancestor{Instance: i, Digest: evidence.Unknown[evidence.Digest](reasonUnreadable)}
	if stateErr != nil {
		return a, nil
	}
	if m.table != nil {
		if known, ok := m.table.Find(i); ok {
			return known, nil
		}
	}
	fd, err := t.link("exe")
	if err != nil {
		return a, nil
	}
	defer unix.Close(fd)
	a.Path = hint(pathOf(fd), evidence.MaxText)
	if magic, err := fileSystem(fd); err != nil || magic == magicOverlay || remote(magic) {
		a.Digest = evidence.Unknown[evidence.Digest](reasonUnbound) // nothing to hold the file against
		return a, nil
	}
	seen, err := fstat(fd)
	if err != nil {
		return a, nil
	}
	a.Digest = m.digest(ctx, &source{path: fd, seen: seen, limit: MaxFile})
	if again, err := m.kernel.State(t.pidfd); err != nil || again.Generation != state.Generation {
		a.Digest = evidence.Unknown[evidence.Digest](reasonRaced)
	}
	return a, nil
}
