// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// requests proves each request to be under the quote, for this broker and this
// challenge, and finds the measurement of the process that asks.
func (v *verification) requests() *Rejection {
	h := v.b.Header
	v.verified = make([]Request, len(v.b.Requests))
	for i := range v.b.Requests {
		leaf := &v.b.Requests[i]
		r := leaf.Value
		hash := evidence.LeafHash(leaf.Raw)
		if err := evidence.CheckInclusion(leaf.Proof, h.Batch, h.BatchRoot, leaf.Index, hash); err != nil {
			return reject(codeInclusion, place("request", leaf.Index), "a proof under the quoted batch of "+number(h.Batch), err.Error())
		}
		if r.Broker != v.challenge.Broker {
			return reject(codeBroker, place("request", leaf.Index)+" broker", quoted(v.challenge.Broker), quoted(r.Broker))
		}
		if !bytes.Equal(r.Nonce, v.challenge.Nonce) {
			return reject(codeNonce, place("request", leaf.Index)+" nonce", "the challenge", "another one")
		}
		if r.Number != h.Number {
			return reject(codeMix, place("request", leaf.Index)+" checkpoint_number", number(h.Number), number(r.Number))
		}
		entry, rejection := v.subject(leaf)
		if rejection != nil {
			return rejection
		}
		v.verified[i] = newRequest(leaf, hash, entry.Process, &v.b.Closing[i].After)
		v.verified[i].IMA = v.cover(entry.Process)
	}
	return nil
}

// subject returns the measurement a request names: of this very program image,
// and made in this epoch. An older one says nothing about what runs now.
func (v *verification) subject(leaf *evidence.Leaf[evidence.Request]) (*evidence.Entry, *Rejection) {
	s := &leaf.Value.Subject
	where := place("request", leaf.Index) + " subject"
	at, found := slices.BinarySearchFunc(v.b.Entries, s.Index, func(e evidence.Leaf[evidence.Entry], index uint64) int {
		return cmp.Compare(e.Index, index)
	})
	if !found {
		return nil, reject(codeSubject, where, place("entry", s.Index)+" in the bundle", "none")
	}
	entry := v.b.Entries[at].Value
	switch {
	case v.leaves[at] != s.Leaf:
		return nil, reject(codeSubject, where, "leaf "+s.Leaf.String(), v.leaves[at].String())
	case entry.Kind != evidence.KindProcess:
		return nil, reject(codeSubject, where, "an entry of kind process", "one of kind "+entry.Kind.String())
	case *entry.Instance != s.Instance:
		return nil, reject(codeSubject, where, "process "+s.Instance.String(), "process "+entry.Instance.String())
	case s.Index < v.startIndex:
		return nil, reject(codeSubject, where, "measured after the epoch began at entry "+number(v.startIndex), place("entry", s.Index))
	}
	return entry, nil
}
