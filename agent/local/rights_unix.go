// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build unix

package local

import (
	"os"
	"syscall"
)

// fileRights is the control message that hands over one descriptor.
func fileRights(f *os.File) []byte { return syscall.UnixRights(int(f.Fd())) }
