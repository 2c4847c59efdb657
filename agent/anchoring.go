// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"time"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// anchorEvery is how often the log is anchored while nobody asks for a quote.
// The whole of a register has to fit a bundle for a broker that knows nothing
// of it, which is why not every checkpoint is anchored.
const anchorEvery = time.Minute

// anchorTo extends the register by a checkpoint. When the TPM says that the
// register is not what it was, it is looked at again: then the TPM was reset, or
// the register takes the next checkpoint, or it is broken, and a quote says so.
func (a *Agent) anchorTo(ctx context.Context, check *sealed) error {
	err := a.anchor.put(ctx, check)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm.ErrDropped):
		return a.anchor.breakFor(err)
	case a.log.Err() != nil:
		return fault(codeLog, "%v", err)
	case !errors.Is(err, tpm.ErrRegister):
		return fault(codeTPM, "anchoring checkpoint %d: %v", check.Number, err)
	}
	if err = a.lookAgain(ctx, check.epoch, err); a.anchor.standing == broken && a.log.Err() == nil {
		return nil
	}
	return err
}

// lookAgain finds out why the TPM refused the register.
func (a *Agent) lookAgain(ctx context.Context, e *epoch, refused error) error {
	clock, err := a.chip.Clock(ctx)
	if err != nil {
		return fault(codeTPM, "%v", err)
	}
	if clock.ResetCount != e.resets || clock.RestartCount != e.restarts {
		a.anchor.unsettle()
		return fault(codeEpoch, "the TPM was reset: %v", refused)
	}
	if err := a.anchor.settle(ctx, a.chip, clock, a.host.bootID); err != nil {
		return fault(codeTPM, "%v", err)
	}
	return fault(codeAnchor, "%v", refused)
}

// anchorIdle anchors the log as far as it is committed, and notices a reset of
// the TPM, although nobody asks for anything.
func (a *Agent) anchorIdle(ctx context.Context) error {
	if a.anchor.standing == unbound {
		return nil
	}
	e, err := a.sameBoot(ctx)
	if err != nil {
		return err
	}
	last, raw := a.log.Last()
	if have := a.log.Anchor(); a.anchor.standing != whole || have == nil || last == nil || have.Number == last.Number {
		return nil
	}
	return a.anchorTo(ctx, &sealed{last, raw, e})
}

// lastCheckpoint commits to the log and anchors it when the agent ends.
func (a *Agent) lastCheckpoint() error {
	check, err := a.checkpoint()
	if err != nil || a.chip == nil || a.anchor.standing != whole {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastPatience)
	defer cancel()
	if err := a.anchorTo(ctx, check); err != nil {
		a.logger.Warn("the end of the log is not anchored", "error", err)
	}
	return a.log.Err()
}

const lastPatience = 5 * time.Second

// registerTail is what the broker lacks of the register; nil: there is none.
func (a *Agent) registerTail(challenge *brokerclient.Challenge) (*evidence.Register, error) {
	if !a.anchor.bound() {
		return nil, nil
	}
	have := a.log.Anchor()
	r := &evidence.Register{Index: have.Index, Latch: have.Latch}
	// What the broker knows is of this register only if the log that it knows
	// ended there: the log goes on from boot to boot, so its size tells.
	if n := challenge.RegisterSize; n > 0 && n <= have.Count {
		size, err := a.log.AnchorSize(n)
		if err != nil {
			return nil, fault(codeLog, "%v", err)
		}
		if size == challenge.LogSize {
			r.From = n
		}
	}
	if n := have.Count - r.From; n > evidence.MaxRegister {
		return nil, fault(codeTooLarge, "the broker lacks %d checkpoints of the TPM's register, at most %d fit into a bundle: restart the machine", n, evidence.MaxRegister)
	}
	var err error
	if r.Base, r.Tail, err = a.log.AnchorTail(r.From); err != nil {
		return nil, fault(codeLog, "%v", err)
	}
	return r, nil
}

// certify has the TPM sign the register's value, and holds it against the
// journal. The TPM takes extends from anybody, so this is where it shows.
func (a *Agent) certify(ctx context.Context, q evidence.Hash) (evidence.Certification, error) {
	signed, value, err := a.chip.Certify(ctx, a.anchor.register, q)
	if errors.Is(err, tpm.ErrRegister) {
		return signed, a.lookAgain(ctx, a.epoch.Load(), err)
	}
	if err != nil {
		return signed, fault(codeTPM, "%v", err)
	}
	have := a.log.Anchor()
	if have.Value == value {
		return signed, nil
	}
	_, why := compare(have, value)
	if why == nil {
		why = unexplained("the TPM said that it extended the register, and did not: its value is %s", value)
	}
	if err := a.anchor.breakFor(why); err != nil {
		return signed, fault(codeLog, "%v", err)
	}
	return signed, fault(codeAnchor, "%v", why)
}
