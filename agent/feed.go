// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
)

const (
	maxListeners = 32   // clients that follow the events
	listenerRing = 1024 // events that wait for one of them
)

// feed tells clients what happens as it happens. Who is slow misses some, and
// is told how many; the pipeline never waits. While nobody listens an event
// costs one load.
type feed struct {
	listening atomic.Int32

	mu        sync.Mutex // guards listeners
	listeners map[*listener]struct{}
}

// listener is one client's place in the feed.
type listener struct {
	events chan local.Event
	missed atomic.Uint64
}

// active reports whether anybody listens.
func (f *feed) active() bool { return f.listening.Load() > 0 }

func (f *feed) join() (*listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.listeners) >= maxListeners {
		return nil, fault(codeBusy, "%d clients follow the events, at most that many at once", maxListeners)
	}
	if f.listeners == nil {
		f.listeners = make(map[*listener]struct{})
	}
	l := &listener{events: make(chan local.Event, listenerRing)}
	f.listeners[l] = struct{}{}
	f.listening.Add(1)
	return l, nil
}

func (f *feed) part(l *listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, l)
	f.listening.Add(-1)
}

// tell hands an event to everybody who has room for it. What it points to
// does not change any more.
func (f *feed) tell(ev local.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.listeners {
		select {
		case l.events <- ev:
		default:
			l.missed.Add(1)
		}
	}
}

// next waits for an event. How many were missed before it is in the one that
// had room again.
func (l *listener) next(ctx context.Context) (local.Event, error) {
	select {
	case ev := <-l.events:
		ev.Missed = l.missed.Swap(0)
		return ev, nil
	case <-ctx.Done():
		return local.Event{}, ctx.Err()
	}
}

// publish tells those who listen of an entry that was logged.
func (a *Agent) publish(e *evidence.Entry) {
	if !a.feed.active() {
		return
	}
	ev := local.Event{Time: a.wall(e.At), Entry: e, Instance: e.Instance}
	if e.Exec != nil { // by now it may run something else, or be gone
		ev.UID = &e.Exec.Creds.UID
		a.describe(&ev, e.Exec.CgroupID)
	} else {
		a.describe(&ev, 0)
	}
	a.feed.tell(ev)
}

// note tells those who listen of what is no entry of the log.
func (a *Agent) note(i evidence.Instance, format string, args ...any) {
	if !a.feed.active() {
		return
	}
	ev := local.Event{Time: a.now().UnixNano(), Instance: &i, Note: fmt.Sprintf(format, args...)}
	a.describe(&ev, 0)
	a.feed.tell(ev)
}

// describe says who the process of an event is. cgroup is where it was at the
// event; 0: where it is now.
func (a *Agent) describe(ev *local.Event, cgroup uint64) {
	if ev.Instance == nil {
		return
	}
	p, ok := a.table.copyOf(*ev.Instance)
	if ok {
		ev.Path, _ = p.program.path()
		ev.Command = p.program.image.Value().command
		if ev.UID == nil {
			uid := p.program.creds.Value().UID
			ev.UID = &uid
		}
		if cgroup == 0 {
			cgroup = p.cgroup
		}
	}
	if cgroup != 0 {
		place := a.meter.Place(cgroup)
		ev.Unit, ev.Container = place.Unit, place.Container
	}
}

// wall returns the time of day of a moment since boot, in nanoseconds since
// 1970: by the clock as it is set now.
func (a *Agent) wall(at uint64) int64 { return a.now().UnixNano() - int64(a.boot()-at) }
