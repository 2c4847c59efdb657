// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/tlog"
)

// sampleState is a clean look at a process.
func sampleState() State {
	return State{
		At: 99, Alive: true, Generation: 2, Unmeasured: Known[uint64](0), Private: Known[uint64](0),
		Tracer: Known[uint32](0), Missing: Known([]string{}), Changed: Known([]string{}),
	}
}

// sampleProcess has a field of every state.
func sampleProcess() *Process {
	file := File{Path: "/usr/bin/agent", ID: FileID{Device: 1, Inode: 2, Ctime: -3, Size: 4},
		Digest: Known(Digest{Algorithm: "sha-256", Value: bytes.Repeat([]byte{7}, 32), Source: SourceRead})}
	return &Process{
		Origin: OriginExec, ExecAt: 5, Measured: 6, Exe: Known(file), Loader: Known[*File](nil), Script: Known[*Script](nil),
		Maps: Known([]File{file}), Arguments: Known(Hash{1}), Code: Unknown[Manifest]("not-collected"),
		Models: Unknown[[]File]("not-collected"), Inputs: Unknown[[]File]("not-collected"),
		Credentials: Known(Credentials{UID: 1000}), Groups: Known([]uint32{1000}), Namespaces: Known(Namespaces{PID: 1}),
		Cgroup: Known("/system.slice/a.service"), Unit: Known("a.service"), Container: Known[*Container](nil),
		Ancestors: Known([]Ancestor{}), Label: Unknown[string]("no-lsm"), Session: Known[uint32](3), TTY: Known(""),
		Directory: Tainted("/tmp", "deleted"), Environment: Known(map[string]string{"A": "1", "BB": "2"}),
		Devices: Unknown[[]string]("not-collected"), Interference: Known([]string{}),
	}
}

// sampleBundle builds a bundle whose trees are right, and whose quote is not.
func sampleBundle(t testing.TB, requests int) *Bundle {
	t.Helper()
	instance := Instance{PID: 4711, Start: 12, PidfdInode: 13, Generation: 2}
	entry := &Entry{Version: 1, Kind: KindProcess, At: 7, Instance: &instance, Process: sampleProcess()}
	raw, err := entry.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	chk := &Checkpoint{Version: 1, BootID: make([]byte, 16), Epoch: 1, Number: 1, Size: 1, Root: LeafHash(raw), IMADigest: Unknown[Hash]("no-ima")}
	nonce := bytes.Repeat([]byte{9}, 56)
	var raws [][]byte
	b := &Bundle{Nonce: nonce, UEID: append([]byte{1}, make([]byte, 32)...), Checkpoint: chk, RawChk: chk.Marshal()}
	for i := range requests {
		r := &Request{Version: 1, Blind: Hash{byte(i)}, Broker: "https://broker.example", Nonce: nonce, D: Hash{3},
			Audience: "https://payments.example", Actions: []string{"invoice.read"},
			Confirm: Confirm{Method: ConfirmJKT, Thumbprint: make([]byte, 32)},
			Subject: Subject{Instance: instance, Leaf: LeafHash(raw)}, Before: sampleState(), Number: 1}
		raws = append(raws, r.Marshal())
		b.Requests = append(b.Requests, Leaf[Request]{Index: uint64(i), Value: r, Raw: raws[i]})
		b.Closing = append(b.Closing, Closing{Index: uint64(i), After: sampleState()})
	}
	batch, err := NewBatch(raws)
	if err != nil {
		t.Fatal(err)
	}
	root, err := batch.Root()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Requests {
		if b.Requests[i].Proof, err = batch.Proof(i); err != nil {
			t.Fatal(err)
		}
	}
	b.Header = &Header{Version: 1, BootID: make([]byte, 16), Epoch: 1, Sequence: 1, Anchor: AnchorNone, Number: 1,
		Checkpoint: CheckpointDigest(b.RawChk), BootLog: Unknown[Hash]("no-log"), OSLog: Unknown[Hash]("no-log"), IMADigest: Unknown[Hash]("no-ima"),
		Tier: "tracepoint", Batch: uint64(requests), BatchRoot: root}
	b.RawHeader = b.Header.Marshal()
	b.Entries = []Leaf[Entry]{{Index: 0, Value: entry, Raw: raw}}
	b.Quote = Quote{Attest: []byte{1}, Signature: []byte{2}, PCRs: []PCR{{Index: 0, Digest: make([]byte, 32)}, {Index: 1, Digest: make([]byte, 32)}}}
	return b
}

func TestBundleRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 7} {
		data, err := sampleBundle(t, n).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := b.Marshal()
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("batch of %d: parse and marshal changed the bytes (%v)", n, err)
		}
		for i, r := range b.Requests {
			if err := CheckInclusion(r.Proof, b.Header.Batch, b.Header.BatchRoot, r.Index, LeafHash(r.Raw)); err != nil {
				t.Errorf("batch of %d, request %d: %v", n, i, err)
			}
		}
		if dir, ok := b.Entries[0].Value.Process.Directory.Get(); ok {
			t.Errorf("a tainted field gave %q as known", dir)
		}
	}
}

// TestParseRefuses changes one thing each and wants the place named.
func TestParseRefuses(t *testing.T) {
	cases := []struct {
		name, want string
		change     func(*Bundle)
	}{
		{"no request", "no request", func(b *Bundle) { b.Requests, b.Closing = nil, nil }},
		{"short nonce", "nonce of 7", func(b *Bundle) { b.Nonce = b.Nonce[:7] }},
		{"ueid type", "ueid", func(b *Bundle) { b.UEID[0] = 2 }},
		{"long attest", "attest of 1025", func(b *Bundle) { b.Quote.Attest = make([]byte, MaxAttest+1) }},
		{"long register", "register", func(b *Bundle) { b.Register = &Register{Certified: Certification{Attest: make([]byte, MaxAttest+1)}} }},
		{"long register tail", "tail of 2097184 bytes", func(b *Bundle) { b.Register = &Register{Tail: make(Bytes, (MaxRegister+1)*32)} }},
		{"half a hash in the register", "tail of 33 bytes", func(b *Bundle) { b.Register = &Register{Tail: make(Bytes, 33)} }},
		{"long banks", "banks", func(b *Bundle) { b.Banks = &Banks{Response: make([]byte, MaxAttest+1)} }},
		{"long signature over banks", "banks", func(b *Bundle) { b.Banks = &Banks{Certified: Certification{Signature: make([]byte, MaxSignature+1)}} }},
		{"long boot log", "boot log", func(b *Bundle) { b.BootLog = make([]byte, MaxBootLog+1) }},
		{"long os log", "os log", func(b *Bundle) { b.OSLog = make([]byte, MaxOSLog+1) }},
		{"PCR twice", "PCR 0 after PCR 0", func(b *Bundle) { b.Quote.PCRs[1].Index = 0 }},
		{"PCRs descending", "PCR 0 after PCR 1", func(b *Bundle) { b.Quote.PCRs[0], b.Quote.PCRs[1] = b.Quote.PCRs[1], b.Quote.PCRs[0] }},
		{"request twice", "number 0 after 0", func(b *Bundle) { b.Requests[1].Index = 0; b.Closing[1].Index = 0 }},
		{"closing missing", "1 looks for 2", func(b *Bundle) { b.Closing = b.Closing[:1] }},
		{"closing for another", "look 1 is for request 5", func(b *Bundle) { b.Closing[1].Index = 5 }},
		{"long proof", "array of 65 items", func(b *Bundle) { b.Requests[0].Proof = make(Proof, MaxProof+1) }},
		{"long consistency", "array of 65 items", func(b *Bundle) { b.Consistency.Proof = make(Proof, MaxProof+1) }},
		{"trailing byte in header", "malformed header", func(b *Bundle) { b.RawHeader = append(b.RawHeader, 0) }},
		{"header version", "version 2", func(b *Bundle) { b.Header.Version = 2; b.RawHeader = b.Header.Marshal() }},
		{"header boot id", "boot id of 15", func(b *Bundle) { b.Header.BootID = make([]byte, 15); b.RawHeader = b.Header.Marshal() }},
		{"header batch", "counts 0 requests", func(b *Bundle) { b.Header.Batch = 0; b.RawHeader = b.Header.Marshal() }},
		{"long header", "at most 2048", func(b *Bundle) { b.RawHeader = make([]byte, MaxHeader+1) }},
		{"checkpoint version", "checkpoint version 0", func(b *Bundle) { b.Checkpoint.Version = 0; b.RawChk = b.Checkpoint.Marshal() }},
		{"checkpoint boot id", "boot id of 17", func(b *Bundle) { b.Checkpoint.BootID = make([]byte, 17); b.RawChk = b.Checkpoint.Marshal() }},
		{"request version", "request version 9", func(b *Bundle) { b.Requests[0].Value.Version = 9; b.Requests[0].Raw = b.Requests[0].Value.Marshal() }},
		{"request of another challenge", "another challenge", func(b *Bundle) {
			b.Requests[1].Value.Nonce = make([]byte, 56)
			b.Requests[1].Raw = b.Requests[1].Value.Marshal()
		}},
		{"bearer with a key", "confirmation method", func(b *Bundle) {
			b.Requests[0].Value.Confirm.Method = ConfirmBearer
			b.Requests[0].Raw = b.Requests[0].Value.Marshal()
		}},
		{"too many actions", "array of 33 items", func(b *Bundle) {
			b.Requests[0].Value.Actions = make([]string, MaxActions+1)
			b.Requests[0].Raw = b.Requests[0].Value.Marshal()
		}},
		{"entry with two bodies", "wrong body", func(b *Bundle) {
			b.Entries[0].Value.Exit = &Exit{}
			b.Entries[0].Raw = mustEncode(b.Entries[0].Value, (*Entry).wire)
		}},
		{"entry without its instance", "no process instance", func(b *Bundle) {
			b.Entries[0].Value.Instance = nil
			b.Entries[0].Raw = mustEncode(b.Entries[0].Value, (*Entry).wire)
		}},
		{"entry of no kind", "unknown entry kind", func(b *Bundle) {
			b.Entries[0].Value.Kind = 99
			b.Entries[0].Raw = mustEncode(b.Entries[0].Value, (*Entry).wire)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := sampleBundle(t, 2)
			c.change(b)
			data, err := b.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(data)
			var format *FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a format error with %q", err, c.want)
			}
		})
	}
}

// TestCanonicalForm takes good bytes and says the same in another way.
func TestCanonicalForm(t *testing.T) {
	good, err := sampleBundle(t, 1).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var raw map[int64]cbor.RawMessage
	if err := cbor.Unmarshal(good, &raw); err != nil {
		t.Fatal(err)
	}
	rebuild := func(mode cbor.EncOptions, change func(map[int64]cbor.RawMessage)) []byte {
		m := make(map[int64]cbor.RawMessage)
		for k, v := range raw {
			m[k] = v
		}
		change(m)
		e, err := mode.EncMode()
		if err != nil {
			t.Fatal(err)
		}
		out, err := e.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	core := cbor.CoreDetEncOptions()
	if same := rebuild(core, func(map[int64]cbor.RawMessage) {}); !bytes.Equal(same, good) {
		t.Fatal("rebuilding the claims changed them; the cases below would prove nothing")
	}
	cases := map[string][]byte{
		"empty":         {},
		"truncated":     good[:len(good)-1],
		"trailing":      append(bytes.Clone(good), 0),
		"tagged":        append([]byte{0xd9, 0x02, 0x59}, good...),
		"claim missing": rebuild(core, func(m map[int64]cbor.RawMessage) { delete(m, -70003) }),
		"claim unknown": rebuild(core, func(m map[int64]cbor.RawMessage) { m[-70099] = cbor.RawMessage{0} }),
		"other profile": rebuild(core, func(m map[int64]cbor.RawMessage) { m[265] = cbor.RawMessage("\x61x") }),
		"long integer":  bytes.Replace(good, []byte{0x0a, 0x58, 56}, []byte{0x18, 0x0a, 0x58, 56}, 1),
		"null for none": rebuild(core, func(m map[int64]cbor.RawMessage) { m[-70008] = cbor.RawMessage{0xf6} }),
		"indefinite":    append(append([]byte{0xbf}, good[1:]...), 0xff),
		"other order":   swapFirstClaims(t, good),
		"duplicate key": duplicateFirstClaim(t, good),
		"oversized":     make([]byte, MaxBundle+1),
	}
	for name, data := range cases {
		if bytes.Equal(data, good) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := Parse(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// claims returns the encoded key-value pairs of a bundle, in order.
func claims(t *testing.T, data []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for rest := data[1:]; len(rest) > 0; {
		var k, v cbor.RawMessage
		after, err := cbor.UnmarshalFirst(rest, &k)
		if err != nil {
			t.Fatal(err)
		}
		if after, err = cbor.UnmarshalFirst(after, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, rest[:len(rest)-len(after)])
		rest = after
	}
	return out
}

func swapFirstClaims(t *testing.T, data []byte) []byte {
	c := claims(t, data)
	c[0], c[1] = c[1], c[0]
	return append([]byte{data[0]}, bytes.Join(c, nil)...)
}

func duplicateFirstClaim(t *testing.T, data []byte) []byte {
	c := claims(t, data)
	return append([]byte{data[0] + 1}, bytes.Join(append(c[:1:1], c...), nil)...)
}

func TestValueRefusesUnset(t *testing.T) {
	if _, err := Marshal(Value[string]{}); err == nil {
		t.Error("a field that was never set was encoded")
	}
	for _, bad := range []any{[]any{0}, []any{1, ""}, []any{2, "x", []string{}}, []any{3, "x"}, []any{0, "x", "y"}, []any{1}, "x"} {
		data, err := Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		var v Value[string]
		if err := Unmarshal(data, &v); err == nil {
			t.Errorf("accepted %v", bad)
		}
	}
}

// TestTreeAgainstTlog holds our tree, proofs and checks against the Go
// checksum database's on random sizes.
func TestTreeAgainstTlog(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var hashes []Hash
	tree := NewTree(func(at []int64) ([]Hash, error) {
		out := make([]Hash, len(at))
		for i, x := range at {
			out[i] = hashes[x]
		}
		return out, nil
	})
	var roots []Hash
	var leaves []Hash
	for i := range uint64(200) {
		data := binary.BigEndian.AppendUint64(nil, rng.Uint64())
		leaves = append(leaves, LeafHash(data))
		if leaves[i] != Hash(tlog.RecordHash(data)) {
			t.Fatal("leaf hash differs")
		}
		add, err := tree.StoredHashes(i, leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(hashes)) != StoredHashCount(i) {
			t.Fatalf("%d hashes stored for %d leaves", len(hashes), i)
		}
		hashes = append(hashes, add...)
		root, err := tree.Root(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	for range 500 {
		size := rng.Uint64N(200) + 1
		index := rng.Uint64N(size)
		p, err := tree.Inclusion(size, index)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckInclusion(p, size, roots[size-1], index, leaves[index]); err != nil {
			t.Fatal(err)
		}
		if other := (index + 1) % size; other != index && CheckInclusion(p, size, roots[size-1], other, leaves[index]) == nil {
			t.Fatalf("leaf %d of %d also proves as %d", index, size, other)
		}
		old := rng.Uint64N(size + 1)
		if p, err = tree.Consistency(size, old); err != nil {
			t.Fatal(err)
		}
		oldRoot := Hash{}
		if old > 0 {
			oldRoot = roots[old-1]
		}
		if err := CheckConsistency(p, size, roots[size-1], old, oldRoot); err != nil {
			t.Fatal(err)
		}
		if old > 0 {
			oldRoot[0] ^= 1
			if CheckConsistency(p, size, roots[size-1], old, oldRoot) == nil {
				t.Fatal("a forked log proved consistent")
			}
		}
	}
	for _, bad := range []struct{ size, index uint64 }{{0, 0}, {1, 1}, {1 << 63, 0}, {^uint64(0), 5}} {
		if CheckInclusion(nil, bad.size, Hash{}, bad.index, Hash{}) == nil {
			t.Errorf("leaf %d of %d proved", bad.index, bad.size)
		}
	}
	if CheckConsistency(nil, 3, Hash{}, 5, Hash{}) == nil || CheckConsistency(Proof{{}}, 3, Hash{}, 0, Hash{}) == nil {
		t.Error("a shrinking log or a needless proof was accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []int{1, 3} {
		data, err := sampleBundle(f, n).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			return
		}
		again, err := b.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("parsed what it would not write (%v)", err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 100} {
		data, err := sampleBundle(b, n).Marshal()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
