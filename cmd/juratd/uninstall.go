// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/jurat-dev/jurat/agent"
	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
)

const uninstallUsage = `usage: juratd uninstall [-purge] [flags]

Removes what a stopped agent leaves behind: its socket, and its programs in
the kernel, which watch on for the next agent. With -purge also its state: the
host has to enrol again after that.

  juratd uninstall

`

// uninstall removes what the agent leaves behind when it has ended.
func uninstall(args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("juratd uninstall", flag.ContinueOnError)
	u := agent.Uninstalling{}
	f.StringVar(&u.State, "state", defaultState, "state `DIR`")
	f.StringVar(&u.Socket, "socket", local.DefaultSocket, "unix socket of the agent, `PATH`")
	f.StringVar(&u.Pin, "pin", bpf.DefaultPin, "where the programs are pinned, `DIR`")
	f.BoolVar(&u.Purge, "purge", false, "also remove the state: identity, log, keys")
	if err := parse(f, args, stderr, uninstallUsage); err != nil {
		return err
	}
	removed, err := agent.Uninstall(u)
	for _, what := range removed {
		_, writeErr := fmt.Fprintln(stdout, "removed", what)
		err = errors.Join(err, writeErr)
	}
	return err
}
