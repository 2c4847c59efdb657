// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package peer finds out who wrote a message to the host's socket, from the
// kernel and never from the message (the door of the last arrow of the flow).
//
// It holds the writer of the message against the one who connected: a socket
// that was passed on, inherited or kept over an exec into another process is
// refused. What it cannot find out is refused too.
//
// Where the kernel has SO_PASSPIDFD (Linux 6.5), it names the writer of each
// message itself. Below, the writer's pid comes with each message
// (SCM_CREDENTIALS), and the pidfd opened for it counts only if the process
// was there before the greeting that the message answers.
package peer
