// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
)

// hashed returns the bytes that the kernel hashes into the template digest: the
// data as listed, except that "ima" hashes no length and pads the name.
func (e *Entry) hashed(buf *[sha1.Size + legacyName]byte) []byte {
	if !e.legacy() {
		return e.Data
	}
	copy(buf[:], e.Data[:sha1.Size])
	copy(buf[sha1.Size:], e.Data[sha1.Size+4:])
	return buf[:]
}

// Extend does to the value of a PCR in the SHA-256 bank what kernels since 5.8
// do. A violation extends with all bits set.
//
//	pcr = SHA-256(pcr || SHA-256(template data))
func (e *Entry) Extend(pcr *[sha256.Size]byte) {
	var digest [sha256.Size]byte
	if e.Violation() {
		fill(digest[:])
	} else {
		var buf [sha1.Size + legacyName]byte
		digest = sha256.Sum256(e.hashed(&buf))
	}
	extendSHA256(pcr, &digest)
}

// ExtendSHA1 does to the value of a PCR in the SHA-1 bank what every kernel
// does.
//
//	pcr = SHA-1(pcr || SHA-1(template data))
func (e *Entry) ExtendSHA1(pcr *[sha1.Size]byte) {
	digest := e.sha1()
	extendSHA1(pcr, &digest)
}

// ExtendPadded does to the value of a PCR in the SHA-256 bank what kernels
// before 5.8 did.
//
//	pcr = SHA-256(pcr || SHA-1(template data) || 12 zero bytes)
func (e *Entry) ExtendPadded(pcr *[sha256.Size]byte) {
	digest := e.sha1()
	extendSHA256(pcr, pad(&digest))
}

func extendSHA256(pcr, digest *[sha256.Size]byte) {
	var both [2 * sha256.Size]byte
	copy(both[:], pcr[:])
	copy(both[sha256.Size:], digest[:])
	*pcr = sha256.Sum256(both[:])
}

func extendSHA1(pcr, digest *[sha1.Size]byte) {
	var both [2 * sha1.Size]byte
	copy(both[:], pcr[:])
	copy(both[sha1.Size:], digest[:])
	*pcr = sha1.Sum(both[:])
}

func pad(digest *[sha1.Size]byte) *[sha256.Size]byte {
	var out [sha256.Size]byte
	copy(out[:], digest[:])
	return &out
}

// sha1 returns what the kernel extends into the SHA-1 bank.
func (e *Entry) sha1() (digest [sha1.Size]byte) {
	if e.Violation() {
		fill(digest[:])
		return digest
	}
	var buf [sha1.Size + legacyName]byte
	return sha1.Sum(e.hashed(&buf))
}

func fill(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

// CheckTemplateDigest reports whether the listed digest is that of the data, by
// SHA-1, SHA-256, SHA-384 or SHA-512, as its length says. A violation lists
// none, and nothing contradicts it.
func (e *Entry) CheckTemplateDigest() bool {
	if e.Violation() {
		return true
	}
	var buf [sha1.Size + legacyName]byte
	data := e.hashed(&buf)
	switch len(e.TemplateDigest) {
	case sha1.Size:
		return sha1.Sum(data) == [sha1.Size]byte(e.TemplateDigest)
	case sha256.Size:
		return sha256.Sum256(data) == [sha256.Size]byte(e.TemplateDigest)
	case sha512.Size384:
		return sha512.Sum384(data) == [sha512.Size384]byte(e.TemplateDigest)
	case sha512.Size:
		return sha512.Sum512(data) == [sha512.Size]byte(e.TemplateDigest)
	}
	return false
}

// Track is one way in which a kernel extends a bank. Tracks can be combined
// with |.
type Track uint8

// The tracks that a [Replay] can follow.
const (
	TrackSHA256 Track = 1 << iota // SHA-256 bank, kernels since 5.8
	TrackPadded                   // SHA-256 bank, kernels before 5.8: see [Entry.ExtendPadded]
	TrackSHA1                     // SHA-1 bank

	AllTracks = TrackSHA256 | TrackPadded | TrackSHA1
)

// Bank returns the name of the bank that a track is about, "sha256" or "sha1".
func (t Track) Bank() string {
	if t == TrackSHA1 {
		return "sha1"
	}
	return "sha256"
}

// Replay is how far a replay came. It is plain data: kept and taken up again, it
// goes on with the tail of the list. [NewReplay] makes the first.
type Replay struct {
	PCR        uint32 // the register that is followed
	Tracks     Track
	Count      uint64 // entries added, of all registers: where in the list this is
	Followed   uint64 // those of PCR
	Violations uint64 // those of PCR that are violations
	SHA256     [sha256.Size]byte
	Padded     [sha256.Size]byte
	SHA1       [sha1.Size]byte
}

// NewReplay returns the replay of no entries yet, for a register that is zero
// after a reset, as PCR 10 is.
func NewReplay(pcr uint32, tracks Track) Replay { return Replay{PCR: pcr, Tracks: tracks} }

// Add goes on by one entry. Those of other registers only count.
func (r *Replay) Add(e *Entry) {
	r.Count++
	if e.PCR != r.PCR {
		return
	}
	r.Followed++
	if e.Violation() {
		r.Violations++
	}
	if r.Tracks&TrackSHA256 != 0 {
		e.Extend(&r.SHA256)
	}
	if r.Tracks&(TrackPadded|TrackSHA1) == 0 {
		return
	}
	digest := e.sha1()
	if r.Tracks&TrackPadded != 0 {
		extendSHA256(&r.Padded, pad(&digest))
	}
	if r.Tracks&TrackSHA1 != 0 {
		extendSHA1(&r.SHA1, &digest)
	}
}

// Match reports whether the register now has this value, of 32 bytes in the
// SHA-256 bank or of 20 in the SHA-1 bank, and which track says so.
func (r *Replay) Match(value []byte) (Track, bool) {
	switch {
	case r.Tracks&TrackSHA256 != 0 && bytes.Equal(value, r.SHA256[:]):
		return TrackSHA256, true
	case r.Tracks&TrackPadded != 0 && bytes.Equal(value, r.Padded[:]):
		return TrackPadded, true
	case r.Tracks&TrackSHA1 != 0 && bytes.Equal(value, r.SHA1[:]):
		return TrackSHA1, true
	}
	return 0, false
}
