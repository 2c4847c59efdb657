// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command jurat is what people and scripts use: to look at evidence, to ask
// for, approve and revoke delegations, to run a workload under one, to tell the
// broker what to expect, and to find out why something was denied.
//
// It stands beside the flow and decides nothing: the kernel says who asks,
// juratd measures, the broker judges. Its doors are the terminal, juratd's
// socket, the broker's public API and its operator socket, ssh-keygen for a
// person's signature. It refuses to sign a delegation that it has not
// recomputed and shown, and to call a bundle verified that nobody verified.
//
// README.md beside this file has the shapes of its --json output.
package main

import (
	"os"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
