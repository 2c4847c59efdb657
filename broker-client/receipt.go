// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package brokerclient

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/go-jose/go-jose/v4/json"
	"golang.org/x/mod/sumdb/note"

	"github.com/jurat-dev/jurat/evidence"
)

// Witness holds the broker to its transparency log: every token must come with
// a receipt that puts the decision behind it into a log which only grows.
type Witness struct {
	origin   string
	verifier note.Verifier

	mu   sync.Mutex // guards what follows
	head Head
}

// Head is the largest log the witness has seen.
type Head struct {
	Size uint64
	Root evidence.Hash
	Note string // the signed checkpoint
}

// NewWitness returns a witness for the log of that origin and verifier key,
// which goes on from the signed checkpoint last seen; empty: none.
func NewWitness(origin, key, last string) (*Witness, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("the broker's log key: %v", err)
	}
	w := &Witness{origin: origin, verifier: verifier}
	if last != "" {
		if w.head, err = w.open(last); err != nil {
			return nil, fmt.Errorf("the broker checkpoint last seen: %v", err)
		}
	}
	return w, nil
}

// Head returns the largest log seen up to now. Taken before a question is
// asked, it is what the answer's log must not be smaller than; answers to
// questions asked at the same time may come in any order.
func (w *Witness) Head() Head {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head
}

// Check reports why the receipt of a token is not acceptable: it is not
// signed by the log, the log shrank below before, forked, or does not hold the
// token's entry.
func (w *Witness) Check(token *Token, before Head) error {
	p, err := parseReceipt(token.Receipt)
	if err != nil {
		return fmt.Errorf("receipt: %v", err)
	}
	head, err := w.open(p.checkpoint)
	if err != nil {
		return fmt.Errorf("receipt: %v", err)
	}
	entry, err := logEntry(token.Access)
	if err != nil {
		return fmt.Errorf("receipt: %v", err)
	}
	switch {
	case entry.Origin != w.origin:
		return fmt.Errorf("token names log %q, want %q", entry.Origin, w.origin)
	case entry.Index != p.index:
		return fmt.Errorf("token is entry %d of the log, its receipt is for %d", entry.Index, p.index)
	case head.Size < before.Size:
		return fmt.Errorf("the broker's log shrank: %d entries after %d", head.Size, before.Size)
	}
	var leaf evidence.Hash
	if err := leaf.UnmarshalText([]byte(strings.TrimPrefix(entry.Leaf, "sha-256:"))); err != nil {
		return fmt.Errorf("token's log leaf: %v", err)
	}
	if err := evidence.CheckInclusion(p.proof, head.Size, head.Root, p.index, leaf); err != nil {
		return fmt.Errorf("token's entry is not in the broker's log: %v", err)
	}
	return w.advance(head)
}

func (w *Witness) advance(head Head) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if head.Size == w.head.Size && head.Root != w.head.Root {
		return fmt.Errorf("the broker's log forked: two roots at %d entries, %s and %s", head.Size, w.head.Root, head.Root)
	}
	if head.Size > w.head.Size {
		w.head = head
	}
	return nil
}

// open checks the signature of a checkpoint (c2sp.org/tlog-checkpoint).
func (w *Witness) open(signed string) (Head, error) {
	n, err := note.Open([]byte(signed), note.VerifierList(w.verifier))
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: %v", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != w.origin {
		return Head{}, fmt.Errorf("checkpoint of log %q, want %q", lines[0], w.origin)
	}
	size, err := parseDecimal(lines[1])
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Head{}, fmt.Errorf("checkpoint: %v", err)
	}
	return Head{Size: size, Root: root, Note: signed}, nil
}

type receipt struct {
	index      uint64
	proof      evidence.Proof
	checkpoint string
}

const receiptHeader = "c2sp.org/tlog-proof@v1\n"

// parseReceipt reads a c2sp.org/tlog-proof: header, optional extra line,
// index, hashes, an empty line, the signed checkpoint.
func parseReceipt(text string) (*receipt, error) {
	body, ok := strings.CutPrefix(text, receiptHeader)
	if !ok {
		return nil, fmt.Errorf("does not begin with %q", receiptHeader)
	}
	proof, checkpoint, ok := strings.Cut(body, "\n\n")
	if !ok {
		return nil, fmt.Errorf("no checkpoint behind the proof")
	}
	lines := strings.Split(proof, "\n")
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || len(lines) > 1+evidence.MaxProof {
		return nil, fmt.Errorf("proof of %d lines", len(lines))
	}
	number, ok := strings.CutPrefix(lines[0], "index ")
	index, err := parseDecimal(number)
	if !ok || err != nil {
		return nil, fmt.Errorf("no index in %q", lines[0])
	}
	r := &receipt{index: index, checkpoint: checkpoint}
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return nil, err
		}
		r.proof = append(r.proof, h)
	}
	return r, nil
}

func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err == nil && strconv.FormatUint(n, 10) != s {
		err = strconv.ErrSyntax
	}
	return n, err
}

func parseHash(s string) (evidence.Hash, error) {
	var h evidence.Hash
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("malformed hash %q", s)
	}
	copy(h[:], raw)
	return h, nil
}

type logClaim struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index"`
	Leaf   string `json:"leaf"`
}

// logEntry reads where the token says its decision is logged. The token's
// signature is for its resource to check; here the broker is held to its word.
func logEntry(token string) (logClaim, error) {
	var claims struct {
		Log logClaim `json:"log"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims.Log, fmt.Errorf("token is not a compact JWS")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims.Log, fmt.Errorf("token's payload is not base64url")
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return claims.Log, fmt.Errorf("token's payload: %v", err)
	}
	return claims.Log, nil
}
