// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
)

// killAfter is how long a child gets to end after SIGTERM.
const killAfter = 10 * time.Second

// forwarded are the signals that go on to the child. Those that the terminal
// makes reach it anyway while it is in the foreground.
var (
	forwarded    = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH}
	fromTerminal = map[os.Signal]bool{unix.SIGINT: true, unix.SIGQUIT: true, unix.SIGWINCH: true}
)

// superviseChild runs the workload as a child and keeps its token file. It
// returns when the child has ended and the file is gone.
func (a *app) superviseChild(path string, o execOptions, env []string) error {
	if err := makeWay(o.tokenFile); err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	pidfd := -1
	cmd := &exec.Cmd{
		Path: path, Args: o.command, Env: env, Stdin: a.in, Stdout: a.out, Stderr: a.err,
		SysProcAttr: &syscall.SysProcAttr{PidFD: &pidfd},
	}
	if err := cmd.Start(); err != nil {
		return cannotRun(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if pidfd < 0 {
		end(cmd, done)
		return errors.New("this kernel gives no pidfd: Linux 5.15 or newer is needed")
	}
	child := os.NewFile(uintptr(pidfd), "pidfd")
	defer child.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	k := &keeper{
		client: a.agent(), file: o.tokenFile, now: a.now, patience: a.timeout, warn: a.warn,
		request: local.CredentialRequest{Delegation: o.delegation, Actions: o.actions, Bearer: o.bearer, Child: child},
	}
	kept := make(chan error, 1)
	go func() { kept <- k.run(ctx) }()
	for {
		select {
		case s := <-signals:
			if !fromTerminal[s] || !inForeground() {
				_ = cmd.Process.Signal(s) // it may just have ended
			}
		case err := <-kept:
			if err != nil { // there never was a token
				end(cmd, done)
				return fmt.Errorf("%s was stopped, for it got no credential: %w", o.command[0], err)
			}
			kept = nil
		case <-done:
			cancel()
			if kept != nil {
				<-kept
			}
			if err := k.remove(); err != nil {
				a.warn("the token is still there: %v", err)
			}
			return ended(cmd.ProcessState)
		}
	}
}

// warn tells people about something that does not end the command.
func (a *app) warn(format string, args ...any) {
	term.New(a.err, a.color(a.err)).Line("jurat: warning: "+format, args...)
}

// end ends the child: SIGTERM, and SIGKILL when it takes too long.
func end(cmd *exec.Cmd, done <-chan error) {
	_ = cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-done:
	case <-time.After(killAfter):
		_ = cmd.Process.Kill()
		<-done
	}
}

// inForeground reports whether the terminal's signals reach this process group
// by themselves.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// makeWay removes what an earlier run left at path, and refuses to touch
// anything that does not look like it.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode() != 0o600 || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s exists and is no token file of an earlier run (%s)", path, info.Mode())
	}
	return os.Remove(path)
}

// keeper keeps one token file fresh.
type keeper struct {
	client   *local.Client
	request  local.CredentialRequest
	file     string
	now      func() time.Time
	patience time.Duration // how long to try for the first token
	warn     func(format string, args ...any)
}

// Waits between two attempts.
const (
	firstWait = 100 * time.Millisecond
	longWait  = 5 * time.Second
	shortLife = time.Second // between two tokens, however short they live
)

// run keeps the file until ctx ends or the credential is refused. Its error
// says why there never was a token.
func (k *keeper) run(ctx context.Context) error {
	expires, err := k.first(ctx)
	for err == nil {
		now := k.now()
		// At 80 % of its life there is time left to try again.
		if !pause(ctx, max(expires.Sub(now)*8/10, shortLife)) {
			return nil
		}
		var refused error
		if expires, refused = k.renew(ctx, expires); refused != nil {
			k.warn("the credential has ended: %v", refused)
			return k.remove()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// first gets the first token. A program that has only just started may still
// map libraries or run another program, so some refusals are worth a wait.
func (k *keeper) first(ctx context.Context) (time.Time, error) {
	limit := time.Now().Add(k.patience)
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		expires, err := k.fetch(ctx)
		if err == nil || !passing(err) || time.Now().Add(wait).After(limit) || !pause(ctx, wait) {
			return expires, err
		}
	}
}

// renew gets the next token, as long as what stands in the way is not a no.
// When the old one has expired, its file goes.
func (k *keeper) renew(ctx context.Context, old time.Time) (time.Time, error) {
	warned := false
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		expires, err := k.fetch(ctx)
		if err == nil || ctx.Err() != nil {
			return expires, nil
		}
		if !passing(err) {
			return old, err
		}
		if !warned {
			k.warn("the credential could not be renewed yet: %v", err)
			warned = true
		}
		if !k.now().Before(old) {
			if err := k.remove(); err != nil {
				return old, err
			}
		}
		if !pause(ctx, wait) {
			return old, nil
		}
	}
}

// fetch gets one token and puts it into the file.
func (k *keeper) fetch(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	c, err := k.client.Credential(ctx, k.request)
	if err != nil {
		return time.Time{}, err
	}
	expires := time.Unix(c.ExpiresAt, 0)
	if c.Token == "" || !expires.After(k.now()) {
		return time.Time{}, fmt.Errorf("juratd gave a token of %d bytes that expires at %s", len(c.Token), seconds(c.ExpiresAt))
	}
	return expires, replaceFile(k.file, []byte(c.Token))
}

// remove removes the token file.
func (k *keeper) remove() error {
	if err := os.Remove(k.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// passing reports whether an error may be gone a moment later.
func passing(err error) bool {
	var said *local.Error
	if !errors.As(err, &said) {
		var unavailable *local.Unavailable
		return errors.As(err, &unavailable)
	}
	switch said.Code {
	case local.CodeExec, local.CodeUnmeasured, local.CodeChanged, local.CodeUnknown:
		return true
	}
	return said.Environmental() || said.Retry == "now" || said.Retry == "later"
}

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
