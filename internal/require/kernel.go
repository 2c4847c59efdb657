// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package require

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Packages are tested at the same time, on one kernel: a test that loads
// programs into it taints the host for a test that watches.

// Loads lets a test load programs into the kernel once nobody is undisturbed.
func Loads(t testing.TB) { share(t, unix.LOCK_SH) }

// Undisturbed waits until no other test loads programs into the kernel, and
// lets none begin before this one has ended.
func Undisturbed(t testing.TB) { share(t, unix.LOCK_EX) }

func share(t testing.TB, how int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "jurat-test-kernel.lock"), os.O_CREATE|os.O_RDONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		t.Fatalf("waiting for the kernel: %v", err)
	}
}
