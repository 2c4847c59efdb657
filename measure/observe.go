// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// Place is where on the host a cgroup is, for people. What is not known, or
// not so, is empty.
type Place struct {
	Cgroup    string // path below the root of the tree
	Unit      string // of systemd
	Container string // id
}

// Place returns the place of the cgroup (v2) with that number. A number that
// was asked for before opens nothing.
func (m *Meter) Place(cgroup uint64) Place {
	path, ok := m.cgroups.path(cgroup).Get()
	if !ok {
		return Place{}
	}
	p := Place{Cgroup: path, Unit: unitOf(path)}
	if c, _ := containerOf(path); c != nil {
		p.Container = c.ID
	}
	return p
}

// Cached is one digest in the cache.
type Cached struct {
	Path        string // where the file is now: a hint
	ID          evidence.FileID
	Digest      evidence.Digest
	First, Used time.Time // when it was hashed, when it was last asked for
	Uses        uint64
}

// Cached calls yield for each digest in the cache, the last used first, until
// yield returns false. Others may use the cache meanwhile.
func (m *Meter) Cached(yield func(Cached) bool) {
	for _, c := range m.cache.all() {
		if !yield(c) {
			return
		}
	}
}

func (c *cache) all() []Cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Cached, 0, len(c.entries))
	for e := c.ring.next; e != &c.ring; e = e.next {
		out = append(out, Cached{
			Path: hint(pathOf(e.fd), evidence.MaxText), ID: e.id, Digest: e.digest, First: e.first, Used: e.used, Uses: e.uses,
		})
	}
	return out
}
