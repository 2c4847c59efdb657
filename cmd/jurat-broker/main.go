// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command jurat-broker serves package broker: the public API on one TCP
// address, the operators' on a unix socket (stations 9 and 10).
//
//	jurat-broker -issuer https://broker.example -listen :443 \
//	    -tls-cert cert.pem -tls-key key.pem -ek-roots /etc/jurat/ek-roots
//
// Its doors are these two listeners, its data directory, the files that flags
// name, and with -store a PostgreSQL server. It refuses plain http on anything
// but a loopback address, a data directory or key that others may read, a log
// that is not the one its key signed, and a store that was put back to an earlier
// state. It dials nobody but that server, for which it reads the environment
// variables PG* as every client of PostgreSQL does, and no others.
//
// Exit codes: 0 ended by a signal, 2 usage, 3 environment.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	// What this process makes is for its owner alone.
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
