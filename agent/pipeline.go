// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
)

// answerAll takes batch after batch, one at a time: each challenge says what
// the broker has, and that must not change before it is answered.
func (a *Agent) answerAll(ctx context.Context) error {
	for batch := a.desk.take(ctx); batch != nil; batch = a.desk.take(ctx) {
		rest, err := a.answer(ctx, batch)
		for _, v := range rest {
			a.retry(v, err)
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
	if batch = a.look(batch, (*visit).first); len(batch) == 0 {
		return nil, nil
	}
	// Station 3: a checkpoint commits to the log.
	check, err := a.checkpoint()
	if err != nil {
		return batch, fault(codeLog, "%v", err)
	}
	// Station 4, the register, is none in this version.
	leaves, err := a.requests(batch, check, challenge)
	if err != nil {
		return batch, err
	}
	// Station 5: one quote over the log, the boot and every request.
	header, quote, err := a.quote(ctx, epoch, check, leaves)
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
	bundle, batch, later, err := a.bundle(batch, check, leaves, header, quote, challenge)
	a.again(later)
	if err != nil {
		return batch, err
	}
	if err := a.logReleases(batch, &quote); err != nil {
		return batch, fault(codeLog, "%v", err)
	}
	return a.send(ctx, bundle, batch, challenge)
}
