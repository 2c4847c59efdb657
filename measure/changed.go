// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Names of what may have changed since the measurement (spec/evidence.md
// section 7.1).
const (
	changedCredentials = "credentials"
	changedNamespaces  = "namespaces"
	changedCgroup      = "cgroup"
	changedRoot        = "root"
)

// pinnedContext is the context a process was measured in. A part that could
// not be read is unknown, and never equal to anything.
type pinnedContext struct {
	credentials evidence.Value[evidence.Credentials]
	groups      evidence.Value[[]uint32]
	namespaces  evidence.Value[evidence.Namespaces]
	cgroup      evidence.Value[string]
	root        evidence.Value[rootDirectory]
	// altered: the kernel had seen the credentials change since the exec, so
	// that another change shows in them alone.
	altered bool
}

// rootDirectory is what a process calls "/".
type rootDirectory struct {
	dev, inode uint64
	mount      uint64 // id of the mount; 0 where the kernel does not tell it
}

// pinContext reads the context of a process, to be compared later.
func (t *target) pinContext(all *threads) (c pinnedContext) {
	c.credentials, c.groups = all.credentials, all.groups
	c.namespaces = t.namespaces()
	c.cgroup = t.cgroup()
	c.root = t.root()
	return c
}

// root returns what the process calls "/".
func (t *target) root() evidence.Value[rootDirectory] {
	fd, err := t.link("root")
	if err != nil {
		return unread[rootDirectory](err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID, &st)
	if err != nil {
		return unread[rootDirectory](err)
	}
	return evidence.Known(rootDirectory{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino, mount: st.Mnt_id})
}

// changedSince names what in the context is not what it was. Privileges that a
// process gave up count as well as those it gained: what was measured is what a
// verifier has agreed to. Only a seccomp filter or no_new_privs that came on
// since passes, for both can only take away, and a program sets them when it is
// done with its preparations.
func (t *target) changedSince(then *pinnedContext, all *threads, s *State) evidence.Value[[]string] {
	now := t.pinContext(all)
	changed := []string{}
	for _, c := range []struct {
		name   string
		reason string
		same   bool
	}{
		{changedCredentials, now.credentials.Reason(), sameCredentials(then, &now) && (then.altered || !s.CredentialsChanged)},
		{changedNamespaces, now.namespaces.Reason(), same(then.namespaces, now.namespaces)},
		{changedCgroup, now.cgroup.Reason(), same(then.cgroup, now.cgroup) || unknownBoth(then.cgroup, now.cgroup)},
		{changedRoot, now.root.Reason(), same(then.root, now.root)},
	} {
		if c.same {
			continue
		}
		if c.reason != "" {
			return evidence.Unknown[[]string](c.reason)
		}
		changed = append(changed, c.name)
	}
	return evidence.Known(changed)
}

func same[T comparable](a, b evidence.Value[T]) bool {
	x, xok := a.Observed()
	y, yok := b.Observed()
	return xok && yok && x == y
}

// unknownBoth is a host that has no such thing, then as now.
func unknownBoth[T any](a, b evidence.Value[T]) bool {
	return a.Reason() != "" && a.Reason() == b.Reason() && a.Reason() != reasonUnreadable && a.Reason() != reasonExited
}

func sameCredentials(then, now *pinnedContext) bool {
	a, aok := then.credentials.Get()
	b, bok := now.credentials.Get()
	if !aok || !bok {
		return false
	}
	g, gok := then.groups.Get()
	h, hok := now.groups.Get()
	return within(b, a) && gok && hok && slices.Equal(g, h)
}
