// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package lru

import (
	"sync"
	"testing"
)

func TestCache(t *testing.T) {
	c := New[string, int](10)
	has := func(key string, want int) {
		t.Helper()
		got, ok := c.Get(key)
		if ok != (want != 0) || got != want {
			t.Errorf("%s is %d (%v), want %d", key, got, ok, want)
		}
	}
	c.Put("a", 1, 4)
	c.Put("b", 2, 4)
	has("a", 1)
	c.Put("c", 3, 4) // b was not used for longest
	has("b", 0)
	has("a", 1)
	has("c", 3)
	c.Put("a", 4, 6) // heavier in its own place
	has("a", 4)
	has("c", 3)
	c.Put("a", 5, 11)
	has("a", 0)
	has("c", 3)
	c.Put("d", 6, 10)
	has("c", 0)
	c.Drop("d")
	c.Drop("d")
	has("d", 0)
	if c.weight != 0 || c.order.Len() != 0 || len(c.items) != 0 {
		t.Errorf("weight %d, %d, %d of nothing", c.weight, c.order.Len(), len(c.items))
	}
}

func TestConcurrent(t *testing.T) {
	c := New[int, int](64)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 1000 {
				c.Put(i%100, g, 1+i%7)
				c.Get(i % 90)
				c.Drop(i % 80)
			}
		})
	}
	all.Wait()
	weight := 0
	for e := c.order.Front(); e != nil; e = e.Next() {
		weight += e.Value.(*item[int, int]).weight
	}
	if weight != c.weight || weight > 64 || c.order.Len() != len(c.items) {
		t.Errorf("weight %d, said to be %d; %d and %d items", weight, c.weight, c.order.Len(), len(c.items))
	}
}
