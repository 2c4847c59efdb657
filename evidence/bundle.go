// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"fmt"
)

// Profile is the EAT profile of a bundle (RFC 9711 section 4.3.2), and its
// version: another profile is another format.
const Profile = "https://jurat.dev/evidence/v1"

// MediaType is what a bundle is sent as (RFC 9782).
const MediaType = `application/eat-ucs+cbor; eat_profile="` + Profile + `"`

// wire is a bundle as it crosses the wire (spec/evidence.md section 2): an EAT
// claims set whose protection is the TPM quote inside it. Private claims are
// numbered below -65536 (RFC 8392 section 9.1).
type wire struct {
	Profile     string      `cbor:"265,keyasint"`
	Nonce       Bytes       `cbor:"10,keyasint"`
	UEID        Bytes       `cbor:"256,keyasint"`
	Header      []byte      `cbor:"-70001,keyasint"`
	Quote       Quote       `cbor:"-70002,keyasint"`
	Register    *Register   `cbor:"-70003,keyasint"`
	Checkpoint  []byte      `cbor:"-70004,keyasint"`
	Consistency Consistency `cbor:"-70005,keyasint"`
	Requests    []wireLeaf  `cbor:"-70006,keyasint"`
	Entries     []wireLeaf  `cbor:"-70007,keyasint"`
	BootLog     []byte      `cbor:"-70008,keyasint"`
	IMA         IMATail     `cbor:"-70009,keyasint"`
	Closing     []Closing   `cbor:"-70010,keyasint"`
	OSLog       []byte      `cbor:"-70011,keyasint"`
	Banks       *Banks      `cbor:"-70012,keyasint"`
}

type wireLeaf struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Data  []byte
	Proof Proof
}

// Consistency proves that the log only grew since the size the broker knows
// (spec/evidence.md section 5.1).
type Consistency struct {
	_     struct{} `cbor:",toarray"`
	From  uint64   `json:"from"`
	Proof Proof    `json:"proof"`
}

// IMATail is the part of the kernel's IMA list the broker lacks.
type IMATail struct {
	_    struct{} `cbor:",toarray"`
	From uint64   `json:"from"` // entries the broker has
	Data Bytes    `json:"data"` // binary_runtime_measurements from there on
	More bool     `json:"more"` // the list goes on behind Data, and did not fit
}

// Closing is the second look at a request's process, taken after the quote:
// the host's word, not covered by the quote it follows. The log commits to it
// in the next checkpoint as a KindRelease entry.
type Closing struct {
	_     struct{} `cbor:",toarray"`
	Index uint64   `json:"index"` // of the request in the batch
	After State    `json:"after"`
}

// Leaf is one proven member of a tree: the bytes as hashed, and what they say.
type Leaf[T any] struct {
	Index uint64 `json:"index"`
	Value *T     `json:"value"`
	Proof Proof  `json:"proof"`
	Raw   []byte `json:"-"`
}

// Bundle is evidence as received: well formed, not believed. Only [Parse]
// makes one from bytes.
type Bundle struct {
	UEID        Bytes           `json:"ueid"`  // the host, as it calls itself (RFC 9711 section 4.2.1)
	Nonce       Bytes           `json:"nonce"` // the challenge answered
	Header      *Header         `json:"header"`
	RawHeader   []byte          `json:"-"`
	Quote       Quote           `json:"quote"`
	Register    *Register       `json:"register"` // nil with AnchorNone and AnchorBroken
	Banks       *Banks          `json:"banks"`
	Checkpoint  *Checkpoint     `json:"checkpoint"`
	RawChk      []byte          `json:"-"`
	Consistency Consistency     `json:"consistency"`
	Requests    []Leaf[Request] `json:"requests"`
	Entries     []Leaf[Entry]   `json:"entries"`
	BootLog     []byte          `json:"-"` // empty: the broker said it has it
	OSLog       []byte          `json:"-"` // empty: there is none
	IMA         IMATail         `json:"-"`
	Closing     []Closing       `json:"closing"`
}

// Marshal returns the canonical bytes of b, made from RawHeader, RawChk and
// the Raw bytes of its leaves; the decoded values beside them are not read.
func (b *Bundle) Marshal() ([]byte, error) {
	w := wire{
		Profile: Profile, Nonce: b.Nonce, UEID: b.UEID, Header: b.RawHeader, Quote: b.Quote, Register: b.Register,
		Checkpoint: b.RawChk, Consistency: b.Consistency, BootLog: b.BootLog, OSLog: b.OSLog, Banks: b.Banks, IMA: b.IMA, Closing: b.Closing,
		Requests: make([]wireLeaf, len(b.Requests)), Entries: make([]wireLeaf, len(b.Entries)),
	}
	for i, r := range b.Requests {
		w.Requests[i] = wireLeaf{Index: r.Index, Data: r.Raw, Proof: r.Proof}
	}
	for i, e := range b.Entries {
		w.Entries[i] = wireLeaf{Index: e.Index, Data: e.Raw, Proof: e.Proof}
	}
	data, err := encode(&w, (*wire).wire)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("bundle of %d bytes, at most %d", len(data), MaxBundle)
	}
	return data, nil
}

// Parse decodes one bundle. What it returns is whole and in canonical form in
// every part, and shares data; nothing of it is believed. It fails with a
// *FormatError.
func Parse(data []byte) (*Bundle, error) {
	if len(data) > MaxBundle {
		return nil, malformed("bundle", "%d bytes, at most %d", len(data), MaxBundle)
	}
	var w wire
	if err := decode(data, &w, (*wire).wire); err != nil {
		return nil, malformed("bundle", "%v", err)
	}
	if w.Profile != Profile {
		return nil, malformed("bundle", "profile %q, want %q", w.Profile, Profile)
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	b := &Bundle{
		UEID: w.UEID, Nonce: w.Nonce, RawHeader: w.Header, Quote: w.Quote, Register: w.Register, RawChk: w.Checkpoint,
		Consistency: w.Consistency, BootLog: w.BootLog, OSLog: w.OSLog, Banks: w.Banks, IMA: w.IMA, Closing: w.Closing,
	}
	var err error
	if b.Header, err = ParseHeader(w.Header); err != nil {
		return nil, malformed("header", "%v", err)
	}
	if b.Checkpoint, err = ParseCheckpoint(w.Checkpoint); err != nil {
		return nil, malformed("checkpoint", "%v", err)
	}
	if b.Requests, err = parseLeaves("request", w.Requests, ParseRequest); err != nil {
		return nil, err
	}
	if b.Entries, err = parseLeaves("entry", w.Entries, ParseEntry); err != nil {
		return nil, err
	}
	return b, b.checkClosing()
}

func (w *wire) check() error {
	switch {
	case len(w.Nonce) < MinNonce || len(w.Nonce) > MaxNonce:
		return malformed("bundle", "nonce of %d bytes, want %d to %d", len(w.Nonce), MinNonce, MaxNonce)
	case len(w.UEID) != 33 || w.UEID[0] != 1:
		return malformed("bundle", "ueid of %d bytes, want 33 beginning with 01", len(w.UEID))
	case len(w.Quote.Attest) > MaxAttest || len(w.Quote.Signature) > MaxSignature:
		return malformed("quote", "attest of %d and signature of %d bytes, at most %d and %d",
			len(w.Quote.Attest), len(w.Quote.Signature), MaxAttest, MaxSignature)
	case w.Register != nil && !w.Register.Certified.fits():
		return malformed("register", "attest of %d and signature of %d bytes", len(w.Register.Certified.Attest), len(w.Register.Certified.Signature))
	case w.Register != nil && (len(w.Register.Tail)%len(Hash{}) != 0 || len(w.Register.Tail) > MaxRegister*len(Hash{})):
		return malformed("register", "tail of %d bytes, want at most %d hashes of 32", len(w.Register.Tail), MaxRegister)
	case w.Banks != nil && (!w.Banks.Certified.fits() || len(w.Banks.Response) > MaxAttest):
		return malformed("banks", "response of %d, attest of %d and signature of %d bytes", len(w.Banks.Response), len(w.Banks.Certified.Attest), len(w.Banks.Certified.Signature))
	case len(w.BootLog) > MaxBootLog:
		return malformed("boot log", "%d bytes, at most %d", len(w.BootLog), MaxBootLog)
	case len(w.OSLog) > MaxOSLog:
		return malformed("os log", "%d bytes, at most %d", len(w.OSLog), MaxOSLog)
	case len(w.Requests) == 0:
		return malformed("bundle", "no request")
	}
	for i := 1; i < len(w.Quote.PCRs); i++ {
		if w.Quote.PCRs[i].Index <= w.Quote.PCRs[i-1].Index {
			return malformed("quote", "PCR %d after PCR %d, want ascending", w.Quote.PCRs[i].Index, w.Quote.PCRs[i-1].Index)
		}
	}
	return nil
}

func (c *Certification) fits() bool {
	return len(c.Attest) <= MaxAttest && len(c.Signature) <= MaxSignature
}

func parseLeaves[T any](place string, in []wireLeaf, parse func([]byte) (*T, error)) ([]Leaf[T], error) {
	out := make([]Leaf[T], len(in))
	for i, l := range in {
		if i > 0 && l.Index <= in[i-1].Index {
			return nil, malformed(place, "number %d after %d, want ascending", l.Index, in[i-1].Index)
		}
		v, err := parse(l.Data)
		if err != nil {
			return nil, malformed(place, "number %d: %v", l.Index, err)
		}
		out[i] = Leaf[T]{Index: l.Index, Value: v, Proof: l.Proof, Raw: l.Data}
	}
	return out, nil
}

// checkClosing wants one second look per request, in the same order.
func (b *Bundle) checkClosing() error {
	if len(b.Closing) != len(b.Requests) {
		return malformed("closing", "%d looks for %d requests", len(b.Closing), len(b.Requests))
	}
	for i, c := range b.Closing {
		if c.Index != b.Requests[i].Index {
			return malformed("closing", "look %d is for request %d, want %d", i, c.Index, b.Requests[i].Index)
		}
		if !bytes.Equal(b.Requests[i].Value.Nonce, b.Nonce) {
			return malformed("request", "number %d answers another challenge than the bundle", c.Index)
		}
	}
	return nil
}

// Entry returns the entry at the log index, or nil when the bundle has none.
func (b *Bundle) Entry(index uint64) *Leaf[Entry] {
	for i := range b.Entries {
		if b.Entries[i].Index == index {
			return &b.Entries[i]
		}
	}
	return nil
}

// FormatError says which part of a bundle is not what the format allows, and
// how. It has one code for all of them, E_FORMAT; the place tells them apart.
type FormatError struct {
	Place  string
	Detail string
}

func (e *FormatError) Error() string { return "malformed " + e.Place + ": " + e.Detail }

func malformed(place, format string, args ...any) error {
	return &FormatError{Place: place, Detail: fmt.Sprintf(format, args...)}
}
