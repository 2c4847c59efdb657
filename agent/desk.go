// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// visit is one request for a credential on its way through the stations. It
// owns its descriptors, since who asked may give up before it is done.
type visit struct {
	ctx   context.Context // of who asked
	pidfd int
	uid   uint32
	facts measure.Facts
	want  want
	key   *brokerclient.Key

	// The measurement, as an entry of the log.
	epoch *epoch
	pins  *measure.Pins
	index uint64
	leaf  evidence.Hash
	entry []byte

	// Its place in a batch.
	position uint64
	request  evidence.Request
	raw      []byte
	before   evidence.State
	after    evidence.State
	tries    int
	shown    string // what a look showed that was not measured

	token *brokerclient.Token
	err   error
	done  chan struct{} // closed when token or err is set
}

// finish ends the visit; only the first call counts, and only one goroutine
// has the visit at a time.
func (v *visit) finish(token *brokerclient.Token, err error) {
	select {
	case <-v.done:
		return
	default:
	}
	v.token, v.err = token, err
	close(v.done)
}

// close gives the descriptors back.
func (v *visit) close() {
	unix.Close(v.pidfd)
	if v.pins != nil {
		v.pins.Close()
	}
}

// size is about what the visit takes in a bundle: its entry, its request with
// the first look, the second look, and a proof for each of two trees.
func (v *visit) size() int {
	const request, look, proofs = 640, 160, (12 + 24) * 34
	n := len(v.entry) + request + look + proofs + len(v.want.audience)
	for _, list := range [][]string{v.want.actions, v.want.datatypes} {
		for _, text := range list {
			n += len(text) + 3
		}
	}
	return n
}

// desk is where visits wait for a quote. Whoever is measured already goes with
// the next one; a quote waits a little for those who are being measured.
type desk struct {
	gather  time.Duration
	reserve int // bytes of a bundle that are not for visits

	mu        sync.Mutex // guards what follows
	closed    bool
	measuring int // visits that are being measured
	worth     int // of them, those worth waiting for: they came a moment ago
	ready     []*visit
	changed   chan struct{} // closed, and made anew, at each change
}

func newDesk(gather time.Duration, reserve int) *desk {
	return &desk{gather: gather, reserve: reserve, changed: make(chan struct{})}
}

func (d *desk) signal() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// arrive announces a visit that is being measured, and returns how to hand it
// over; nil: its measurement failed. A quote waits for it only so long.
func (d *desk) arrive() (queue func(*visit)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.measuring++
	d.worth++
	waited := false
	patience := time.AfterFunc(d.gather, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !waited {
			waited = true
			d.worth--
			d.signal()
		}
	})
	return func(v *visit) {
		patience.Stop()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.measuring--
		if !waited {
			waited = true
			d.worth--
		}
		if v != nil {
			d.put(v)
		}
		d.signal()
	}
}

func (d *desk) put(v *visit) {
	if d.closed {
		v.finish(nil, errEnding)
		return
	}
	d.ready = append(d.ready, v)
}

var errEnding = fault(codeInternal, "juratd is ending")

// again takes back a visit that goes with the next quote.
func (d *desk) again(v *visit) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(v)
	d.signal()
}

// close ends everybody's wait, also of those who come later.
func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, v := range d.ready {
		v.finish(nil, errEnding)
	}
	d.ready = nil
}

func (d *desk) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.measuring + len(d.ready)
}

// take waits for the next batch: at least one visit, at most what fits into
// one quote and one bundle. It returns nil when ctx ends, or when idle says so
// while nobody waits.
func (d *desk) take(ctx context.Context, idle <-chan time.Time) []*visit {
	var closing <-chan time.Time // when not to wait any longer
	for {
		d.mu.Lock()
		changed := d.changed
		if n, full := d.fit(); n > 0 {
			if closing == nil {
				closing = time.After(d.gather)
			}
			late := false
			select {
			case <-closing:
				late = true
			default:
			}
			if full || late || d.worth == 0 {
				batch := d.ready[:n:n]
				d.ready = append([]*visit(nil), d.ready[n:]...)
				d.mu.Unlock()
				return batch
			}
		}
		waiting := len(d.ready) > 0
		d.mu.Unlock()
		if waiting {
			idle = nil
		}
		select {
		case <-idle:
			return nil
		case <-changed:
		case <-closing:
			closing = expired
		case <-ctx.Done():
			return nil
		}
	}
}

var expired = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// fit returns how many of those ready go into one batch, and whether no more
// would; the caller holds mu. Whoever gave up is dropped.
func (d *desk) fit() (n int, full bool) {
	live := d.ready[:0]
	for _, v := range d.ready {
		if v.ctx.Err() != nil {
			v.finish(nil, v.ctx.Err())
			continue
		}
		live = append(live, v)
	}
	clear(d.ready[len(live):])
	d.ready = live
	size := d.reserve
	for i, v := range d.ready {
		if size += v.size(); i > 0 && size > evidence.MaxBundle || i == evidence.MaxBatch {
			return i, true
		}
	}
	return len(d.ready), len(d.ready) == evidence.MaxBatch
}

// bundleFrame is what a bundle takes beside its requests: quote, header,
// checkpoint, start entry, consistency proof.
const bundleFrame = 32 << 10
