// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// clockSteps returns a channel that hears of each time the wall clock is set,
// and is closed when that cannot be told (any more).
func clockSteps(ctx context.Context) <-chan struct{} {
	steps := make(chan struct{}, 1)
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		close(steps)
		return steps
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	stop := context.AfterFunc(ctx, func() { timer.Close() })
	go func() {
		defer close(steps)
		defer stop()
		defer timer.Close()
		// A timer that never fires, but is cancelled when the clock is set.
		never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32}}
		for {
			if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil && !errors.Is(err, unix.ECANCELED) {
				return
			}
			if _, err := timer.Read(make([]byte, 8)); !errors.Is(err, unix.ECANCELED) {
				return
			}
			select {
			case steps <- struct{}{}:
			default:
			}
		}
	}()
	return steps
}
