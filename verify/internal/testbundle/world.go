// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package testbundle builds bundles for the tests of package verify: a host
// with a TPM in software whose every part can be made wrong, one at a time,
// while all the rest stays right. It ships in no program, has no door, and
// gives the same bytes each time.
package testbundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// World is a host, its log, its TPM and what a broker knows of it. Build turns
// it into a bundle; the hooks change a part after it was made and before
// anything is built on top of it.
type World struct {
	// The broker's side.
	Now      time.Time
	Broker   string
	Nonce    []byte
	Expires  time.Time
	UEID     []byte // as pinned
	AKPublic []byte
	AKName   []byte
	Level    string
	Policy   verify.Policy
	Maker    string
	Last     *verify.State
	// What the broker kept, and what it was made from.
	Boot        *verify.Boot
	KeptBootLog []byte
	KeptIMA     *verify.IMAList
	KeptFiles   []evidence.Hash

	// The host's side.
	AK       *AK
	Chip     *Chip // quotes instead of AK
	BootID   []byte
	Epoch    uint64
	Sequence uint64
	Number   uint64
	Log      []*evidence.Entry
	Known    uint64   // entries the broker knows, if it is not what Last says
	Send     []uint64 // entries in the bundle
	Requests []*evidence.Request
	After    []evidence.State
	Omit     map[int]bool // requests of the batch that are not in the bundle
	BootLog  []byte
	OSLog    []byte
	IMA      *IMA      // nil: the host has no list
	Register *Register // nil: anchor mode none
	Banks    []uint16  // active ones; nil: not said
	Clock    tpm2.TPMSClockInfo
	Firmware uint64
	PCRs     [24]evidence.Hash
	Quoted   []byte // PCR selection, one bit each

	OnCheckpoint func(*evidence.Checkpoint)
	OnRequest    func(int, *evidence.Request)
	OnHeader     func(*evidence.Header)
	OnAttest     func(*tpm2.TPMSAttest)
	OnSigned     func([]byte) []byte // the attest, before it is signed
	OnSignature  func(*tpm2.TPMSSignatureECC)
	OnBanks      func(*evidence.Banks, *tpm2.TPMSAttest)
	OnRegister   func(*evidence.Register, *tpm2.TPMSAttest)
	OnBundle     func(*evidence.Bundle)
	OnBytes      func([]byte) []byte
}

// Chip is a real TPM's attestation key.
type Chip struct {
	Name  []byte
	Quote func(evidence.Hash) (evidence.Quote, error)
	Banks func(evidence.Hash) (*evidence.Banks, error)
}

func (w *World) keyName() []byte {
	if w.Chip != nil {
		return bytes.Clone(w.Chip.Name)
	}
	return w.AK.Name()
}

// Built is a bundle, and what a broker should remember of it.
type Built struct {
	Bundle *evidence.Bundle
	Bytes  []byte
	Next   verify.State
}

// Text returns 32 bytes that s determines.
func Text(s string) evidence.Hash { return sha256.Sum256([]byte(s)) }

// Host is what the broker pinned.
func (w *World) Host() verify.Host {
	return verify.Host{UEID: w.UEID, AKPublic: w.AKPublic, AKName: w.AKName, Level: w.Level, Maker: w.Maker, Last: w.Last, Boot: w.Boot, IMA: w.KeptIMA}
}

// Challenge is what the broker asked.
func (w *World) Challenge() verify.Challenge {
	return verify.Challenge{Broker: w.Broker, Nonce: w.Nonce, Expires: w.Expires}
}

// Build makes the bundle.
func (w *World) Build() Built {
	var raws [][]byte
	for _, e := range w.Log {
		raws = append(raws, must(evidence.Marshal(e)))
	}
	tree := newTree(raws)
	b := &evidence.Bundle{UEID: bytes.Clone(w.UEID), Nonce: bytes.Clone(w.Nonce), BootLog: w.BootLog, OSLog: w.OSLog}
	w.checkpoint(b, tree)
	for _, index := range w.Send {
		b.Entries = append(b.Entries, evidence.Leaf[evidence.Entry]{Index: index, Value: w.Log[index], Raw: raws[index], Proof: must(tree.Inclusion(uint64(len(raws)), index))})
	}
	root := w.batch(b, raws)
	w.header(b, root)
	w.settle()
	w.banks(b)
	w.register(b)
	attest := w.quote(b)
	if w.OnBundle != nil {
		w.OnBundle(b)
	}
	data := must(b.Marshal())
	if w.OnBytes != nil {
		data = w.OnBytes(data)
	}
	return Built{Bundle: b, Bytes: data, Next: w.next(b, attest, raws)}
}

func (w *World) checkpoint(b *evidence.Bundle, tree evidence.Tree) {
	size := uint64(len(w.Log))
	c := &evidence.Checkpoint{
		Version: 1, AKName: w.keyName(), BootID: w.BootID, Epoch: w.Epoch, Number: w.Number, Size: size, Root: must(tree.Root(size)),
		IMADigest: evidence.Unknown[evidence.Hash]("no-ima"), Previous: Text("previous checkpoint"), At: 500_000_000_000,
	}
	var known uint64
	if w.Last != nil {
		c.Lost, c.Taints, known = w.Last.Lost, w.Last.Taints, w.Last.Size
		if w.Number == w.Last.Number+1 {
			c.Previous = w.Last.Checkpoint
		}
	}
	if w.Known != 0 {
		known = w.Known
	}
	if w.IMA != nil {
		c.IMACount, c.IMADigest = w.IMA.committed()
	}
	if w.OnCheckpoint != nil {
		w.OnCheckpoint(c)
	}
	b.Checkpoint, b.RawChk = c, c.Marshal()
	b.Consistency = evidence.Consistency{From: known, Proof: must(tree.Consistency(size, known))}
}

// batch builds the requests and returns the root over them.
func (w *World) batch(b *evidence.Bundle, entries [][]byte) evidence.Hash {
	var raws [][]byte
	for i, r := range w.Requests {
		r := *r
		r.Number = w.Number
		r.Subject.Leaf = evidence.LeafHash(entries[r.Subject.Index])
		if w.OnRequest != nil {
			w.OnRequest(i, &r)
		}
		raws = append(raws, r.Marshal())
		if !w.Omit[i] {
			b.Requests = append(b.Requests, evidence.Leaf[evidence.Request]{Index: uint64(i), Value: &r, Raw: raws[i]})
			b.Closing = append(b.Closing, evidence.Closing{Index: uint64(i), After: w.After[i]})
		}
	}
	batch := must(evidence.NewBatch(raws))
	for i := range b.Requests {
		b.Requests[i].Proof = must(batch.Proof(int(b.Requests[i].Index)))
	}
	return must(batch.Root())
}

func (w *World) header(b *evidence.Bundle, root evidence.Hash) {
	h := &evidence.Header{
		Version: 1, AKName: w.keyName(), BootID: w.BootID, Epoch: w.Epoch, Sequence: w.Sequence, Anchor: evidence.AnchorNone, Number: w.Number,
		Checkpoint: evidence.CheckpointDigest(b.RawChk), BootLog: evidence.Unknown[evidence.Hash]("no-log"), OSLog: evidence.Unknown[evidence.Hash]("no-log"), IMADigest: evidence.Unknown[evidence.Hash]("no-ima"),
		Tier: verify.TierTracepoint, Sensor: Text("sensor"), Batch: uint64(len(w.Requests)), BatchRoot: root, Previous: Text("previous quote"), Wall: uint64(w.Now.Unix()),
	}
	if w.BootLog != nil {
		h.BootLog = evidence.Known(evidence.Hash(sha256.Sum256(w.BootLog)))
	}
	if w.OSLog != nil {
		h.OSLog = evidence.Known(evidence.Hash(sha256.Sum256(w.OSLog)))
	}
	if w.IMA != nil {
		b.IMA, h.IMACount, h.IMADigest = w.IMA.tail()
	}
	if w.Register != nil {
		h.Anchor, h.NVName = w.Register.Mode, w.Register.Name()
	}
	if w.Last != nil && w.Sequence == w.Last.Sequence+1 {
		h.Previous = w.Last.Quote
	}
	if w.OnHeader != nil {
		w.OnHeader(h)
	}
	b.Header, b.RawHeader = h, h.Marshal()
}

// quote signs the header, and returns what it signed.
func (w *World) quote(b *evidence.Bundle) tpm2.TPMSAttest {
	extra := evidence.HeaderDigest(b.RawHeader)
	if w.Chip != nil {
		b.Quote = must(w.Chip.Quote(extra))
		return tpm2.TPMSAttest{}
	}
	digest := sha256.New()
	b.Quote.PCRs = []evidence.PCR{}
	for pcr := range len(w.Quoted) * 8 {
		if w.Quoted[pcr/8]&(1<<(pcr%8)) != 0 {
			b.Quote.PCRs = append(b.Quote.PCRs, evidence.PCR{Index: uint8(pcr), Digest: bytes.Clone(w.PCRs[pcr][:])})
			digest.Write(w.PCRs[pcr][:])
		}
	}
	attest := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: w.AK.QualifiedName()},
		ExtraData: tpm2.TPM2BData{Buffer: extra[:]}, ClockInfo: w.Clock, FirmwareVersion: w.Firmware,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: w.Quoted}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: digest.Sum(nil)},
		}),
	}
	if w.OnAttest != nil {
		w.OnAttest(&attest)
	}
	signed := tpm2.Marshal(attest)
	if w.OnSigned != nil {
		signed = w.OnSigned(signed)
	}
	sig := w.AK.Sign(signed)
	if w.OnSignature != nil {
		w.OnSignature(sig)
	}
	b.Quote.Attest = signed
	b.Quote.Signature = w.sign(sig)
	return attest
}

// next computes what a broker should remember, from the host's side.
func (w *World) next(b *evidence.Bundle, attest tpm2.TPMSAttest, entries [][]byte) verify.State {
	s := verify.State{
		Epoch: w.Epoch, Sequence: b.Header.Sequence, Number: w.Number, Size: uint64(len(entries)), Root: b.Checkpoint.Root, Checkpoint: b.Header.Checkpoint,
		Quote: sha256.Sum256(b.Quote.Attest), Lost: b.Checkpoint.Lost, Taints: b.Checkpoint.Taints, BootID: w.BootID,
		ResetCount: attest.ClockInfo.ResetCount, RestartCount: attest.ClockInfo.RestartCount, Clock: attest.ClockInfo.Clock, Firmware: attest.FirmwareVersion,
		EpochSince: w.Now, ResetSince: w.Now, Banks: w.Banks,
	}
	if w.Register != nil {
		s.Register = w.Register.state(b.Register, b.Header.Checkpoint)
	}
	if w.BootLog != nil {
		s.BootLog = sha256.Sum256(w.BootLog)
	}
	for i, e := range w.Log {
		if e.Start != nil && e.Start.Epoch == w.Epoch {
			s.Start = evidence.LeafHash(entries[i])
		}
	}
	if w.Last != nil && w.Last.Epoch == s.Epoch {
		s.EpochSince = w.Last.EpochSince
	}
	if w.Last != nil && w.Last.ResetCount == s.ResetCount {
		s.ResetSince = w.Last.ResetSince
	}
	return s
}

// newTree is a log's tree in memory.
func newTree(raws [][]byte) evidence.Tree {
	var hashes []evidence.Hash
	tree := evidence.NewTree(func(at []int64) ([]evidence.Hash, error) {
		out := make([]evidence.Hash, len(at))
		for i, x := range at {
			if x >= int64(len(hashes)) {
				return nil, fmt.Errorf("no hash %d", x)
			}
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i, raw := range raws {
		hashes = append(hashes, must(tree.StoredHashes(uint64(i), evidence.LeafHash(raw)))...)
	}
	return tree
}
