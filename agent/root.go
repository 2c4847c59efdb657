// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/tpm"
)

// sameBoot returns the epoch after asking the TPM whether it was reset since
// the epoch began. If it was, a new one begins here. A TPM that went away is
// opened again, and must still have the key that is enrolled, and the register
// as it was.
func (a *Agent) sameBoot(ctx context.Context) (*epoch, error) {
	clock, err := a.clock(ctx)
	if err != nil {
		return nil, err
	}
	e := a.epoch.Load()
	same := clock.ResetCount == e.resets && clock.RestartCount == e.restarts
	if same && a.anchor.standing != unsettled {
		return e, nil
	}
	if err := a.anchor.settle(ctx, a.chip, clock, a.host.bootID); err != nil {
		return nil, faultOf(codeTPM, err)
	}
	if same {
		return e, nil
	}
	reason, floor := a.interruption(e, clock)
	a.logger.Warn("the TPM was reset or restarted", "resets", clock.ResetCount, "restarts", clock.RestartCount, "reason", reason)
	if floor == 0 {
		a.ima.restart()
	}
	if err := a.begin(ctx, reason, e.number+1, floor, clock); err != nil {
		return nil, faultOf(codeLog, err)
	}
	return a.epoch.Load(), nil
}

// interruption says what came between an epoch and now, while the agent ran.
// Only the register tells sleep from hibernation: both count as a restart of
// the TPM, and it survives the one and not the other.
func (a *Agent) interruption(e *epoch, clock tpm.Clock) (reason string, floor uint64) {
	switch restart := clock.ResetCount == e.resets; {
	case restart && a.anchor.standing == whole:
		return reasonResume, e.floor
	case restart && a.anchor.standing == fresh:
		return reasonHibernate, 0
	case restart:
		return reasonDiscontinuity, e.floor
	}
	return reasonDiscontinuity, 0
}

// clock asks the TPM for its counts. When the TPM went away it is opened
// again, once.
func (a *Agent) clock(ctx context.Context) (tpm.Clock, error) {
	if a.chip != nil {
		clock, err := a.chip.Clock(ctx)
		if err == nil || ctx.Err() != nil {
			return clock, err
		}
		a.logger.Warn("the TPM does not answer; opening it again", "error", err)
		a.closeChip()
	}
	chip, err := a.openChip(ctx)
	if err != nil {
		return tpm.Clock{}, fault(codeTPM, "%v", err)
	}
	a.chip = chip
	clock, err := chip.Clock(ctx)
	if err != nil {
		return clock, fault(codeTPM, "%v", err)
	}
	return clock, nil
}

// enrolled opens a TPM and refuses one that does not make the key that the
// broker knows.
func enrolled(open func(context.Context) (Chip, error), akName []byte) func(context.Context) (Chip, error) {
	return func(ctx context.Context) (Chip, error) {
		chip, err := open(ctx)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(chip.Name(), akName) {
			err := fmt.Errorf("this TPM makes attestation key %x, enrolled is %x: another TPM, or it was cleared; enrol again", chip.Name(), akName)
			return nil, errors.Join(err, chip.Close())
		}
		return chip, nil
	}
}

func (a *Agent) closeChip() {
	if a.chip == nil {
		return
	}
	a.anchor.unsettle()
	if err := a.chip.Close(); err != nil {
		a.logger.Warn("closing the TPM", "error", err)
	}
	a.chip = nil
}
