// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import "net"

// notifier returns a function that tells the service manager how juratd is
// (sd_notify(3)). Without a socket it does nothing. A service manager that
// does not listen is no reason to end.
func notifier(socket string) func(state string) {
	if socket == "" {
		return func(string) {}
	}
	return func(state string) {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(state))
	}
}
