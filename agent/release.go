// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jurat-dev/jurat/bpf"
)

// releaseEvery is how often the kernel gets its records back. At 5,000 execs a
// second that is 300 KiB of a ring of 8 MiB.
const releaseEvery = 50 * time.Millisecond

// batch are the events between two marks in the sensor's stream. The kernel
// keeps their records until the log has their entries: an agent that comes
// after one that was killed reads them again.
type batch struct {
	pending atomic.Int64 // execs that are not logged yet
	mark    bpf.Mark     // where it ends
}

// queued is an exec that waits to be logged. batch is nil for one that a
// snapshot found: the next snapshot finds it again.
type queued struct {
	*program
	batch *batch
}

// done tells that the exec is logged.
func (q queued) done() {
	if q.batch != nil {
		q.batch.pending.Add(-1)
	}
}

// giveBack marks and releases now and then, and at the end.
func (a *Agent) giveBack(ctx context.Context) error {
	if time.Since(a.marked) < releaseEvery && ctx.Err() == nil {
		return nil
	}
	if err := a.mark(); err != nil {
		return err
	}
	return a.release()
}

// mark ends the batch. Everything that was read up to now and makes no exec
// entry is logged already.
func (a *Agent) mark() error {
	a.marked = time.Now()
	if a.unqueued > 0 {
		if err := a.logUnqueued(); err != nil {
			return err
		}
	}
	if a.fresh && a.sensor.Mark(&a.batch.mark) {
		a.batches, a.batch, a.fresh = append(a.batches, a.batch), new(batch), false
	}
	return nil
}

// release gives the records of those batches back that are logged.
func (a *Agent) release() error {
	var last *batch
	for len(a.batches) > 0 && a.batches[0].pending.Load() == 0 {
		last, a.batches = a.batches[0], a.batches[1:]
	}
	if last == nil {
		return nil
	}
	if err := a.log.Flush(); err != nil {
		return err
	}
	a.sensor.Release(&last.mark)
	return nil
}
