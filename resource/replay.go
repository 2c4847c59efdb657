// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package resource

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

var errFull = errors.New("too many calls within the window of a proof")

// replay remembers the proofs seen within the time in which they could be sent
// again. It forgets none of them early: when it is full it says so.
type replay struct {
	total, perKey int

	mu     sync.Mutex // guards what follows
	seen   map[[32]byte]struct{}
	counts map[string]int // by key thumbprint
	queue  []replayEntry  // in order of forgetting
	head   int            // first of queue still remembered
}

type replayEntry struct {
	id     [32]byte
	key    string
	forget time.Time
}

type replayAnswer uint8

const (
	replayNew replayAnswer = iota + 1
	replaySeen
	replayFull
)

func newReplay(total, perKey int) *replay {
	return &replay{total: total, perKey: perKey, seen: map[[32]byte]struct{}{}, counts: map[string]int{}}
}

// add remembers the proof id made with key. A key may fill its own share only.
//
//	id = SHA-256(key || 0x00 || jti)
func (r *replay) add(key, jti string, now time.Time) replayAnswer {
	id := sha256.Sum256([]byte(key + "\x00" + jti))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	if _, ok := r.seen[id]; ok {
		return replaySeen
	}
	if len(r.seen) >= r.total || r.counts[key] >= r.perKey {
		return replayFull
	}
	r.seen[id] = struct{}{}
	r.counts[key]++
	// A proof dated maxSkew ahead is good for that much longer.
	r.queue = append(r.queue, replayEntry{id: id, key: key, forget: now.Add(proofAge + maxSkew + time.Second)})
	return replayNew
}

func (r *replay) forget(now time.Time) {
	for r.head < len(r.queue) && r.queue[r.head].forget.Before(now) {
		e := r.queue[r.head]
		delete(r.seen, e.id)
		if r.counts[e.key]--; r.counts[e.key] == 0 {
			delete(r.counts, e.key)
		}
		r.head++
	}
	if r.head > len(r.queue)/2 {
		r.queue = append(r.queue[:0], r.queue[r.head:]...)
		r.head = 0
	}
}
