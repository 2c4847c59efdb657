// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"sync"
)

// How many processes are measured in full at once: in all, of one user, and
// the same process.
const (
	measurers        = 8
	measurersPerUser = 4
)

// turnstile gives out places for full measurements, which may take long, so
// that no user has them all and no process has two.
type turnstile struct {
	places chan struct{}

	mu     sync.Mutex // guards what follows
	groups map[group]*queue
}

// group is a user, or a process.
type group struct {
	process bool
	id      uint32
}

// queue is where those of one group wait.
type queue struct {
	places chan struct{}
	here   int // waiting or in
}

func newTurnstile() *turnstile {
	return &turnstile{places: make(chan struct{}, measurers), groups: make(map[group]*queue)}
}

// enter waits for a place. If it returns no error, the caller calls leave.
func (t *turnstile) enter(ctx context.Context, uid, pid uint32) (leave func(), err error) {
	var entered []func()
	leave = func() {
		for i := len(entered) - 1; i >= 0; i-- {
			entered[i]()
		}
	}
	for _, g := range []struct {
		group
		places int
	}{{group{true, pid}, 1}, {group{false, uid}, measurersPerUser}} {
		q := t.join(g.group, g.places)
		if !acquire(ctx, q.places) {
			t.part(g.group, q)
			leave()
			return nil, ctx.Err()
		}
		entered = append(entered, func() {
			<-q.places
			t.part(g.group, q)
		})
	}
	if !acquire(ctx, t.places) {
		leave()
		return nil, ctx.Err()
	}
	entered = append(entered, func() { <-t.places })
	return leave, nil
}

func acquire(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *turnstile) join(g group, places int) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.groups[g]
	if q == nil {
		q = &queue{places: make(chan struct{}, places)}
		t.groups[g] = q
	}
	q.here++
	return q
}

func (t *turnstile) part(g group, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.here--; q.here == 0 {
		delete(t.groups, g)
	}
}
