// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/jurat-dev/jurat/evidence"
)

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
