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
)

const uninstallUsage = `usage: juratd uninstall [-purge] [flags]

Removes what a stopped agent leaves in the kernel: its pinned programs. With
-purge also its state: the host has to enrol again after that.

  juratd uninstall

`

// uninstall removes what the agent leaves behind when it has ended.
func uninstall(args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("juratd uninstall", flag.ContinueOnError)
	u := agent.Uninstalling{}
	f.StringVar(&u.Pin, "pin", agent.DefaultPin, "`DIR` where the sensor is pinned")
	f.StringVar(&u.State, "state", defaultState, "state `DIR`")
	f.StringVar(&u.Socket, "socket", local.DefaultSocket, "unix socket of the agent, `PATH`")
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
