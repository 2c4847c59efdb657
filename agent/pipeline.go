// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// answerAll takes batch after batch, one at a time: each challenge says what
// the broker has, and that must not change before it is answered.
func (a *Agent) answerAll(ctx context.Context) error {
	idle := time.NewTicker(a.idle)
	defer idle.Stop()
	for ctx.Err() == nil {
		batch := a.desk.take(ctx, idle.C)
		if batch == nil && ctx.Err() == nil {
			if err := a.anchorIdle(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("the log is not anchored", "error", err)
			}
		}
		if batch != nil {
			rest, err := a.answer(ctx, batch)
			further := a.caught.answered(err)
			for _, v := range rest {
				a.retry(v, err, further)
			}
		}
		if fatal := a.log.Err(); fatal != nil {
			return fatal
		}
	}
	a.desk.close()
	a.redeeming.Wait()
	return nil
}

// answer is the flow from the kernel's events to the bundle, with the numbers of
// README.md (and spec/evidence.md section 7.1), once for everybody in the batch.
// Whoever it returns got neither credential nor error.
func (a *Agent) answer(ctx context.Context, batch []*visit) ([]*visit, error) {
	challenge, err := a.challenge(ctx, batch)
	if err != nil {
		return batch, err
	}
	epoch, err := a.sameBoot(ctx) // of the TPM, or a new epoch
	if err != nil {
		return batch, err
	}
	batch = a.remeasure(ctx, epoch, batch)

	// Station 1: all the kernel recorded before now has been read.
	if err := a.sensor.Barrier(ctx); err != nil {
		return batch, fault(codeSensor, "%v", err)
	}
	// Station 2: the first look. The measurements are in the log already.
	if batch, err = a.firstLook(ctx, batch); err != nil || len(batch) == 0 {
		return batch, err
	}
	// Station 3: a checkpoint commits to the log.
	check, err := a.checkpoint()
	if err != nil {
		return batch, fault(codeLog, "%v", err)
	}
	// Station 4: the register takes the checkpoint in.
	if err := a.anchorTo(ctx, check); err != nil {
		return batch, err
	}
	leaves, err := a.requests(batch, check, challenge)
	if err != nil {
		return batch, err
	}
	// Station 5: one quote over the log, the boot and every request.
	proof, err := a.quote(ctx, epoch, check, leaves, challenge, room(batch))
	if err != nil {
		return batch, err
	}
	// The second look, again with nothing left unread. Who differs is refused.
	if err := a.sensor.Barrier(ctx); err != nil {
		return batch, fault(codeSensor, "%v", err)
	}
	if batch = a.look(batch, (*visit).second); len(batch) == 0 {
		return nil, nil
	}
	// Station 6: the bundle, and the log says that it leaves. Station 7 sends it.
	bundle, batch, later, err := a.bundle(batch, check, leaves, proof, challenge)
	a.again(later)
	if err != nil {
		return batch, err
	}
	if err := a.logReleases(batch, &proof.quote); err != nil {
		return batch, fault(codeLog, "%v", err)
	}
	return a.send(ctx, bundle, batch, challenge)
}

// room is how many bytes of a bundle the visits leave for logs.
func room(batch []*visit) int {
	n := evidence.MaxBundle - bundleFrame
	for _, v := range batch {
		n -= v.size()
	}
	return n
}
