// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/evidence"
)

// Bundle decides whether a bundle that [evidence.Parse] made is true: of this
// host, for this challenge, at this time of the broker's clock. It reads the
// bundle and does not change it; the caller must not change it either while
// the Result is in use.
//
// The Result is only worth something if the broker uses the challenge up and
// stores [Result.Next] in the same transaction as what it decides. The error is
// always a *Rejection.
func Bundle(b *evidence.Bundle, h Host, c Challenge, p Policy, now time.Time) (Result, error) {
	v := &verification{b: b, host: &h, challenge: &c, policy: &p, now: now}
	for _, station := range stations {
		if rejection := station(v); rejection != nil {
			return Result{}, rejection
		}
	}
	return Result{v.result()}, nil
}

// stations are the checks in the order in which they are made. What is cheap
// comes before the signature, what believes the header after it.
var stations = [...]func(*verification) *Rejection{
	(*verification).parameters,
	(*verification).whole,
	(*verification).answer,
	(*verification).quote,
	(*verification).together,
	(*verification).banks,
	(*verification).firmware,
	(*verification).epoch,
	(*verification).clock,
	(*verification).anchor,
	(*verification).checkpoint,
	(*verification).consistency,
	(*verification).entries,
	(*verification).start,
	(*verification).bootLog,
	(*verification).osLog,
	(*verification).measured,
	(*verification).imaList,
	(*verification).requests,
}

// verification is one bundle on its way through the stations.
type verification struct {
	b         *evidence.Bundle
	host      *Host
	challenge *Challenge
	policy    *Policy
	now       time.Time

	key        *attestationKey
	want       uint32 // PCRs the policy demands
	attest     attest
	pcrs       PCRs
	active     []uint16 // PCR banks
	register   *RegisterState
	boot       *Boot
	os         *eventlog.Userspace
	ima        *IMAUpdate
	imaFiles   map[evidence.Hash]struct{} // of the update
	resetSince time.Time
	leaves     []evidence.Hash // of the entries, in their order
	startIndex uint64
	startLeaf  evidence.Hash
	signals    []evidence.Signal
	verified   []Request
}

// parameters refuses to decide on half of a question.
func (v *verification) parameters() (rejection *Rejection) {
	if v.want, rejection = v.policy.selection(); rejection != nil {
		return rejection
	}
	if rejection = v.challenge.check(); rejection != nil {
		return rejection
	}
	if rejection = v.host.check(); rejection != nil {
		return rejection
	}
	v.key, rejection = v.host.attestationKey()
	return rejection
}

// whole refuses a bundle with holes in it. [evidence.Parse] makes none.
func (v *verification) whole() *Rejection {
	b := v.b
	if b == nil || b.Header == nil || b.Checkpoint == nil {
		return reject(codeIncomplete, "bundle", "header and checkpoint", "none")
	}
	if len(b.Requests) == 0 || len(b.Closing) != len(b.Requests) {
		return reject(codeIncomplete, "bundle", "requests with one closing look each", fmt.Sprintf("%d requests, %d looks", len(b.Requests), len(b.Closing)))
	}
	for i := range b.Requests {
		if b.Requests[i].Value == nil || b.Closing[i].Index != b.Requests[i].Index {
			return reject(codeIncomplete, place("request", b.Requests[i].Index), "a request and its closing look", "none")
		}
	}
	for i := range b.Entries {
		e := b.Entries[i].Value
		if e == nil || e.Kind == evidence.KindStart && e.Start == nil || e.Kind == evidence.KindProcess && (e.Process == nil || e.Instance == nil) {
			return reject(codeIncomplete, place("entry", b.Entries[i].Index), "an entry with its body", "none")
		}
	}
	return nil
}

// answer asks whether this is the challenged host's answer to this challenge,
// in time. The host's own clock is not asked.
func (v *verification) answer() *Rejection {
	if !bytes.Equal(v.b.UEID, v.host.UEID) {
		return reject(codeHostMismatch, "bundle ueid", hexOf(v.host.UEID), hexOf(v.b.UEID))
	}
	if subtle.ConstantTimeCompare(v.b.Nonce, v.challenge.Nonce) != 1 {
		return reject(codeNonce, "bundle nonce", "the challenge", "another one")
	}
	if !v.now.Before(v.challenge.Expires) {
		return reject(codeNonceExpired, "challenge", "an answer before "+stamp(v.challenge.Expires), stamp(v.now))
	}
	return nil
}

// quote checks the one signature, and through it the header.
//
//	extraData = SHA-256("jurat/quote/v1\0" || enc(Header))
func (v *verification) quote() (rejection *Rejection) {
	extra := evidence.HeaderDigest(v.b.RawHeader)
	v.attest, v.pcrs, rejection = checkQuote(&v.b.Quote, v.key, &extra, v.want)
	return rejection
}

// together holds the parts of the bundle against the signed header.
func (v *verification) together() *Rejection {
	h, c := v.b.Header, v.b.Checkpoint
	digest := evidence.CheckpointDigest(v.b.RawChk)
	switch {
	case !bytes.Equal(h.AKName, v.key.name):
		return reject(codeMix, "header ak_name", hexOf(v.key.name), hexOf(h.AKName))
	case !bytes.Equal(c.AKName, v.key.name):
		return reject(codeMix, "checkpoint ak_name", hexOf(v.key.name), hexOf(c.AKName))
	case digest != h.Checkpoint:
		return reject(codeMix, "checkpoint", "digest "+h.Checkpoint.String(), digest.String())
	case c.Number != h.Number:
		return reject(codeMix, "checkpoint number", number(h.Number), number(c.Number))
	case c.Epoch != h.Epoch:
		return reject(codeMix, "checkpoint epoch", number(h.Epoch), number(c.Epoch))
	case !bytes.Equal(c.BootID, h.BootID):
		return reject(codeMix, "checkpoint boot_id", hexOf(h.BootID), hexOf(c.BootID))
	}
	return v.imaParts()
}
