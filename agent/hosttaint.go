// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"slices"
	"sync"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
)

// hostTaints are what spoilt the host since it started. Each is in every look
// at a process from then on.
type hostTaints struct {
	mu  sync.Mutex // guards set
	set []string
}

// add notes a taint and reports whether it was news.
func (h *hostTaints) add(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.set, name) {
		return false
	}
	h.set = append(slices.Clip(h.set), name)
	slices.Sort(h.set)
	return true
}

// names returns all of them, in order; the caller does not change them.
func (h *hostTaints) names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.set)
}

// spoilHost takes in that something spoilt the host. Each time is logged: who
// did it the second time is another.
func (a *Agent) spoilHost(names []string, how string, ev *bpf.Event) error {
	for _, name := range names {
		a.spoilt.add(name)
		if err := a.logTaint(nil, &local.Spoilt{Name: name, At: ev.Time, How: how, By: actor(ev)}, ev.Time); err != nil {
			return err
		}
	}
	return nil
}
