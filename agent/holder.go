// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

const (
	maxHolders   = 1 << 12 // processes that hold credentials
	maxPerHolder = 64      // credentials of one process
	// A cached token is given out only if it lives at least this much longer.
	minLeft = 60 * time.Second
)

// holder is what one process instance was given: its DPoP key and its tokens.
// It lives in memory only, and only as long as the instance does.
type holder struct {
	key *brokerclient.Key

	mu    sync.Mutex // guards given
	given map[string]*grant
	ended atomic.Bool
	held  atomic.Int32 // tokens
}

// holds returns how many tokens h has; h may be nil.
func (h *holder) holds() int {
	if h == nil {
		return 0
	}
	return int(h.held.Load())
}

// end closes what the grants keep open. One in use is closed by its user.
func (h *holder) end() {
	h.ended.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.given {
		g.sweep()
	}
}

// want is what a process asks for.
type want struct {
	d         evidence.Hash
	audience  string
	actions   []string
	datatypes []string
	bearer    bool
}

// key names the want among those of one process. Texts are bounded and hold no
// zero byte: they come from a JSON request that was checked, or from a D.
func (w *want) key() string {
	parts := slices.Concat([]string{string(w.d[:]), w.audience}, w.actions, []string{"\x00"}, w.datatypes)
	if w.bearer {
		parts = append(parts, "\x00bearer")
	}
	return strings.Join(parts, "\x00")
}

// grant is the credential for one want. turn is held while it is obtained, so
// that requests for the same at once become one.
type grant struct {
	holder *holder
	turn   chan struct{} // of capacity 1

	// What follows is guarded by turn.
	token   *brokerclient.Token
	expires time.Time
	epoch   *epoch // it was obtained in; a new one ends it
	pins    *measure.Pins
	after   evidence.State // the closing look
}

func (g *grant) lock(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *grant) unlock() {
	<-g.turn
	if g.holder.ended.Load() {
		g.sweep()
	}
}

// sweep forgets the token unless somebody is at it.
func (g *grant) sweep() {
	select {
	case g.turn <- struct{}{}:
		g.forget()
		<-g.turn
	default:
	}
}

// forget drops the token; the caller has the turn.
func (g *grant) forget() {
	if g.pins != nil {
		g.pins.Close()
	}
	if g.token != nil {
		g.holder.held.Add(-1)
	}
	g.token, g.pins = nil, nil
}

// hold returns the holder of the instance, which must still be the one that
// runs. Making its key is the first thing that happens for it.
func (t *table) hold(i evidence.Instance, random io.Reader) (*holder, error) {
	if h := t.holderOf(i); h != nil {
		return h, nil
	}
	key, err := brokerclient.NewKey(random)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[i.PID]
	if p == nil || p.instance != i {
		return nil, fault(codeExec, "process %s runs another program, or ended", i)
	}
	if p.holder == nil {
		if t.holders >= maxHolders {
			return nil, fault(codeBusy, "%d processes hold credentials already", maxHolders)
		}
		t.holders++
		p.holder = &holder{key: key, given: make(map[string]*grant)}
	}
	return p.holder, nil
}

func (t *table) holderOf(i evidence.Instance) *holder {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.processes[i.PID]; p != nil && p.instance == i {
		return p.holder
	}
	return nil
}

// holds reports whether the instance still holds h: nothing ended it since.
func (t *table) holds(i evidence.Instance, h *holder) bool { return t.holderOf(i) == h }

// grant returns the grant for the want.
func (h *holder) grant(w *want) (*grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := w.key()
	if g := h.given[name]; g != nil {
		return g, nil
	}
	if len(h.given) >= maxPerHolder {
		return nil, fault(codeBusy, "the process holds %d credentials, at most %d", len(h.given), maxPerHolder)
	}
	g := &grant{holder: h, turn: make(chan struct{}, 1)}
	h.given[name] = g
	return g, nil
}
