// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
)

// sameBoot returns the epoch after asking the TPM whether it was reset since
// the epoch began. If it was, a new one begins here. A TPM that went away is
// opened again, and must still have the key that is enrolled.
func (a *Agent) sameBoot(ctx context.Context) (*epoch, error) {
	clock, err := a.clock(ctx)
	if err != nil {
		return nil, err
	}
	e := a.epoch.Load()
	if clock.ResetCount == e.resets && clock.RestartCount == e.restarts {
		return e, nil
	}
	a.logger.Warn("the TPM was reset", "resets", clock.ResetCount, "restarts", clock.RestartCount)
	if err := a.begin(reasonDiscontinuity, e.number+1, clock.ResetCount, clock.RestartCount); err != nil {
		return nil, fault(codeLog, "%v", err)
	}
	return a.epoch.Load(), nil
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
	if err := a.chip.Close(); err != nil {
		a.logger.Warn("closing the TPM", "error", err)
	}
	a.chip = nil
}

// leaves is a batch of requests as the quote sees it.
type leaves struct {
	tree *evidence.Batch
	root evidence.Hash
	size uint64
}

// quote has the TPM sign a header, and notes on disk that it did. Before that
// nothing about the quote leaves the host.
//
//	quote.extraData = SHA-256("jurat/quote/v1\0" || enc(Header))
func (a *Agent) quote(ctx context.Context, e *epoch, check *sealed, l *leaves) ([]byte, evidence.Quote, error) {
	mark := a.log.Quoted()
	header := (&evidence.Header{
		Version: evidence.HeaderVersion, AKName: a.identity.AKName, BootID: a.host.bootID, Epoch: e.number,
		Sequence: mark.Sequence + 1, Anchor: evidence.AnchorNone, Number: check.Number,
		Checkpoint: evidence.CheckpointDigest(check.raw), BootLog: a.bootHash, OSLog: evidence.Unknown[evidence.Hash]("not-collected"),
		IMADigest: evidence.Unknown[evidence.Hash]("not-collected"), Tier: a.facts.Tier, Sensor: a.facts.Object,
		Batch: l.size, BatchRoot: l.root, Previous: mark.Attest, Wall: uint64(a.now().Unix()),
	}).Marshal()
	quote, err := a.chip.Quote(ctx, evidence.HeaderDigest(header))
	if err != nil {
		return nil, quote, fault(codeTPM, "%v", err)
	}
	a.quotes.Add(1)
	err = a.log.Mark(logstore.Mark{Sequence: mark.Sequence + 1, Attest: sha256.Sum256(quote.Attest), Number: check.Number})
	if err != nil {
		return nil, quote, fault(codeLog, "%v", err)
	}
	clock, err := a.chip.Clock(ctx)
	switch {
	case err != nil:
		return nil, quote, fault(codeTPM, "%v", err)
	case clock.ResetCount != e.resets || clock.RestartCount != e.restarts:
		return nil, quote, fault(codeEpoch, "the TPM was reset during the quote")
	}
	return header, quote, nil
}
