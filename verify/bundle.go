// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

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
	(*verification).anchor,
	(*verification).epoch,
	(*verification).clock,
	(*verification).checkpoint,
	(*verification).consistency,
	(*verification).entries,
	(*verification).start,
	(*verification).requests,
	(*verification).bootLog,
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
	resetSince time.Time
	leaves     []evidence.Hash // of the entries, in their order
	startIndex uint64
	startLeaf  evidence.Hash
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
	return v.ima()
}

// ima wants the IMA parts to agree. This version draws no conclusion from the
// list: nothing of it is in a Result.
func (v *verification) ima() *Rejection {
	h, c := v.b.Header, v.b.Checkpoint
	if h.IMACount < c.IMACount {
		return reject(codeIMA, "header ima_count", "at least "+number(c.IMACount), number(h.IMACount))
	}
	if _, known := h.IMADigest.Get(); !known && (h.IMACount != 0 || v.b.IMA.From != 0 || len(v.b.IMA.Data) != 0) {
		return reject(codeIMA, "ima", "nothing, as its digest is "+h.IMADigest.String(), fmt.Sprintf("%d entries, %d bytes", h.IMACount, len(v.b.IMA.Data)))
	}
	return nil
}

// anchor accepts the modes that can be checked and that the policy accepts.
func (v *verification) anchor() *Rejection {
	h := v.b.Header
	if !slices.Contains(v.policy.Tiers, h.Tier) {
		return reject(codeTier, "header tier", fmt.Sprint(v.policy.Tiers), quoted(h.Tier))
	}
	if anchorRank(h.Anchor) == 0 {
		return reject(codeAnchor, "header anchor", "none, nv-latch or nvpcr", quoted(h.Anchor))
	}
	bound := h.Anchor != evidence.AnchorNone
	if bound != (v.b.Register != nil) || bound != (len(h.NVName) != 0) {
		return reject(codeRegister, "register", fmt.Sprintf("certified register and its name: %v, as the anchor is %s", bound, h.Anchor),
			fmt.Sprintf("register: %v, name of %d bytes", v.b.Register != nil, len(h.NVName)))
	}
	if bound {
		return reject(codeAnchorUnsupported, "header anchor", "none", h.Anchor)
	}
	if !slices.Contains(v.policy.Anchors, h.Anchor) {
		return reject(codeAnchor, "header anchor", fmt.Sprint(v.policy.Anchors), h.Anchor)
	}
	return nil
}

// bootLog wants the log that was quoted: as bytes, or as the one known before.
//
//	boot_log = SHA-256(boot event log)
func (v *verification) bootLog() *Rejection {
	claimed, known := v.b.Header.BootLog.Get()
	_, seen := v.b.Header.BootLog.Observed()
	switch {
	case seen && !known:
		return reject(codeBootLog, "header boot_log", "known or unknown", v.b.Header.BootLog.String())
	case !known && len(v.b.BootLog) != 0:
		return reject(codeBootLog, "boot log", "none, as it is "+v.b.Header.BootLog.String(), fmt.Sprintf("%d bytes", len(v.b.BootLog)))
	case !known:
		return nil
	case len(v.b.BootLog) == 0:
		if v.host.Last == nil || v.host.Last.BootLog != claimed {
			return reject(codeBootLog, "boot log", "the log with digest "+claimed.String(), "no log, and it is not the one known")
		}
	default:
		if digest := evidence.Hash(sha256.Sum256(v.b.BootLog)); digest != claimed {
			return reject(codeBootLog, "boot log", claimed.String(), digest.String())
		}
	}
	return nil
}
