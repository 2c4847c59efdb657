// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/internal/require"
)

// TestClockSteps sets the clock to what it is.
func TestClockSteps(t *testing.T) {
	steps := clockSteps(t.Context())
	select {
	case _, ok := <-steps:
		t.Fatalf("a step before the clock was set (channel open: %v)", ok)
	case <-time.After(20 * time.Millisecond):
	}
	for range 2 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
		require.Need(t, "root", unix.ClockSettime(unix.CLOCK_REALTIME, &now))
		select {
		case _, ok := <-steps:
			if !ok {
				t.Fatal("the clock is not watched any more")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the clock was set, and nobody noticed")
		}
	}
}
