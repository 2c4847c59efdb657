// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package limit keeps strangers from keeping the broker busy (station 9). It
// has no door, and its memory is bounded: when too many are known, those it
// does not know share one allowance.
package limit

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxKnown is how many are told apart.
const maxKnown = 8192

// Limiter gives each client burst requests at once and rate more per second.
type Limiter struct {
	rate, burst float64

	mu    sync.Mutex // guards what follows
	known map[string]*bucket
	rest  bucket // of everybody not in known
	swept time.Time
}

type bucket struct {
	left float64
	at   time.Time
}

// New returns a limiter.
func New(rate, burst float64) *Limiter {
	return &Limiter{rate: rate, burst: burst, known: make(map[string]*bucket), rest: bucket{left: burst}}
}

// Allow takes one request of client from its allowance. When nothing is left
// it says after how long something will be.
func (l *Limiter) Allow(client string, now time.Time) (bool, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.known[client]
	if b == nil && len(l.known) >= maxKnown {
		l.sweep(now)
	}
	switch {
	case b != nil:
	case len(l.known) < maxKnown:
		b = &bucket{left: l.burst, at: now}
		l.known[client] = b
	default:
		b = &l.rest
	}
	l.fill(b, now)
	if b.left < 1 {
		return false, time.Duration((1 - b.left) / l.rate * float64(time.Second))
	}
	b.left--
	return true, 0
}

func (l *Limiter) fill(b *bucket, now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(l.burst, b.left+passed.Seconds()*l.rate)
		b.at = now
	} else if passed < -time.Minute {
		b.at = now // the clock was set back
	}
}

// sweep forgets those who have their whole allowance: they lose nothing.
// Once a second is enough, or the sweep itself would be what keeps us busy.
func (l *Limiter) sweep(now time.Time) {
	if passed := now.Sub(l.swept); passed >= 0 && passed < time.Second {
		return
	}
	l.swept = now
	for client, b := range l.known {
		if l.fill(b, now); b.left >= l.burst {
			delete(l.known, client)
		}
	}
}

// Client names the sender of a request by its address: an IPv4 address, or
// the /64 an IPv6 address is in.
func Client(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if addr = addr.Unmap(); addr.Is6() {
		if prefix, err := addr.WithZone("").Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}
