// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// bus sends commands over a link, one at a time, and repeats those that the
// TPM puts off. It is the only place that does either.
type bus struct {
	path  string
	sleep func(context.Context, time.Duration) error

	mu   sync.Mutex // held while a command is at the TPM; guards what follows
	link link
	gone error // set once the link is out of step or closed
}

// patience says how long a command that was answered with rc is repeated.
func patience(rc tpm2.TPMRC) time.Duration {
	switch rc {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return busyPatience
	case tpm2.TPMRCNVRate:
		return ratePatience
	}
	return 0
}

// send returns the TPM's answer to command. A command that has been sent is
// waited for, whatever becomes of ctx: its answer would otherwise be taken for
// the answer to the next one.
func (b *bus) send(ctx context.Context, command []byte) ([]byte, error) {
	var waited time.Duration
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		answer, err := b.exchange(command)
		if err != nil {
			return nil, err
		}
		// Where patience ends, the caller gets the TPM's own answer.
		if waited += wait; waited > patience(responseCode(answer)) {
			return answer, nil
		}
		if err := b.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (b *bus) exchange(command []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone != nil {
		return nil, b.gone
	}
	answer, err := b.link.exchange(command)
	if err != nil {
		b.gone = fmt.Errorf("%w: %s: %w", ErrGone, b.path, err)
		return nil, b.gone
	}
	return answer, nil
}

func (b *bus) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = fmt.Errorf("%w: %s is closed", ErrGone, b.path)
	return b.link.Close()
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// call is the bus for the commands of one caller; go-tpm takes it as its
// transport.
type call struct {
	ctx context.Context
	bus *bus
}

func (c call) Send(command []byte) ([]byte, error) { return c.bus.send(c.ctx, command) }

// run executes one command. The errors of go-tpm do not say which command it
// was; these do.
func run[R any](ctx context.Context, b *bus, cmd tpm2.Command[R, *R], s ...tpm2.Session) (*R, error) {
	rsp, err := cmd.Execute(call{ctx, b}, s...)
	if err != nil {
		return nil, fmt.Errorf("TPM2_%s: %w", strings.TrimPrefix(fmt.Sprintf("%T", cmd), "tpm2."), err)
	}
	return rsp, nil
}
