// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"cmp"
	"crypto/sha256"
	"io"
	"slices"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// requests writes every visit's request for this challenge and this
// checkpoint, and makes the tree over them.
func (a *Agent) requests(batch []*visit, check *sealed, challenge *brokerclient.Challenge) (*leaves, error) {
	raws := make([][]byte, len(batch))
	for i, v := range batch {
		confirm := evidence.Confirm{Method: evidence.ConfirmBearer}
		if !v.want.bearer {
			jkt := v.key.Thumbprint()
			confirm = evidence.Confirm{Method: evidence.ConfirmJKT, Thumbprint: jkt[:]}
		}
		v.position = uint64(i)
		v.request = evidence.Request{
			Version: evidence.RequestVersion, Broker: a.identity.Issuer, Nonce: challenge.Nonce, D: v.want.d,
			Audience: v.want.audience, Actions: v.want.actions, Datatypes: v.want.datatypes, Confirm: confirm,
			Subject: evidence.Subject{Instance: v.facts.Instance, Index: v.index, Leaf: v.leaf},
			Before:  v.before, Number: check.Number,
		}
		if _, err := io.ReadFull(a.random, v.request.Blind[:]); err != nil {
			return nil, fault(codeInternal, "reading randomness: %v", err)
		}
		v.raw = v.request.Marshal()
		raws[i] = v.raw
	}
	tree, err := evidence.NewBatch(raws)
	if err != nil {
		return nil, fault(codeInternal, "%v", err)
	}
	root, err := tree.Root()
	if err != nil {
		return nil, fault(codeInternal, "%v", err)
	}
	return &leaves{tree: tree, root: root, size: uint64(len(raws))}, nil
}

// logReleases writes into the log that evidence about these processes leaves
// the host, and what the second look saw. The next checkpoint commits to it.
func (a *Agent) logReleases(batch []*visit, quote *evidence.Quote) error {
	digest := evidence.Hash(sha256.Sum256(quote.Attest))
	for _, v := range batch {
		err := a.append(&evidence.Entry{
			Kind: evidence.KindRelease, At: v.after.At, Instance: &v.facts.Instance,
			Release: &evidence.Release{
				Quote: digest, Leaf: evidence.LeafHash(v.raw), Window: v.after.At - v.before.At, After: v.after,
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// bundle puts together what the broker gets. Visits that do not fit go with
// the next quote: their leaves stay behind, as hashes in the others' proofs.
func (a *Agent) bundle(batch []*visit, check *sealed, l *leaves, p *proof, challenge *brokerclient.Challenge) (data []byte, now, later []*visit, err error) {
	b := &evidence.Bundle{
		UEID: a.identity.UEID, Nonce: challenge.Nonce, RawHeader: p.header, Quote: p.quote, RawChk: check.raw,
		Register: p.register, Banks: p.banks, BootLog: p.bootLog, OSLog: p.osLog, IMA: p.ima,
		Consistency: evidence.Consistency{From: challenge.LogSize},
	}
	if b.Consistency.Proof, err = a.log.Consistency(check.Size, challenge.LogSize); err != nil {
		return nil, batch, nil, fault(codeLog, "%v", err)
	}
	for now = batch; ; now = batch[:len(now)-(len(now)+9)/10] {
		later = batch[len(now):]
		if len(now) == 0 {
			return nil, batch[:1], batch[1:], fault(codeTooLarge, "the measurement of process %s does not fit into a bundle", batch[0].facts.Instance)
		}
		if b.Requests, b.Closing, err = l.of(now); err != nil {
			return nil, now, later, fault(codeInternal, "%v", err)
		}
		if b.Entries, err = a.entries(now, check); err != nil {
			return nil, now, later, fault(codeLog, "%v", err)
		}
		if data, err = b.Marshal(); err == nil {
			return data, now, later, nil
		}
	}
}

// of returns the requests of these visits with their proofs, and the second
// look at each.
func (l *leaves) of(batch []*visit) ([]evidence.Leaf[evidence.Request], []evidence.Closing, error) {
	requests, closing := make([]evidence.Leaf[evidence.Request], len(batch)), make([]evidence.Closing, len(batch))
	for i, v := range batch {
		proof, err := l.tree.Proof(int(v.position))
		if err != nil {
			return nil, nil, err
		}
		requests[i] = evidence.Leaf[evidence.Request]{Index: v.position, Proof: proof, Raw: v.raw}
		closing[i] = evidence.Closing{Index: v.position, After: v.after}
	}
	return requests, closing, nil
}

// entries proves the start of the epoch and the measurement of every visit's
// process to be in the log.
func (a *Agent) entries(batch []*visit, check *sealed) ([]evidence.Leaf[evidence.Entry], error) {
	e := check.epoch
	out := []evidence.Leaf[evidence.Entry]{{Index: e.index, Raw: e.raw}}
	hashes := map[uint64]evidence.Hash{e.index: e.leaf}
	for _, v := range batch {
		if _, there := hashes[v.index]; !there {
			out = append(out, evidence.Leaf[evidence.Entry]{Index: v.index, Raw: v.entry})
			hashes[v.index] = v.leaf
		}
	}
	slices.SortFunc(out, func(x, y evidence.Leaf[evidence.Entry]) int { return cmp.Compare(x.Index, y.Index) })
	for i := range out {
		var err error
		if out[i].Proof, err = a.log.Inclusion(check.Size, check.Root, out[i].Index, hashes[out[i].Index]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
