// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

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
