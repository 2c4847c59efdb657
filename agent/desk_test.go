// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

func newVisit(ctx context.Context, size int) *visit {
	return &visit{ctx: ctx, pidfd: -1, entry: make([]byte, size), done: make(chan struct{})}
}

func TestDeskFillsABundleAndNoMore(t *testing.T) {
	d := newDesk(time.Hour, bundleFrame)
	for range 100 {
		d.arrive()(newVisit(t.Context(), 100<<10))
	}
	total := 0
	for total < 100 {
		batch := d.take(t.Context(), nil)
		size := bundleFrame
		for _, v := range batch {
			size += v.size()
		}
		if len(batch) == 0 || size > evidence.MaxBundle {
			t.Fatalf("batch of %d visits, %d bytes", len(batch), size)
		}
		total += len(batch)
	}
	// One that is too large alone goes alone: the broker may have the boot log.
	d.arrive()(newVisit(t.Context(), evidence.MaxBundle))
	if n := len(d.take(t.Context(), nil)); n != 1 {
		t.Errorf("batch of %d", n)
	}
}

func TestDeskWaitsForThoseBeingMeasured(t *testing.T) {
	d := newDesk(300*time.Millisecond, 0)
	first, second, third, slow := d.arrive(), d.arrive(), d.arrive(), d.arrive()
	first(newVisit(t.Context(), 1))
	go func() {
		time.Sleep(5 * time.Millisecond)
		second(newVisit(t.Context(), 1))
		third(nil) // its measurement failed
	}()
	begin := time.Now()
	if n := len(d.take(t.Context(), nil)); n != 2 {
		t.Errorf("batch of %d, two were on their way", n)
	}
	if waited := time.Since(begin); waited < 200*time.Millisecond || waited > 10*time.Second {
		t.Errorf("waited %v for the slow one, the limit is 300ms", waited)
	}
	// Nobody waits for it a second time.
	d.arrive()(newVisit(t.Context(), 1))
	begin = time.Now()
	if n := len(d.take(t.Context(), nil)); n != 1 || time.Since(begin) > 200*time.Millisecond {
		t.Errorf("batch of %d after %v", n, time.Since(begin))
	}
	if d.waiting() != 1 {
		t.Errorf("%d waiting", d.waiting())
	}
	slow(newVisit(t.Context(), 1))
	if n := len(d.take(t.Context(), nil)); n != 1 || d.waiting() != 0 || d.worth != 0 {
		t.Errorf("batch of %d, %d waiting, %d worth it", n, d.waiting(), d.worth)
	}
}

func TestDeskForgetsWhoGaveUp(t *testing.T) {
	d := newDesk(0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	gone, here := newVisit(ctx, 1), newVisit(t.Context(), 1)
	cancel()
	for _, v := range []*visit{gone, here} {
		d.arrive()(v)
	}
	if batch := d.take(t.Context(), nil); len(batch) != 1 || batch[0] != here {
		t.Errorf("batch of %d", len(batch))
	}
	select {
	case <-gone.done:
	default:
		t.Error("who gave up was not told")
	}
	late := newVisit(t.Context(), 1)
	d.close()
	d.arrive()(late)
	if <-late.done; late.err == nil {
		t.Error("a visit after closing time")
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if batch := d.take(ctx, nil); batch != nil {
		t.Errorf("batch of %d after the end", len(batch))
	}
}
