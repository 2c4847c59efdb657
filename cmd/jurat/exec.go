// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// execOptions is what "jurat exec" was told.
type execOptions struct {
	delegation string
	tokenFile  string
	bearer     bool
	actions    []string
	command    []string
}

func (a *app) execCommand() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec --delegation ID [--token-file PATH [--bearer]] [--] CMD [ARG...]",
		Short: "run a workload under a delegation",
		Long: `Runs CMD so that it can act under a delegation.

Without --token-file, jurat becomes CMD (same process), with JURAT_SOCKET and
JURAT_DELEGATION in its environment. CMD asks juratd for each request (in Go:
agent/local.Transport) and never holds a usable credential.

With --token-file, for programs that cannot do that, CMD runs as a child and its
token is kept in PATH: mode 0600, replaced as a whole, no newline at its end,
renewed with fresh evidence at 80 % of its life, removed when CMD ends.
JURAT_TOKEN_FILE names it. The file appears a moment after CMD has started,
because what is measured is CMD running: wait for it. The token is bound to a
key that stays in juratd; only with --bearer, and only where the delegation's
policy allows that, does it work alone.

There is no command that prints a token. juratd measures the process that asks,
so such a command would get a credential for jurat, not for your workload.`,
		Example: `  jurat exec --delegation dlg_… -- ./invoice-agent --month 10
  jurat exec --delegation dlg_… --token-file /run/user/1000/token -- ./old-agent`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			o.command = args
			if err := o.check(c); err != nil {
				return err
			}
			return ownFailure(a.exec(c.Context(), o))
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows CMD belongs to CMD
	f.StringVar(&o.delegation, "delegation", "", "the delegation's `ID`")
	f.StringVar(&o.tokenFile, "token-file", "", "keep the token in `PATH` while CMD runs")
	f.BoolVar(&o.bearer, "bearer", false, "a token that works without its key, where the policy allows it")
	f.StringSliceVar(&o.actions, "action", nil, "ask for this `ACTION` only (repeatable; default: all that was approved)")
	return c
}

func (o *execOptions) check(c *cobra.Command) error {
	switch {
	case o.delegation == "":
		return usage(c, "--delegation ID is missing")
	case len(o.command) == 0:
		return usage(c, "CMD is missing")
	case o.bearer && o.tokenFile == "":
		return usage(c, "--bearer needs --token-file")
	case len(o.actions) > 0 && o.tokenFile == "":
		return usage(c, "--action needs --token-file: without it CMD says what it asks for")
	}
	return nil
}

// exec runs the workload. Its exit code is the workload's.
func (a *app) exec(ctx context.Context, o execOptions) error {
	path, err := exec.LookPath(o.command[0])
	if err != nil {
		return cannotRun(err)
	}
	socket, err := filepath.Abs(a.socket)
	if err != nil {
		return err
	}
	vars := []string{"JURAT_SOCKET=" + socket, "JURAT_DELEGATION=" + o.delegation}
	if o.tokenFile == "" {
		return cannotRun(a.execve(path, o.command, environ(vars)))
	}
	if o.tokenFile, err = filepath.Abs(o.tokenFile); err != nil {
		return err
	}
	// Asked before CMD starts: a mistake here is no reason to run it.
	asking, cancel := a.bounded(ctx)
	defer cancel()
	if _, err := a.agent().Status(asking); err != nil {
		return err
	}
	return a.superviseChild(path, o, environ(append(vars, "JURAT_TOKEN_FILE="+o.tokenFile)))
}

// cannotRun gives the exit codes of env(1).
func cannotRun(err error) error {
	if err == nil {
		return nil
	}
	f := &failure{exit: exitCannotRun, code: "environment", err: err}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		f.exit, f.code = exitNotFound, "not-found"
	}
	return f
}

// environ is this process's environment with vars instead of what was there
// under their names.
func environ(vars []string) []string {
	var out []string
	for _, old := range os.Environ() {
		name, _, _ := strings.Cut(old, "=")
		switch name {
		case "JURAT_SOCKET", "JURAT_DELEGATION", "JURAT_TOKEN_FILE":
		default:
			out = append(out, old)
		}
	}
	return append(out, vars...)
}

// ended is the failure that carries a child's exit code and says nothing.
func ended(state *os.ProcessState) error {
	if state.Success() {
		return nil
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &failure{exit: exitSignalBase + int(status.Signal())}
	}
	return &failure{exit: state.ExitCode()}
}

// ownFailure gives an error of jurat exec itself its exit code.
func ownFailure(err error) error {
	if err == nil {
		return nil
	}
	f := *classify(err)
	if f.err != nil && f.exit != exitCannotRun && f.exit != exitNotFound {
		f.exit = exitExec
	}
	return &f
}
