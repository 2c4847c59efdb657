// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Files are hashed in two lanes, so that nobody's script waits behind
// somebody's model. Together they bound how much of the machine hashing takes.
const (
	largeFile  = 256 << 20       // bytes from which a file is hashed in the lane of large ones
	smallLane  = 2               // files hashed at a time
	largeLane  = 1               // of large ones
	maxPasses  = 64              // large files hashed or waiting for it
	passLinger = 2 * time.Minute // how long a pass goes on that nobody waits for: who gave up will ask again
)

// passes are the large files being hashed. Whoever needs the same file at the
// same time shares one pass over it.
type passes struct {
	lane chan struct{}

	mu      sync.Mutex // guards what follows
	running map[passKey]*pass
}

type passKey struct {
	file       evidence.FileID
	generation uint32
}

// pass is one reading of a large file. It belongs to nobody who waits for it.
type pass struct {
	key      passKey
	path     string
	total    uint64
	done     atomic.Uint64
	cancel   context.CancelFunc
	finished chan struct{} // closed when result is set
	result   reading

	waiting int         // guarded by passes.mu
	linger  *time.Timer // of the same
}

// Hashing is how far the digest of a large file is.
type Hashing struct {
	Path        string
	Done, Total uint64 // bytes
}

// Hashing lists the large files that are being hashed or wait for it.
func (m *Meter) Hashing() []Hashing {
	m.passes.mu.Lock()
	defer m.passes.mu.Unlock()
	out := make([]Hashing, 0, len(m.passes.running))
	for _, p := range m.passes.running {
		out = append(out, Hashing{Path: p.path, Done: p.done.Load(), Total: p.total})
	}
	slices.SortFunc(out, func(a, b Hashing) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// pass hashes the file in the lane for its size.
func (m *Meter) pass(ctx context.Context, s *source) reading {
	if s.seen.id.Size >= largeFile {
		return m.sharedPass(ctx, s)
	}
	select {
	case m.gate <- struct{}{}:
		defer func() { <-m.gate }()
	case <-ctx.Done():
		return reading{refused: reasonDeadline}
	}
	return m.read(ctx, s, nil)
}

// sharedPass waits for the pass over a large file, and starts it if there is none.
func (m *Meter) sharedPass(ctx context.Context, s *source) reading {
	for ctx.Err() == nil && m.life.Err() == nil {
		p, refused := m.joinPass(s)
		if refused != "" {
			return reading{refused: refused}
		}
		select {
		case <-p.finished:
		case <-ctx.Done():
		}
		m.leavePass(p)
		if ctx.Err() == nil && p.result.refused != reasonDeadline { // else it had been given up just before
			return p.result
		}
	}
	return reading{refused: reasonDeadline}
}

func (m *Meter) joinPass(s *source) (p *pass, refused string) {
	var key passKey
	key.file, key.generation = s.key()
	m.passes.mu.Lock()
	defer m.passes.mu.Unlock()
	if p = m.passes.running[key]; p != nil {
		p.waiting++
		if p.linger != nil {
			p.linger.Stop()
		}
		return p, ""
	}
	if len(m.passes.running) >= maxPasses {
		return nil, reasonTooMany
	}
	own := *s
	var err error
	if own.path, err = unix.FcntlInt(uintptr(s.path), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, reasonUnreadable
	}
	ctx, cancel := context.WithCancel(m.life)
	p = &pass{
		key: key, path: hint(pathOf(s.path), evidence.MaxText), total: s.seen.id.Size,
		cancel: cancel, finished: make(chan struct{}), waiting: 1,
	}
	m.passes.running[key] = p
	m.work.Go(func() { m.runPass(ctx, p, &own) })
	return p, ""
}

// runPass waits for the lane and reads the file.
func (m *Meter) runPass(ctx context.Context, p *pass, s *source) {
	defer p.cancel()
	defer unix.Close(s.path)
	select {
	case m.passes.lane <- struct{}{}:
		p.result = m.read(ctx, s, &p.done)
		<-m.passes.lane
	case <-ctx.Done():
		p.result = reading{refused: reasonDeadline}
	}
	m.passes.mu.Lock()
	defer m.passes.mu.Unlock()
	delete(m.passes.running, p.key)
	close(p.finished)
}

// leavePass ends a pass that nobody waits for, after a while.
func (m *Meter) leavePass(p *pass) {
	m.passes.mu.Lock()
	defer m.passes.mu.Unlock()
	if p.waiting--; p.waiting > 0 {
		return
	}
	select {
	case <-p.finished:
	default:
		p.linger = time.AfterFunc(passLinger, func() {
			m.passes.mu.Lock()
			defer m.passes.mu.Unlock()
			if p.waiting == 0 {
				p.cancel()
			}
		})
	}
}
