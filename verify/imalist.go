// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/ima"
)

// imaPCR is the PCR that the kernel extends with every entry of its list.
const imaPCR = 10

// IMAPosition is how far a host's list was replayed, and what PCR 10 was there.
// It is plain data, meant to be stored as JSON.
type IMAPosition struct {
	Count        uint64        `json:"count"` // entries
	PCR          evidence.Hash `json:"pcr"`
	ResetCount   uint32        `json:"reset_count"` // of the TPM; another one begins another list
	RestartCount uint32        `json:"restart_count"`
}

// IMAList is what a broker keeps of a host's list from one bundle to the next:
// how far it was replayed, and the SHA-256 digests of the files in it.
type IMAList struct {
	at    IMAPosition
	files map[evidence.Hash]struct{}
}

// NewIMAList returns the list that was kept: a position that an [IMAUpdate] gave,
// and the digests of all updates up to it. The zero position is an empty list.
func NewIMAList(at IMAPosition, files []evidence.Hash) *IMAList {
	l := &IMAList{at: at, files: make(map[evidence.Hash]struct{}, len(files))}
	for _, f := range files {
		l.files[f] = struct{}{}
	}
	return l
}

// Position is how far the list was replayed; zero for nil.
func (l *IMAList) Position() IMAPosition {
	if l == nil {
		return IMAPosition{}
	}
	return l.at
}

// Advanced returns the list after an update. It shares l's memory: use one of
// the two from then on.
func (l *IMAList) Advanced(u IMAUpdate) *IMAList {
	if l == nil || u.From == 0 {
		return NewIMAList(u.Position, u.Files)
	}
	for _, f := range u.Files {
		l.files[f] = struct{}{}
	}
	l.at = u.Position
	return l
}

// IMAUpdate is what a bundle adds to a host's list.
type IMAUpdate struct {
	From     uint64 // entries kept before; 0: the list begins anew
	Position IMAPosition
	Files    []evidence.Hash
}

// imaParts wants the IMA parts of header, checkpoint and tail to agree.
func (v *verification) imaParts() *Rejection {
	h, c := v.b.Header, v.b.Checkpoint
	if h.IMACount < c.IMACount && !v.b.IMA.More {
		return reject(codeIMA, "header ima_count", "at least "+number(c.IMACount), number(h.IMACount))
	}
	if _, known := h.IMADigest.Get(); !known && (h.IMACount != 0 || v.b.IMA.From != 0 || len(v.b.IMA.Data) != 0 || v.b.IMA.More) {
		return reject(codeIMA, "ima", "nothing, as its digest is "+h.IMADigest.String(), fmt.Sprintf("%d entries, %d bytes", h.IMACount, len(v.b.IMA.Data)))
	}
	return nil
}

// imaList replays what came of the list onto what was replayed before, up to
// the prefix whose value the quote signed. The kernel goes on measuring while
// the host quotes, so any prefix of at least the quoted length will do, and what
// follows it is nobody's word.
func (v *verification) imaList() *Rejection {
	claimed, known := v.b.Header.IMADigest.Get()
	quoted, covered := v.pcrs.At(imaPCR)
	if !known || !covered {
		return nil
	}
	r, rejection := v.imaReplay(claimed, quoted)
	switch {
	case rejection != nil:
		return rejection
	case r.violation != nil && !v.policy.IMAViolations:
		return r.violation
	case r.matched:
	case v.b.IMA.More:
		progress := r.update(v)
		rejection := reject(codeIMAPartial, "ima", "the rest of the list", fmt.Sprintf("%d entries so far, and more to come", r.at.Count))
		rejection.progress = &progress
		return rejection
	default:
		return reject(codeIMAReplay, "ima", "a prefix that makes PCR 10 "+quoted.String(), fmt.Sprintf("%d entries that make %s", r.at.Count, r.at.PCR))
	}
	update := r.update(v)
	v.ima = &update
	v.imaFiles = make(map[evidence.Hash]struct{}, len(update.Files))
	for _, f := range update.Files {
		v.imaFiles[f] = struct{}{}
	}
	return nil
}

// imaReplay is a list on its way to the quoted value.
type imaReplay struct {
	from      uint64
	at        IMAPosition
	matched   bool // at is the prefix that was quoted
	files     []evidence.Hash
	violation *Rejection // the first one
}

func (r *imaReplay) update(v *verification) IMAUpdate {
	r.at.ResetCount, r.at.RestartCount = v.attest.resetCount, v.attest.restartCount
	return IMAUpdate{From: r.from, Position: r.at, Files: r.files}
}

func (v *verification) imaReplay(claimed, quoted evidence.Hash) (*imaReplay, *Rejection) {
	tail, count := &v.b.IMA, v.b.Header.IMACount
	r := &imaReplay{from: tail.From}
	if tail.From != 0 {
		r.at = v.host.IMA.Position()
		if r.at.Count != tail.From || r.at.ResetCount != v.attest.resetCount {
			return nil, reject(codeIMA, "ima from", fmt.Sprintf("0, or the %d entries known since reset %d", r.at.Count, r.at.ResetCount), number(tail.From))
		}
	}
	if count < tail.From {
		return nil, reject(codeIMA, "header ima_count", "at least "+number(tail.From), number(count))
	}
	rest := []byte(tail.Data)
	sent, committed := 0, -1 // bytes up to ima_count of the header, and of the checkpoint
	for {
		if r.at.Count == count {
			sent = len(tail.Data) - len(rest)
		}
		if r.at.Count == v.b.Checkpoint.IMACount {
			committed = len(tail.Data) - len(rest)
		}
		if r.at.Count >= count && r.at.PCR == quoted {
			r.matched = true
			break
		}
		if len(rest) == 0 {
			break
		}
		entry, next, err := ima.Next(rest)
		if errors.Is(err, ima.ErrShort) {
			break // the kernel was still writing it
		}
		if err != nil {
			return nil, reject(codeIMAForm, place("ima entry", r.at.Count), "an entry of the kernel's list", err.Error())
		}
		if rejection := v.imaEntry(r, &entry); rejection != nil {
			return nil, rejection
		}
		rest = next
	}
	if r.at.Count < count {
		return nil, reject(codeIMA, "ima", number(count)+" entries", number(r.at.Count))
	}
	if digest := evidence.Hash(sha256.Sum256(tail.Data[:sent])); digest != claimed {
		return nil, reject(codeIMA, "header ima_digest", claimed.String(), digest.String())
	}
	if said, known := v.b.Checkpoint.IMADigest.Get(); known && r.from == 0 && committed >= 0 {
		if digest := evidence.Hash(sha256.Sum256(tail.Data[:committed])); digest != said {
			return nil, reject(codeIMA, "checkpoint ima_digest", said.String(), digest.String())
		}
	}
	return r, nil
}

func (v *verification) imaEntry(r *imaReplay, e *ima.Entry) *Rejection {
	number := r.at.Count
	r.at.Count++
	if e.PCR != imaPCR {
		return nil // some other PCR's affair, and this list's word alone
	}
	e.Extend((*[sha256.Size]byte)(&r.at.PCR))
	if e.Violation() {
		if r.violation == nil {
			r.violation = reject(codeIMAViolation, place("ima entry", number), "files measured before they changed", "a violation: a file was written to while it was measured or in use")
		}
		return nil
	}
	file, path, ok := e.File()
	if !ok || file.Algorithm != "sha256" || len(file.Digest) != sha256.Size {
		return nil
	}
	if number == 0 && string(path) == "boot_aggregate" {
		return v.bootAggregate(file.Digest)
	}
	r.files = append(r.files, evidence.Hash(file.Digest))
	return nil
}

// bootAggregate ties the list to the boot: its first entry digests the PCRs as
// they were when the kernel started. PCRs 8 and 9 may have moved since then.
//
//	boot_aggregate = SHA-256(PCR 0 || ... || PCR 9)
func (v *verification) bootAggregate(digest []byte) *Rejection {
	var now, then []byte
	for pcr := range 10 {
		value, covered := v.pcrs.At(pcr)
		if !covered {
			return nil
		}
		now = append(now, value[:]...)
		made, any := []byte(nil), false
		if v.boot != nil {
			made, any = v.boot.values.At(pcr)
		}
		if !any {
			made = value[:]
		}
		then = append(then, made...)
	}
	for _, values := range [][]byte{now, then} {
		if sum := sha256.Sum256(values); bytes.Equal(sum[:], digest) {
			return nil
		}
	}
	sum := sha256.Sum256(now)
	return reject(codeIMAAggregate, "ima entry 0 boot_aggregate", hexOf(sum[:]), hexOf(digest))
}

// IMACover says which files of a process the kernel itself measured into PCR 10
// in this boot, and which it did not: a list does not cover every file system,
// nor what was already open when its policy came.
type IMACover struct {
	Known     bool // there was a list, and the quote bore it out
	Confirmed int
	Missing   []evidence.File
}

// cover looks for everything executable of a process in the list.
func (v *verification) cover(p *evidence.Process) IMACover {
	c := IMACover{Known: v.ima != nil}
	if !c.Known || p == nil {
		return c
	}
	one := func(f evidence.File) {
		if v.confirmed(f) {
			c.Confirmed++
		} else {
			c.Missing = append(c.Missing, f)
		}
	}
	if maps, known := p.Maps.Observed(); known {
		for _, f := range maps {
			one(f)
		}
	}
	if script, known := p.Script.Observed(); known && script != nil {
		one(script.File)
	}
	return c
}

func (v *verification) confirmed(f evidence.File) bool {
	digest, known := f.Digest.Get()
	if !known || digest.Algorithm != "sha-256" || len(digest.Value) != sha256.Size {
		return false
	}
	key := evidence.Hash(digest.Value)
	if _, there := v.imaFiles[key]; there {
		return true
	}
	if v.ima.From == 0 {
		return false
	}
	_, there := v.host.IMA.files[key]
	return there
}
