// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jurat-dev/jurat/evidence"
)

const origin = "jurat.dev/log/broker.example"

func signer(t testing.TB, name string, seed byte) *Signer {
	t.Helper()
	key := make([]byte, ed25519.SeedSize)
	key[0] = seed
	s, err := NewSigner(name, ed25519.NewKeyFromSeed(key))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample has something in every field.
func sample() *Entry {
	h := func(b byte) evidence.Bytes { return bytes.Repeat([]byte{b}, 32) }
	return &Entry{Version: Version, Type: TypeDecision, Time: 1795435200123, Txn: "01JD0000000000000000000000", PrevTxn: "01JC0000000000000000000000", Decision: "deny",
		Agent: "spiffe://example/agents/invoice", Host: "spiffe://example/host/h17", Instance: "4711:99812:3", Human: h(1), Target: "invoice",
		Audience: "https://payments.example", Actions: []string{"invoice.read"}, Failed: []Failure{{Attestor: "code", Check: "exe-digest"}}, FailedMore: 1,
		Attestors: Vector{Hardware: 2, Boot: 2, Code: 96, Provenance: 0, Context: 32}, Policy: h(2), Refs: h(3), DelegationID: "dlg_0123456789abcdefghjkmnpqr0",
		D: h(4), Evidence: h(5), JTI: h(6), Material: h(7)}
}

func vector(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEntryVector(t *testing.T) {
	data, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x\n", data), vector(t, "entry.hex"); got != want {
		t.Errorf("entry is\n%swant\n%s", got, want)
	}
	e, err := ParseEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.Marshal(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("written again: %v", err)
	}
	for n := range data {
		if _, err := ParseEntry(data[:n]); err == nil {
			t.Errorf("the first %d bytes were parsed", n)
		}
	}
	if _, err := ParseEntry(append(bytes.Clone(data), 0)); err == nil {
		t.Error("a trailing byte was parsed")
	}
	if data[0] != 0x97 {
		t.Fatalf("the entry is no array of 23, but %#x: the next test tests nothing", data[0])
	}
	if _, err := ParseEntry(append([]byte{0x98, 23}, data[1:]...)); err == nil {
		t.Error("an array with a long head was parsed")
	}
}

// What is too large is refused before anything looks into it.
func TestCaps(t *testing.T) {
	s := signer(t, origin, 1)
	for name, err := range map[string]error{
		"entry":      second(ParseEntry(make([]byte, MaxEntry+1))),
		"checkpoint": second(s.Open(make([]byte, MaxCheckpoint+1))),
		"receipt":    second(ParseReceipt(make([]byte, MaxReceipt+1))),
		"hashes":     second(ParseReceipt([]byte(receiptHeader + "\nindex 0\n" + strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", evidence.MaxProof+1) + "\n"))),
	} {
		if err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// full is the largest entry that the caps of the fields allow.
func full() *Entry {
	e := sample()
	word := func(n int) string { return strings.Repeat("w", n) }
	e.Time, e.FailedMore = 1<<64-1, 1<<64-1
	e.Txn, e.PrevTxn, e.Decision = word(MaxWord), word(MaxWord), word(MaxWord)
	e.Agent, e.Host, e.Target, e.Audience = word(MaxName), word(MaxName), word(MaxName), word(MaxName)
	e.Instance, e.DelegationID, e.Type = word(MaxProcess), word(MaxID), TypeDelegation
	e.Actions = slices.Repeat([]string{word(MaxAction)}, MaxActions)
	e.Failed = slices.Repeat([]Failure{{Attestor: word(MaxWord), Check: word(MaxWord)}}, MaxFailed)
	return e
}

func TestFullEntryFits(t *testing.T) {
	data, err := full().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > MaxEntry {
		t.Errorf("an entry within the caps of its fields has %d bytes, at most %d", len(data), MaxEntry)
	}
	t.Logf("the largest entry has %d of %d bytes", len(data), MaxEntry)
}

func TestEntryRefuses(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"version":            func(e *Entry) { e.Version = 2 },
		"type":               func(e *Entry) { e.Type = "gossip" },
		"no type":            func(e *Entry) { e.Type = "" },
		"no time":            func(e *Entry) { e.Time = 0 },
		"no txn":             func(e *Entry) { e.Txn = "" },
		"undecided decision": func(e *Entry) { e.Decision = "" },
		"sentence":           func(e *Entry) { e.Decision = "was fine" },
		"long txn":           func(e *Entry) { e.Txn = strings.Repeat("x", MaxWord+1) },
		"long prev_txn":      func(e *Entry) { e.PrevTxn = strings.Repeat("x", MaxWord+1) },
		"long agent":         func(e *Entry) { e.Agent = strings.Repeat("x", MaxName+1) },
		"host":               func(e *Entry) { e.Host = "a\nb" },
		"instance":           func(e *Entry) { e.Instance = "a\x1bb" },
		"target":             func(e *Entry) { e.Target = "caf\u00e9" },
		"audience":           func(e *Entry) { e.Audience = "<b>" },
		"delegation id":      func(e *Entry) { e.DelegationID = strings.Repeat("x", MaxID+1) },
		"empty action":       func(e *Entry) { e.Actions = []string{""} },
		"action of words":    func(e *Entry) { e.Actions = []string{"a b"} },
		"long action":        func(e *Entry) { e.Actions = []string{strings.Repeat("x", MaxAction+1)} },
		"many actions":       func(e *Entry) { e.Actions = slices.Repeat([]string{"a"}, MaxActions+1) },
		"many failures":      func(e *Entry) { e.Failed = make([]Failure, MaxFailed+1) },
		"failure of words":   func(e *Entry) { e.Failed = []Failure{{Attestor: "code", Check: "exe digest"}} },
		"failed attestor":    func(e *Entry) { e.Failed = []Failure{{Attestor: "\x00", Check: "x"}} },
		"human":              func(e *Entry) { e.Human = []byte("alice@example.test") },
		"policy":             func(e *Entry) { e.Policy = make([]byte, 31) },
		"refs":               func(e *Entry) { e.Refs = make([]byte, 33) },
		"d":                  func(e *Entry) { e.D = []byte{1} },
		"evidence":           func(e *Entry) { e.Evidence = []byte{1} },
		"jti":                func(e *Entry) { e.JTI = []byte("a token in the log") },
		"material":           func(e *Entry) { e.Material = []byte{1} },
	} {
		e := sample()
		change(e)
		if _, err := e.Marshal(); err == nil {
			t.Errorf("%s: written", name)
		}
		raw, err := evidence.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseEntry(raw); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := ParseEntry(make([]byte, MaxEntry+1)); err == nil {
		t.Error("an entry above the cap was parsed")
	}
}

// Whatever a stranger asks for, the refusal can be logged.
func FuzzFit(f *testing.F) {
	f.Add("invoice.read", "https://a.example", "4711:1:2", 3, 9)
	f.Add("a b", "\x00", strings.Repeat("x", 500), 40, 0)
	f.Fuzz(func(t *testing.T, action, audience, instance string, actions, failed int) {
		e := sample()
		e.Audience, e.Instance, e.Target, e.DelegationID, e.Agent, e.Host = audience, instance, audience, instance, audience, instance
		e.Actions = slices.Repeat([]string{action, "good"}, min(max(actions, 0), 200))
		e.Failed = slices.Repeat(e.Failed, min(max(failed, 0), 200))
		before := uint64(len(e.Failed)) + e.FailedMore
		e.Fit()
		if _, err := e.Marshal(); err != nil {
			t.Fatal(err)
		}
		if uint64(len(e.Failed))+e.FailedMore != before {
			t.Fatal("a failed check is neither listed nor counted")
		}
		if actions > 0 && !slices.Contains(e.Actions, "good") {
			t.Fatal("a good action went with the bad ones")
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	data, err := sample().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEntry(data)
		if err != nil {
			return
		}
		if again, err := e.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("written as %x: %v", again, err)
		}
	})
}

func TestOrigin(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://broker.example": origin, "https://broker.example/": origin, "https://broker.example/tenant": origin + "/tenant", "http://127.0.0.1:8443": "jurat.dev/log/127.0.0.1:8443",
	} {
		if got, err := Origin(issuer); err != nil || got != want {
			t.Errorf("%s: %q %v", issuer, got, err)
		}
	}
	for _, bad := range []string{"", "broker.example", "https://", "https://a+b.example", "https://a b", "https://caf\u00e9.example", "https://a.example/x+y"} {
		if got, err := Origin(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	s := signer(t, origin, 1)
	root := evidence.Hash(sha256.Sum256([]byte("root")))
	text, err := s.Checkpoint(48214, root)
	if err != nil {
		t.Fatal(err)
	}
	if want := vector(t, "checkpoint.txt"); string(text) != want {
		t.Errorf("checkpoint is\n%swant\n%s", text, want)
	}
	v, err := NewVerifier(s.VerifierKey())
	if err != nil || v.Origin() != origin {
		t.Fatal(v, err)
	}
	want := Checkpoint{Origin: origin, Size: 48214, Root: root}
	if c, err := v.Open(text); err != nil || c != want {
		t.Errorf("%+v: %v", c, err)
	}
	// A witness adds its line; the log's word is the same.
	witness := signer(t, "witness.example", 2)
	n, err := note.Open(text, note.VerifierList(v.note))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, noteSigner{witness})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := v.Open(both); err != nil || c != want {
		t.Errorf("with a witness: %+v: %v", c, err)
	}
	if c, err := witness.Open(both); err == nil {
		t.Errorf("the witness speaks for the log: %+v", c)
	}
	for at := range text {
		for _, bit := range []byte{1, 2, 32} {
			bad := bytes.Clone(text)
			bad[at] ^= bit
			if c, err := v.Open(bad); err == nil && c != want {
				t.Errorf("byte %d makes it %+v", at, c)
			}
		}
	}
}

func TestCheckpointRefuses(t *testing.T) {
	s := signer(t, origin, 1)
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	signed := func(by *Signer, text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, noteSigner{by})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := origin + "\n1\n" + root + "\n"
	if _, err := s.Open(signed(s, good)); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"unsigned":           []byte(good),
		"another key":        signed(signer(t, origin, 2), good),
		"another name":       signed(signer(t, "other.example", 1), good),
		"another log":        signed(s, "other.example\n1\n"+root+"\n"),
		"extension line":     signed(s, good+"extra\n"),
		"two lines":          signed(s, origin+"\n1\n"),
		"one line":           signed(s, origin+"\n"),
		"leading zero":       signed(s, origin+"\n01\n"+root+"\n"),
		"plus sign":          signed(s, origin+"\n+1\n"+root+"\n"),
		"negative":           signed(s, origin+"\n-1\n"+root+"\n"),
		"no number":          signed(s, origin+"\nx\n"+root+"\n"),
		"number above 2^62":  signed(s, origin+"\n4611686018427387904\n"+root+"\n"),
		"short root":         signed(s, origin+"\n1\n"+root[4:]+"\n"),
		"root in base64url":  signed(s, origin+"\n1\n"+strings.Repeat("_", 43)+"=\n"),
		"root with loose":    signed(s, origin+"\n1\n"+root[:42]+"B=\n"),
		"too large":          signed(s, good+strings.Repeat("x\n", MaxCheckpoint)),
		"something after it": append(signed(s, good), "more\n"...),
	} {
		if c, err := s.Open(b); err == nil {
			t.Errorf("%s: opened as %+v", name, c)
		}
	}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	loose, err := note.NewEd25519VerifierKey("a<b", key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.NewVerifier(loose); err != nil {
		t.Fatalf("the library does not take the name: the test tests nothing: %v", err)
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "caf\u00e9"} {
		if _, err := NewSigner(bad, key); err == nil {
			t.Errorf("signer of log %q", bad)
		}
	}
	if _, err := NewSigner(origin, key[:32]); err == nil {
		t.Error("signer with half a key")
	}
	for _, bad := range []string{"", "x", strings.Replace(s.VerifierKey(), "+", "x+", 1), loose} {
		if _, err := NewVerifier(bad); err == nil {
			t.Errorf("verifier with key %q", bad)
		}
	}
}

// tree is a log in memory, made by x/mod alone.
type tree struct {
	hashes []tlog.Hash
	leaves [][]byte
}

func (l *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = l.hashes[at]
	}
	return out, nil
}

func grown(t testing.TB, n int) *tree {
	t.Helper()
	l := &tree{}
	for i := range n {
		leaf := fmt.Appendf(nil, "leaf %d", i)
		h, err := tlog.StoredHashes(int64(i), leaf, l)
		if err != nil {
			t.Fatal(err)
		}
		l.hashes, l.leaves = append(l.hashes, h...), append(l.leaves, leaf)
	}
	return l
}

func (l *tree) root(t testing.TB, n int) evidence.Hash {
	t.Helper()
	h, err := tlog.TreeHash(int64(n), l)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Hash(h)
}

func (l *tree) receipt(t testing.TB, s *Signer, n, index int) []byte {
	t.Helper()
	checkpoint, err := s.Checkpoint(uint64(n), l.root(t, n))
	if err != nil {
		t.Fatal(err)
	}
	p, err := tlog.ProveRecord(int64(n), int64(index), l)
	if err != nil {
		t.Fatal(err)
	}
	r := Receipt{Index: uint64(index), Checkpoint: checkpoint}
	for _, h := range p {
		r.Proof = append(r.Proof, evidence.Hash(h))
	}
	text, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReceipt(t *testing.T) {
	s := signer(t, origin, 1)
	l := grown(t, 20)
	for n := 1; n <= 20; n++ {
		for i := range n {
			text := l.receipt(t, s, n, i)
			if at, c, err := s.VerifyReceipt(text, l.leaves[i]); err != nil || at != uint64(i) || c.Size != uint64(n) {
				t.Fatalf("entry %d of %d: %d %+v %v", i, n, at, c, err)
			}
			if _, _, err := s.VerifyReceipt(text, l.leaves[(i+1)%20]); err == nil {
				t.Errorf("entry %d of %d proves another", i, n)
			}
		}
	}
	text := l.receipt(t, s, 13, 5)
	if want := vector(t, "receipt.tlog-proof"); string(text) != want {
		t.Errorf("receipt is\n%swant\n%s", text, want)
	}
	if _, _, err := signer(t, origin, 2).VerifyReceipt(text, l.leaves[5]); err == nil {
		t.Error("a receipt of another key")
	}
	for at := range text {
		for _, bit := range []byte{1, 4, 32} {
			bad := bytes.Clone(text)
			bad[at] ^= bit
			if i, _, err := s.VerifyReceipt(bad, l.leaves[5]); err == nil && i != 5 {
				t.Errorf("byte %d: proves index %d", at, i)
			}
		}
	}
}

func TestReceiptRefuses(t *testing.T) {
	s := signer(t, origin, 1)
	l := grown(t, 20)
	good := string(l.receipt(t, s, 13, 5))
	hash := strings.Split(good, "\n")[2]
	for name, text := range map[string]string{
		"nothing":            "",
		"another version":    strings.Replace(good, "@v1", "@v2", 1),
		"extra line":         strings.Replace(good, "index", "extra YWJj\nindex", 1),
		"no index":           strings.Replace(good, "index 5\n", "", 1),
		"index with zero":    strings.Replace(good, "index 5", "index 05", 1),
		"index with plus":    strings.Replace(good, "index 5", "index +5", 1),
		"another index":      strings.Replace(good, "index 5", "index 4", 1),
		"index out of tree":  strings.Replace(good, "index 5", "index 13", 1),
		"huge index":         strings.Replace(good, "index 5", "index 9223372036854775808", 1),
		"hash missing":       strings.Replace(good, hash+"\n", "", 1),
		"hash twice":         strings.Replace(good, hash, hash+"\n"+hash, 1),
		"hash in base64url":  strings.Replace(good, hash, strings.Repeat("_", 43)+"=", 1),
		"hash of 31 bytes":   strings.Replace(good, hash, base64.StdEncoding.EncodeToString(make([]byte, 31)), 1),
		"many hashes":        strings.Replace(good, hash, strings.Repeat(hash+"\n", evidence.MaxProof+1)+hash, 1),
		"no empty line":      strings.Replace(good, "\n\n", "\n", 1),
		"CR LF":              strings.ReplaceAll(good, "\n", "\r\n"),
		"no checkpoint":      good[:strings.Index(good, "\n\n")+2],
		"text before":        "hello\n" + good,
		"text after":         good + "hello\n",
		"too large":          good + strings.Repeat("x", MaxReceipt),
		"space after header": strings.Replace(good, "@v1\n", "@v1 \n", 1),
	} {
		if _, _, err := s.VerifyReceipt([]byte(text), l.leaves[5]); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := (Receipt{Proof: make(evidence.Proof, evidence.MaxProof+1)}).Marshal(); err == nil {
		t.Error("a receipt above the cap was written")
	}
	if _, err := (Receipt{Checkpoint: make([]byte, MaxCheckpoint+1)}).Marshal(); err == nil {
		t.Error("a checkpoint above the cap was written")
	}
}

func FuzzParseReceipt(f *testing.F) {
	f.Add(grown(f, 13).receipt(f, signer(f, origin, 1), 13, 5))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReceipt(data)
		if err != nil || len(r.Checkpoint) > MaxCheckpoint {
			return
		}
		if again, err := r.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("written as %q: %v", again, err)
		}
	})
}

func TestConsistency(t *testing.T) {
	l := grown(t, 20)
	at := func(n int) Checkpoint { return Checkpoint{Origin: origin, Size: uint64(n), Root: l.root(t, n)} }
	prove := func(n, m int) (p evidence.Proof) {
		if n == 0 || n == m {
			return nil
		}
		proof, err := tlog.ProveTree(int64(m), int64(n), l)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			p = append(p, evidence.Hash(h))
		}
		return p
	}
	for m := range 21 {
		for n := range m + 1 {
			if err := VerifyConsistency(at(n), at(m), prove(n, m)); err != nil {
				t.Errorf("%d to %d: %v", n, m, err)
			}
			if err := VerifyConsistency(at(n), at(m), append(prove(n, m), evidence.Hash{})); err == nil {
				t.Errorf("%d to %d with one hash more", n, m)
			}
			fork := at(n)
			fork.Root[0] ^= 1
			if err := VerifyConsistency(fork, at(m), prove(n, m)); err == nil && n > 0 {
				t.Errorf("%d to %d of another history", n, m)
			}
		}
	}
	empty := at(0)
	empty.Root[0] ^= 1
	if err := VerifyConsistency(empty, at(0), nil); err == nil {
		t.Error("two empty logs with different roots agree")
	}
	if err := VerifyConsistency(at(5), at(4), nil); err == nil || !strings.Contains(err.Error(), "shrank") {
		t.Errorf("a log may shrink: %v", err)
	}
	other := at(5)
	other.Origin = "other.example"
	if err := VerifyConsistency(other, at(5), nil); err == nil {
		t.Error("checkpoints of two logs agree")
	}
}

func TestPseudonym(t *testing.T) {
	salt := bytes.Repeat([]byte{1}, SaltSize)
	one, err := Pseudonym(salt, "https://a", "b")
	if err != nil || len(one) != 32 {
		t.Fatal(one, err)
	}
	if got, want := fmt.Sprintf("%x", []byte(one)), strings.TrimSpace(vector(t, "pseudonym.hex")); got != want {
		t.Errorf("pseudonym %s, want %s", got, want)
	}
	two, err := Pseudonym(salt, "https://", "ab")
	if err != nil || bytes.Equal(one, two) {
		t.Error("issuer and subject run into each other")
	}
	three, err := Pseudonym(bytes.Repeat([]byte{2}, SaltSize), "https://a", "b")
	if err != nil || bytes.Equal(one, three) {
		t.Error("the salt does not matter")
	}
	if _, err := Pseudonym(nil, "https://a", "b"); err == nil {
		t.Error("a pseudonym without a salt")
	}
}
