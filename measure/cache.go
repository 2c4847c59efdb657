// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// cache keeps digests of files that did not change since they were hashed.
// Each entry holds its file open, so its inode number cannot come to mean
// another file. The least recently used entry makes room for a new one.
type cache struct {
	limit   int
	altered func(evidence.FileID) // hears of a file that is not what was hashed; may be nil

	mu      sync.Mutex // guards everything below
	entries map[evidence.FileID]*entry
	ring    entry // sentinel: next is the most recently used
	epoch   uint64
	hits    uint64
	misses  uint64
}

// entry is one digest. But for its uses it is never changed once it is in the
// cache.
type entry struct {
	key        evidence.FileID // as the kernel names the file
	generation uint32          // i_generation; 0 when not known
	id         evidence.FileID // as fstat showed it when it was hashed
	fd         int
	digest     evidence.Digest
	first      time.Time // when it was put in
	used       time.Time
	uses       uint64
	prev, next *entry
}

func newCache(limit int) *cache {
	c := &cache{limit: limit, entries: make(map[evidence.FileID]*entry)}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// find returns the digest of the file the kernel names key, if it is still
// the file that was hashed: same inode, not changed since.
func (c *cache) find(key evidence.FileID, generation uint32, now time.Time) (*entry, bool) {
	c.mu.Lock()
	e, ok := c.use(key, generation, now)
	c.mu.Unlock()
	if e != nil && !ok {
		c.tell(key)
		return nil, false
	}
	return e, ok
}

// use is find for who holds mu. With ok false e is an entry whose file was
// changed, or nil.
func (c *cache) use(key evidence.FileID, generation uint32, now time.Time) (e *entry, ok bool) {
	e = c.entries[key]
	if e == nil || e.generation != 0 && generation != 0 && e.generation != generation {
		c.misses++
		return nil, false
	}
	if gone, changed := e.stale(); gone {
		c.drop(e)
		c.misses++
		if changed {
			return e, false
		}
		return nil, false
	}
	c.hits++
	e.used = now
	e.uses++
	c.unlink(e)
	c.push(e)
	return e, true
}

// begin returns the number to pass to add, so that a flush between the two
// keeps the digest out.
func (c *cache) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// add keeps e, and takes over its descriptor in any case.
func (c *cache) add(e *entry, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch || c.limit <= 0 {
		unix.Close(e.fd)
		return
	}
	if old := c.entries[e.key]; old != nil {
		c.drop(old)
	}
	for len(c.entries) >= c.limit {
		c.drop(c.ring.prev)
	}
	e.first, e.uses = e.used, 1
	c.entries[e.key] = e
	c.push(e)
}

// flush forgets everything.
func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for c.ring.next != &c.ring {
		c.drop(c.ring.next)
	}
}

// sweep closes files that nobody asked for since before, and files that were
// deleted, whose space would otherwise never be free.
func (c *cache) sweep(before time.Time) {
	for _, key := range c.clean(before) {
		c.tell(key)
	}
}

// clean is sweep; it returns the files that were changed.
func (c *cache) clean(before time.Time) (changed []evidence.FileID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.ring.next; e != &c.ring; {
		next := e.next
		gone, written := e.stale()
		if written {
			changed = append(changed, e.key)
		}
		if gone || e.used.Before(before) {
			c.drop(e)
		}
		e = next
	}
	return changed
}

// tell says that a file is not what was hashed. The caller does not hold mu.
func (c *cache) tell(key evidence.FileID) {
	if c.altered != nil {
		c.altered(key)
	}
}

// stale reports whether e says nothing about its file any more, and whether
// that is because the file was changed: one that was only deleted is what it was.
func (e *entry) stale() (gone, changed bool) {
	st, err := fstat(e.fd)
	if err != nil {
		return true, false
	}
	return st.id != e.id || st.links == 0, st.id != e.id && (st.links > 0 || st.id.Size != e.id.Size)
}

func (c *cache) drop(e *entry) {
	delete(c.entries, e.key)
	c.unlink(e)
	unix.Close(e.fd)
}

func (c *cache) push(e *entry) {
	e.prev, e.next = &c.ring, c.ring.next
	e.prev.next, e.next.prev = e, e
}

func (c *cache) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
