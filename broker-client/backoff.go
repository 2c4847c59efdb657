// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"context"
	"errors"
	"time"
)

// Backoff says how long to wait between attempts: full jitter, so that many
// hosts that lost the broker at once do not come back at once.
//
//	wait = random in [0, min(Max, Base * 2^attempt))
type Backoff struct {
	Base, Max time.Duration
	Random    func(n int64) int64                              // a number in [0, n), such as rand.Int64N
	Wait      func(ctx context.Context, d time.Duration) error // nil: wait for real
}

// Delay returns the wait after the given number of failed attempts, counted
// from 0. The broker's own word, if it gave one, is the least.
func (b Backoff) Delay(attempt int, atLeast time.Duration) time.Duration {
	ceiling := b.Max
	if attempt < 32 && b.Base<<attempt < b.Max && b.Base<<attempt > 0 {
		ceiling = b.Base << attempt
	}
	d := time.Duration(0)
	if ceiling > 0 {
		d = time.Duration(b.Random(int64(ceiling)))
	}
	return max(d, min(atLeast, b.Max))
}

// Retry calls do until it succeeds, fails for good, or ctx ends. failed, if
// not nil, hears of each failed attempt before the wait. What it returns when
// ctx ends is the last failure, not the context's.
func (b Backoff) Retry(ctx context.Context, failed func(error), do func(context.Context) error) error {
	wait := b.Wait
	if wait == nil {
		wait = sleep
	}
	for attempt := 0; ; attempt++ {
		err := do(ctx)
		if err == nil || !Temporary(err) {
			return err
		}
		if failed != nil {
			failed(err)
		}
		var atLeast time.Duration
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			atLeast = refusal.After
		}
		if wait(ctx, b.Delay(attempt, atLeast)) != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
