// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package lru keeps what was used last, up to a weight (station 9). It has no
// door. What it forgets has to be made or read again: nothing may rest on its
// being here.
package lru

import (
	"container/list"
	"sync"
)

// Cache keeps values by key. It is safe for use by many goroutines; the values
// are the callers' affair.
type Cache[K comparable, V any] struct {
	max int

	mu     sync.Mutex // guards what follows
	weight int
	order  *list.List // of *item, the last used first
	items  map[K]*list.Element
}

type item[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

// New returns a cache of values that weigh at most max together.
func New[K comparable, V any](max int) *Cache[K, V] {
	return &Cache[K, V]{max: max, order: list.New(), items: make(map[K]*list.Element)}
}

// Get returns the value of key, which is the last used from now on.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*item[K, V]).value, true
}

// Put keeps a value in place of the one that key had, and forgets those that
// were not used for longest until there is room. A value that weighs more than
// the cache may hold is not kept, and neither is the one before it.
func (c *Cache[K, V]) Put(key K, value V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.items[key])
	if weight > c.max {
		return
	}
	c.items[key] = c.order.PushFront(&item[K, V]{key, value, weight})
	for c.weight += weight; c.weight > c.max; {
		c.drop(c.order.Back())
	}
}

// Drop forgets the value of key.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.items[key])
}

func (c *Cache[K, V]) drop(e *list.Element) {
	if e == nil {
		return
	}
	i := c.order.Remove(e).(*item[K, V])
	delete(c.items, i.key)
	c.weight -= i.weight
}
