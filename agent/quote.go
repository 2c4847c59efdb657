// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"crypto/sha256"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// leaves is a batch of requests as the quote sees it.
type leaves struct {
	tree *evidence.Batch
	root evidence.Hash
	size uint64
}

// proof is what the TPM says, and the logs that make what it says: all of a
// bundle that is not about the requests.
type proof struct {
	header   []byte
	quote    evidence.Quote
	register *evidence.Register // nil: none
	banks    *evidence.Banks
	bootLog  []byte // nil: the broker has it
	osLog    []byte
	ima      evidence.IMATail
}

// quote has the TPM sign a header, and notes on disk that it did. Before that
// nothing about the quote leaves the host. The quote comes last: what was
// extended and certified is older, and the list of measured files goes on
// until it.
//
//	quote.extraData = SHA-256("jurat/quote/v1\0" || enc(Header))
func (a *Agent) quote(ctx context.Context, e *epoch, check *sealed, l *leaves, challenge *brokerclient.Challenge, room int) (*proof, error) {
	p := new(proof)
	var err error
	if p.register, err = a.registerTail(challenge); err != nil {
		return nil, err
	}
	if p.banks, err = a.activeBanks(ctx, e); err != nil {
		return nil, fault(codeTPM, "%v", err)
	}
	if hash, known := a.bootHash.Get(); known && hash != challenge.BootLog {
		p.bootLog = a.bootLog
	}
	osLog, osHash := readLog(a.osLogPath, evidence.MaxOSLog)
	p.osLog = osLog
	list, err := a.imaTail(e, check, challenge, room-p.size())
	if err != nil {
		return nil, err
	}
	mark := a.log.Quoted()
	header := &evidence.Header{
		Version: evidence.HeaderVersion, AKName: a.identity.AKName, BootID: a.host.bootID, Epoch: e.number,
		Sequence: mark.Sequence + 1, Anchor: a.anchor.mode(), Number: check.Number,
		Checkpoint: evidence.CheckpointDigest(check.raw), BootLog: a.bootHash, OSLog: osHash,
		IMACount: list.at.count, IMADigest: list.digest, Tier: a.facts.Tier, Sensor: a.facts.Object,
		Batch: l.size, BatchRoot: l.root, Previous: mark.Attest, Wall: uint64(a.now().Unix()),
	}
	if p.register != nil {
		header.NVName = a.anchor.register.Name()
	}
	p.header = header.Marshal()
	digest := evidence.HeaderDigest(p.header)
	if p.register != nil {
		if p.register.Certified, err = a.certify(ctx, digest); err != nil {
			return nil, err
		}
	}
	if p.quote, err = a.chip.Quote(ctx, digest); err != nil {
		return nil, fault(codeTPM, "%v", err)
	}
	a.quotes.Add(1)
	err = a.log.Mark(logstore.Mark{Sequence: mark.Sequence + 1, Attest: sha256.Sum256(p.quote.Attest), Number: check.Number})
	if err != nil {
		return nil, fault(codeLog, "%v", err)
	}
	if p.ima, err = a.imaRest(list); err != nil {
		return nil, err
	}
	clock, err := a.chip.Clock(ctx)
	switch {
	case err != nil:
		return nil, fault(codeTPM, "%v", err)
	case clock.ResetCount != e.resets || clock.RestartCount != e.restarts:
		return nil, fault(codeEpoch, "the TPM was reset during the quote")
	}
	return p, nil
}

// size is about how many bytes of a bundle the logs take, but for the IMA list.
func (p *proof) size() int {
	n := len(p.bootLog) + len(p.osLog)
	if p.register != nil {
		n += len(p.register.Tail)
	}
	return n
}

// activeBanks has the TPM say which PCR banks are active. They change only when
// it is reset, so once in an epoch is enough.
func (a *Agent) activeBanks(ctx context.Context, e *epoch) (*evidence.Banks, error) {
	if a.banksOf == e {
		return a.banks, nil
	}
	response, signed, err := a.chip.AuditBanks(ctx, evidence.BanksDigest(a.host.bootID))
	if err != nil {
		return nil, err
	}
	a.banks, a.banksOf = &evidence.Banks{Response: response, Certified: signed}, e
	return a.banks, nil
}
