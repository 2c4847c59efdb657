// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/jurat-dev/jurat/evidence"
)

// MaxCheckpoint bounds a checkpoint with all its signatures, in bytes.
const MaxCheckpoint = 16 << 10

// Checkpoint is the end of a log as somebody signed it (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   evidence.Hash
}

// Origin returns the name of the log of the broker with the given issuer URL:
// "jurat.dev/log/", its host, with the port if there is one, and its path.
func Origin(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("issuer %q names no host", issuer)
	}
	origin := "jurat.dev/log/" + u.Host + strings.TrimSuffix(u.Path, "/")
	if err := checkOrigin(origin); err != nil {
		return "", err
	}
	return origin, nil
}

// checkOrigin accepts what a note takes as a key name.
func checkOrigin(origin string) error {
	if origin == "" || strings.Contains(origin, "+") || checkWord(origin, MaxName) != nil {
		return fmt.Errorf("malformed origin %q", origin)
	}
	return nil
}

// Text returns the three lines that are signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// parseCheckpointText reads what Text wrote, and nothing else: no extension
// lines, no leading zero.
func parseCheckpointText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("malformed checkpoint: %d lines, want 3", len(lines)-1)
	}
	size, err := strconv.ParseUint(lines[1], 10, 62)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("malformed checkpoint: size %q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(evidence.Hash{}) {
		return Checkpoint{}, fmt.Errorf("malformed checkpoint: root hash %q", lines[2])
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: evidence.Hash(root)}
	if c.Text() != text {
		return Checkpoint{}, fmt.Errorf("malformed checkpoint: not in its plain form")
	}
	return c, checkOrigin(c.Origin)
}

// Verifier knows one log: its origin and its key.
type Verifier struct {
	origin string
	note   note.Verifier
}

// NewVerifier returns the verifier for a key in the form of package note,
// "origin+hash+key". The name of the key is the origin of its log.
func NewVerifier(vkey string) (*Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("log key %q: %v", vkey, err)
	}
	if err := checkOrigin(v.Name()); err != nil {
		return nil, err
	}
	return &Verifier{origin: v.Name(), note: v}, nil
}

// Origin returns the name of the log.
func (v *Verifier) Origin() string { return v.origin }

// Open returns what checkpoint says, if this log's key signed it. Signatures
// of others, such as witnesses, are not looked at.
func (v *Verifier) Open(checkpoint []byte) (Checkpoint, error) {
	if len(checkpoint) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, at most %d", len(checkpoint), MaxCheckpoint)
	}
	n, err := note.Open(checkpoint, note.VerifierList(v.note))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %v", err)
	}
	c, err := parseCheckpointText(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.origin {
		return Checkpoint{}, fmt.Errorf("checkpoint of log %q, want %q", c.Origin, v.origin)
	}
	return c, nil
}

// Signer signs checkpoints of one log.
type Signer struct {
	*Verifier
	vkey string
	key  ed25519.PrivateKey
}

// NewSigner returns the signer of the log origin with an Ed25519 key. It must
// be a key for nothing else.
func NewSigner(origin string, key ed25519.PrivateKey) (*Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("log key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	v, err := NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &Signer{Verifier: v, vkey: vkey, key: key}, nil
}

// VerifierKey returns the public key in the form of package note, for
// [NewVerifier] and every other reader of notes.
func (s *Signer) VerifierKey() string { return s.vkey }

// Checkpoint returns the signed checkpoint of the log at size.
//
//	Ed25519(origin "\n" size "\n" base64(root) "\n")
func (s *Signer) Checkpoint(size uint64, root evidence.Hash) ([]byte, error) {
	c := Checkpoint{Origin: s.origin, Size: size, Root: root}
	return note.Sign(&note.Note{Text: c.Text()}, noteSigner{s})
}

// noteSigner gives package note the three things it asks for.
type noteSigner struct{ s *Signer }

func (n noteSigner) Name() string    { return n.s.origin }
func (n noteSigner) KeyHash() uint32 { return n.s.note.KeyHash() }
func (n noteSigner) Sign(msg []byte) ([]byte, error) {
	return ed25519.Sign(n.s.key, msg), nil
}
