// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"crypto/sha256"
	"errors"
	"slices"

	brokerclient "github.com/jurat-dev/jurat/broker-client"
	"github.com/jurat-dev/jurat/evidence"
)

// How much of the IMA list goes into one bundle, in bytes.
const (
	maxIMATail = 2 << 20
	minIMATail = 512 << 10 // even where visits have to wait for it
	maxIMARest = 256 << 10 // of what the kernel adds while the TPM quotes
)

// The broker's words about the IMA list (spec/broker-api.md, codes).
const (
	reasonIMAPartial = "E_IMA_PARTIAL" // it took in what was sent, and wants more
	reasonIMA        = "E_IMA"         // it does not know the place the tail begins at
)

// catchUp is how far the broker was sent the list.
type catchUp struct {
	from    uint64   // of the tail sent last
	ends    []uint64 // of tails with more behind them, the last few
	partial bool     // the one before the last was taken in as far as it went
	before  uint64   // and began here
	anew    bool     // the next one begins at 0
}

// maxEnds is how many ends of tails are remembered.
const maxEnds = 64

// sent notes the tail of a bundle.
func (c *catchUp) sent(tail *evidence.IMATail, end imaPlace) {
	c.from = tail.From
	if !tail.More {
		return
	}
	if len(c.ends) == maxEnds {
		c.ends = slices.Delete(c.ends, 0, 1)
	}
	c.ends = append(c.ends, end.count)
}

// answered takes in what became of that bundle. It tells whether the broker is
// further on than before: then there is no reason to count the try.
func (c *catchUp) answered(err error) bool {
	refusal, refused := errors.AsType[*brokerclient.Refusal](err)
	if !refused || refusal.Reason != reasonIMAPartial {
		c.partial = false
		c.anew = refused && refusal.Reason == reasonIMA
		return false
	}
	further := !c.partial || c.from > c.before
	c.partial, c.before = true, c.from
	return further
}

// imaPart is the part of the list that was read before the quote.
type imaPart struct {
	data   []byte
	from   uint64
	at     imaPlace // behind it
	more   bool
	digest evidence.Value[evidence.Hash]
}

// imaTail reads what the broker lacks of the list. The checkpoint counted it
// already, so what was there then is there now.
func (a *Agent) imaTail(e *epoch, check *sealed, challenge *brokerclient.Challenge, room int) (*imaPart, error) {
	if _, known := check.IMADigest.Get(); !known {
		return &imaPart{digest: check.IMADigest}, nil
	}
	// The broker's count may be of an earlier list. It is of this one if the
	// broker knows a log that was written since, or was sent as much.
	var from imaPlace
	trusted := challenge.LogSize >= e.floor || slices.Contains(a.caught.ends, challenge.IMACount)
	if n := challenge.IMACount; n > 0 && n <= check.IMACount && trusted && !a.caught.anew {
		at, found, err := a.ima.find(n)
		if err != nil {
			return nil, fault(codeInternal, "reading the IMA list: %v", err)
		}
		if found {
			from = at
		}
	}
	a.caught.anew = false
	data, at, more, err := a.ima.tail(nil, from, min(max(room, minIMATail), maxIMATail))
	if err != nil {
		return nil, fault(codeInternal, "reading the IMA list: %v", err)
	}
	if more && len(data) == 0 {
		return nil, fault(codeTooLarge, "entry %d of the IMA list does not fit into a bundle", at.count)
	}
	return &imaPart{data: data, from: from.count, at: at, more: more, digest: evidence.Known(evidence.Hash(sha256.Sum256(data)))}, nil
}

// imaRest adds what the kernel measured until the quote was made: PCR 10 of the
// quote may count on it.
func (a *Agent) imaRest(p *imaPart) (evidence.IMATail, error) {
	tail := evidence.IMATail{From: p.from, Data: p.data, More: p.more}
	if _, known := p.digest.Get(); !known {
		return tail, nil
	}
	end := p.at
	if !p.more {
		var err error
		if tail.Data, end, tail.More, err = a.ima.tail(p.data, p.at, len(p.data)+maxIMARest); err != nil {
			return tail, fault(codeInternal, "reading the IMA list: %v", err)
		}
	}
	a.caught.sent(&tail, end)
	return tail, nil
}
