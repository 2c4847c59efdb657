// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
)

// Host is a machine with a TPM and a measurement log.
type Host struct {
	*Chip
	boot     []byte
	epoch    uint64
	sequence uint64
	number   uint64
	entries  [][]byte
	hashes   []evidence.Hash
	previous evidence.Hash // checkpoint
	quoted   evidence.Hash // the last quote
	at       uint64
	sends    map[uint64]bool
	register *register // nil: none
	list     list      // of the kernel
	// What tests turn.
	BootLog  []byte
	OSLog    []byte // systemd's
	Anchor   string
	Most     int // entries of the list in one bundle; 0: all
	Tier     string
	OnHeader func(*evidence.Header)
	OnAttest func(*tpm2.TPMSAttest)
	OnBundle func(*evidence.Bundle)
}

// NewHost boots a machine with the TPM.
func NewHost(t testing.TB, c *Chip) *Host {
	t.Helper()
	h := &Host{Chip: c, boot: make([]byte, 16), Tier: "tracepoint", Anchor: evidence.AnchorNone, sends: map[uint64]bool{}}
	if _, err := rand.Read(h.boot); err != nil {
		t.Fatal(err)
	}
	h.Boots(bootlog.Boot{})
	h.begin(t, "first")
	return h
}

// Reboot starts the machine and its TPM again, which boot so: a new epoch in the
// same log.
func (h *Host) Reboot(t testing.TB, boot bootlog.Boot) {
	t.Helper()
	h.boot = make([]byte, 16)
	if _, err := rand.Read(h.boot); err != nil {
		t.Fatal(err)
	}
	h.Reset++
	h.Boots(boot)
	if h.register != nil {
		h.Latch()
	}
	h.begin(t, "boot")
}

// Restart starts the agent again: a new epoch of the same boot.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	h.begin(t, "restart")
}

func (h *Host) begin(t testing.TB, reason string) {
	t.Helper()
	h.epoch++
	h.sends = map[uint64]bool{}
	h.add(t, &evidence.Entry{Version: 1, Kind: evidence.KindStart, At: h.tick(), Start: &evidence.Start{
		Reason: reason, Epoch: h.epoch, BootID: bytes.Clone(h.boot), Agent: "test", AgentDigest: evidence.Known(Digest("juratd")), Kernel: "6.1",
		Tier: h.Tier, Sensor: Text("sensor"), Modules: evidence.Known("bpf"), Lockdown: evidence.Known("none"), Signals: signals()}})
}

func signals() (out []evidence.Signal) {
	for _, name := range []string{"exec", "fork", "exit", "code-open", "model-open"} {
		out = append(out, evidence.Signal{Name: name, By: evidence.Known("tp_btf/" + name)})
	}
	return out
}

func (h *Host) tick() uint64 {
	h.at += 1_000_000
	return h.at
}

func (h *Host) tree() evidence.Tree {
	return evidence.NewTree(func(indexes []int64) ([]evidence.Hash, error) {
		out := make([]evidence.Hash, len(indexes))
		for i, at := range indexes {
			out[i] = h.hashes[at]
		}
		return out, nil
	})
}

// add appends an entry, which the bundles of this epoch will carry.
func (h *Host) add(t testing.TB, e *evidence.Entry) (uint64, evidence.Hash) {
	t.Helper()
	raw, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(len(h.entries))
	fresh, err := h.tree().StoredHashes(index, evidence.LeafHash(raw))
	if err != nil {
		t.Fatal(err)
	}
	h.hashes, h.entries = append(h.hashes, fresh...), append(h.entries, raw)
	h.sends[index] = true
	return index, evidence.LeafHash(raw)
}

// Measure appends the measurement of a process, and returns what requests name
// it by.
func (h *Host) Measure(t testing.TB, pid uint32, change func(*evidence.Process)) evidence.Subject {
	t.Helper()
	p := Process(h.tick())
	if change != nil {
		change(p)
	}
	instance := evidence.Instance{PID: pid, Start: 99_000, PidfdInode: uint64(pid) + 1000, Generation: 2}
	index, leaf := h.add(t, &evidence.Entry{Version: 1, Kind: evidence.KindProcess, At: h.at, Instance: &instance, Process: p})
	return evidence.Subject{Instance: instance, Index: index, Leaf: leaf}
}

// Wish is what one request asks for.
type Wish struct {
	Broker    string
	D         evidence.Hash
	Audience  string
	Actions   []string
	Datatypes []string
	Confirm   evidence.Confirm
	Subject   evidence.Subject
	Taints    []string
}

// Have is what a broker says it has of the host (spec/broker-api.md section 3).
type Have struct {
	LogSize      uint64 `json:"log_size"`
	BootLog      string `json:"boot_log"`
	RegisterSize uint64 `json:"register_size"`
	IMACount     uint64 `json:"ima_count"`
}

// Bundle answers the challenge for the wishes, and sends everything but the
// first have entries of the log.
func (h *Host) Bundle(t testing.TB, nonce []byte, have uint64, wishes ...Wish) []byte {
	t.Helper()
	return h.Tail(t, nonce, Have{LogSize: have}, wishes...)
}

// Tail answers the challenge for the wishes with what the broker does not have.
func (h *Host) Tail(t testing.TB, nonce []byte, have Have, wishes ...Wish) []byte {
	t.Helper()
	h.number++
	size := uint64(len(h.entries))
	root, err := h.tree().Root(size)
	if err != nil {
		t.Fatal(err)
	}
	check := &evidence.Checkpoint{Version: 1, AKName: h.AKName(), BootID: h.boot, Epoch: h.epoch, Number: h.number, Size: size, Root: root,
		IMADigest: evidence.Unknown[evidence.Hash]("no-ima"), Previous: h.previous, At: h.tick()} // the agent commits to the list in the header alone
	b := &evidence.Bundle{UEID: h.UEID(), Nonce: nonce, Checkpoint: check, RawChk: check.Marshal()}
	h.previous = evidence.CheckpointDigest(b.RawChk)
	if h.register != nil {
		h.register.extend(h.previous)
	}
	b.Consistency.From = have.LogSize
	if b.Consistency.Proof, err = h.tree().Consistency(size, have.LogSize); err != nil {
		t.Fatal(err)
	}
	for index := range size {
		if h.sends[index] {
			b.Entries = append(b.Entries, h.leaf(t, size, index))
		}
	}
	batch := h.requests(t, b, nonce, wishes)
	h.sequence++
	h.Clock += 1000
	b.Header = &evidence.Header{Version: 1, AKName: h.AKName(), BootID: h.boot, Epoch: h.epoch, Sequence: h.sequence, Anchor: h.Anchor, NVName: h.registerName(),
		Number: h.number, Checkpoint: h.previous, BootLog: evidence.Unknown[evidence.Hash]("no-log"), OSLog: evidence.Unknown[evidence.Hash]("no-log"),
		Tier: h.Tier, Sensor: Text("sensor"), Batch: uint64(len(wishes)), BatchRoot: batch, Previous: h.quoted, Wall: 1}
	b.IMA, b.Header.IMACount, b.Header.IMADigest = h.tail(have.IMACount)
	if digest := evidence.Hash(sha256.Sum256(h.BootLog)); len(h.BootLog) > 0 {
		b.Header.BootLog = evidence.Known(digest)
		if have.BootLog != digest.String() {
			b.BootLog = h.BootLog
		}
	}
	if b.OSLog = h.OSLog; len(h.OSLog) > 0 {
		b.Header.OSLog = evidence.Known(evidence.Hash(sha256.Sum256(h.OSLog)))
	}
	if h.OnHeader != nil {
		h.OnHeader(b.Header)
	}
	b.RawHeader = b.Header.Marshal()
	q := evidence.HeaderDigest(b.RawHeader)
	b.Quote.Attest, b.Quote.Signature = h.Quote(t, q[:], h.OnAttest)
	h.quoted = sha256.Sum256(b.Quote.Attest)
	b.Banks, b.Register = h.banks(t), h.shown(t, have.RegisterSize, q)
	for i := range uint8(16) {
		b.Quote.PCRs = append(b.Quote.PCRs, evidence.PCR{Index: i, Digest: bytes.Clone(h.PCRs[i])})
	}
	if h.OnBundle != nil {
		h.OnBundle(b)
	}
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (h *Host) leaf(t testing.TB, size, index uint64) evidence.Leaf[evidence.Entry] {
	t.Helper()
	proof, err := h.tree().Inclusion(size, index)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Leaf[evidence.Entry]{Index: index, Raw: h.entries[index], Proof: proof}
}

func (h *Host) requests(t testing.TB, b *evidence.Bundle, nonce []byte, wishes []Wish) evidence.Hash {
	t.Helper()
	var raws [][]byte
	for i, w := range wishes {
		var blind evidence.Hash
		if _, err := rand.Read(blind[:]); err != nil {
			t.Fatal(err)
		}
		before := look(h.tick(), w.Subject.Instance.Generation)
		before.Taints = append(before.Taints, w.Taints...)
		r := &evidence.Request{Version: 1, Blind: blind, Broker: w.Broker, Nonce: nonce, D: w.D, Audience: w.Audience, Actions: w.Actions,
			Datatypes: w.Datatypes, Confirm: w.Confirm, Subject: w.Subject, Before: before, Number: h.number}
		raws = append(raws, r.Marshal())
		b.Requests = append(b.Requests, evidence.Leaf[evidence.Request]{Index: uint64(i), Value: r, Raw: raws[i]})
		b.Closing = append(b.Closing, evidence.Closing{Index: uint64(i), After: look(h.at+500, w.Subject.Instance.Generation)})
	}
	batch, err := evidence.NewBatch(raws)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Requests {
		if b.Requests[i].Proof, err = batch.Proof(i); err != nil {
			t.Fatal(err)
		}
	}
	root, err := batch.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// Text returns 32 bytes that s determines.
func Text(s string) evidence.Hash { return sha256.Sum256([]byte(s)) }

// Digest returns the digest of the file that a path stands for.
func Digest(path string) evidence.Digest {
	sum := Text("file " + path)
	return evidence.Digest{Algorithm: "sha-256", Value: sum[:], Source: evidence.SourceRead}
}

// File returns that file.
func File(path string) evidence.File {
	return evidence.File{Path: path, ID: evidence.FileID{Device: 1, Inode: 2, Ctime: 3, Size: 4}, Digest: evidence.Known(Digest(path))}
}

// Process is a workload that matches the reference values of the tests.
func Process(at uint64) *evidence.Process {
	loader, exe := File("/lib64/ld.so"), File("/usr/bin/invoice-agent")
	return &evidence.Process{
		Origin: evidence.OriginExec, ExecAt: 1, Measured: at, Exe: evidence.Known(exe), Loader: evidence.Known(&loader), Script: evidence.Known[*evidence.Script](nil),
		Maps: evidence.Known([]evidence.File{exe, File("/lib/libc.so.6"), loader}), Arguments: evidence.Known(Text("argv")),
		Code: evidence.Known(evidence.NewManifest(nil)), Models: evidence.Known([]evidence.File{}),
		Inputs:      evidence.Known([]evidence.File{}),
		Credentials: evidence.Known(evidence.Credentials{UID: 990, EUID: 990, SUID: 990, FSUID: 990, GID: 990, EGID: 990, SGID: 990, FSGID: 990}),
		Groups:      evidence.Known([]uint32{990}), Namespaces: evidence.Known(evidence.Namespaces{User: 4026531837}),
		Cgroup: evidence.Known("/system.slice/invoice.service"), Unit: evidence.Known("invoice.service"), Container: evidence.Known[*evidence.Container](nil),
		Ancestors: evidence.Known([]evidence.Ancestor{{Instance: evidence.Instance{PID: 1}, Path: "/sbin/init", Digest: evidence.Known(Digest("/sbin/init"))}}),
		Label:     evidence.Known("unconfined"), Session: evidence.Known[uint32](3), TTY: evidence.Known(""), Directory: evidence.Known("/"),
		Environment: evidence.Known(map[string]string{}), Devices: evidence.Unknown[[]string]("not-collected"), Interference: evidence.Known([]string{}),
	}
}

func look(at uint64, generation uint32) evidence.State {
	return evidence.State{At: at, Alive: true, Generation: generation, Taints: []string{}, Unmeasured: evidence.Known[uint64](0),
		Private: evidence.Known[uint64](0), Tracer: evidence.Known[uint32](0), Missing: evidence.Known([]string{}), Changed: evidence.Known([]string{})}
}
