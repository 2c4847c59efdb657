// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import (
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/broker/audit"
	"github.com/jurat-dev/jurat/broker/oauth"
	"github.com/jurat-dev/jurat/broker/store"
)

// A credential is worth nothing beyond the epoch of the evidence it was issued
// for: behind a reset, a restart or a sleep of the TPM, or a pause of the agent,
// nothing is known of the process any more. Evidence of a new epoch has another
// number: package verify refuses a changed count of resets or restarts inside
// an epoch, and a number that goes back. So the number is all that is compared,
// by introspection and by the exchange, with the one that the host had last.

// endEpoch puts into the log that a host began a new epoch, and how many
// credentials ended with the one before.
func (b *Broker) endEpoch(tx *store.Tx, s *submission) error {
	next := s.result.Next()
	if s.memory == nil || s.memory.State.Epoch == next.Epoch {
		return nil
	}
	ended, err := tx.LiveTokens(s.host.ID, next.Epoch, s.now)
	if err != nil {
		return err
	}
	last := &s.memory.State
	d := b.newDecision(audit.TypeRevocation, "epoch")
	d.entry.Host, d.entry.PrevTxn, d.entry.Evidence = s.host.ID, s.txn, digestBytes(s.result.Digest())
	d.why.Title = fmt.Sprintf("a new epoch began: %d live credentials of the host ended", ended)
	d.why.Checks = []station{{Number: 9, Attestor: attestorRequest, Check: "epoch",
		Expected: []string{epochText(last.Epoch, last.ResetCount, last.RestartCount)}, Observed: []string{epochText(next.Epoch, next.ResetCount, next.RestartCount)}}}
	return b.append(tx, d)
}

func epochText(epoch uint64, resets, restarts uint32) string {
	return fmt.Sprintf("epoch %d, %d resets and %d restarts of the TPM", epoch, resets, restarts)
}

// sameEpoch wants the host to be in the epoch that the evidence was made in.
func sameEpoch(tx *store.Tx, x *exchange) (*oauth.Error, error) {
	host, err := tx.HostByID(x.record.Host)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if host.Last.Epoch != x.record.Epoch {
		return x.stale("epoch", fmt.Sprintf("evidence of epoch %d, which the host is in", host.Last.Epoch), fmt.Sprintf("of epoch %d", x.record.Epoch)), nil
	}
	return nil, nil
}
