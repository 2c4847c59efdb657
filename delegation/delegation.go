// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/jurat-dev/jurat/evidence"
)

// Version is the only version of delegations there is.
const Version = 1

// Type is the type word of every delegation.
const Type = "jurat-delegation"

// What one use is (Limits.Per).
const (
	PerCredential = "credential" // every issued credential
	PerInstance   = "instance"   // every process instance; its refreshes are free
)

// Delegation is the object D (spec/broker-api.md, delegation): what a human is
// asked to allow. Every field is signed.
type Delegation struct {
	_           struct{}       `cbor:",toarray"`
	Version     uint64         `json:"v"`
	Type        string         `json:"typ"`
	ID          string         `json:"id"`        // "dlg_" and 26 characters, see NewID
	Broker      string         `json:"broker"`    // issuer URL of the one broker that may issue on it
	Requester   string         `json:"requester"` // SPIFFE ID of who asked
	Workload    Workload       `json:"workload"`
	Approver    Person         `json:"approver"` // the human who delegates
	Purpose     string         `json:"purpose"`  // their words, for people; nothing parses it
	Actions     []string       `json:"actions"`  // sorted, unique, at least one
	Audience    string         `json:"audience"` // the one system
	Limits      Limits         `json:"limits"`
	NotBefore   uint64         `json:"not_before"` // seconds since 1970
	Expires     uint64         `json:"expires"`    // seconds since 1970; at this second it is over
	Uses        uint64         `json:"uses"`
	FourEyes    uint64         `json:"four_eyes"`    // how many persons must approve, the approver among them
	RequestedAt uint64         `json:"requested_at"` // seconds since 1970
	Nonce       evidence.Bytes `json:"nonce"`        // 16 random bytes
}

// Workload is who may use the delegation, and the least it must prove.
type Workload struct {
	_      struct{}        `cbor:",toarray"`
	ID     string          `json:"id"`         // SPIFFE ID
	Code   []evidence.Hash `json:"code_ref"`   // digests of the executable; empty: as the workload is registered
	Models []evidence.Hash `json:"model_ref"`  // digests of model files; empty: as the workload is registered
	Levels Levels          `json:"min_levels"` // at least these
}

// Person is a human as somebody names them.
type Person struct {
	_       struct{} `cbor:",toarray"`
	Issuer  string   `json:"iss"` // URL of who knows them; the broker itself for registered ssh keys
	Subject string   `json:"sub"`
}

// String returns the person's name and who knows them by it.
func (p Person) String() string { return p.Subject + " (" + p.Issuer + ")" }

// Limits narrow what one credential may be.
type Limits struct {
	_          struct{} `cbor:",toarray"`
	Datatypes  []string `json:"datatypes"`  // sorted, unique; empty: none may be asked for
	Per        string   `json:"per"`        // what one use is: PerCredential or PerInstance
	Credential uint64   `json:"credential"` // seconds one credential may live at most; 0: the broker's rule
}

// New returns o in canonical form with its encoding: version and type set,
// lists sorted, the purpose in NFC. It refuses what cannot be approved.
func New(o Delegation) (*Delegation, []byte, error) {
	o.Version, o.Type = Version, Type
	o.Purpose = norm.NFC.String(o.Purpose)
	o.Actions = sorted(o.Actions, strings.Compare)
	o.Limits.Datatypes = sorted(o.Limits.Datatypes, strings.Compare)
	o.Workload.Code = sorted(o.Workload.Code, compareHash)
	o.Workload.Models = sorted(o.Workload.Models, compareHash)
	o.Nonce = slices.Clone(o.Nonce)
	enc, err := o.Marshal()
	if err != nil {
		return nil, nil, err
	}
	return &o, enc, nil
}

// Marshal returns enc(D): what an approval signs.
func (o *Delegation) Marshal() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return evidence.Marshal(o)
}

// Parse decodes one delegation in canonical form. What it returns is well
// formed; whether anybody approved it is for [Verify] to say.
func Parse(enc []byte) (*Delegation, error) {
	if len(enc) > MaxObject {
		return nil, fmt.Errorf("delegation of %d bytes, at most %d", len(enc), MaxObject)
	}
	o := new(Delegation)
	if err := evidence.Unmarshal(enc, o); err != nil {
		return nil, fmt.Errorf("malformed delegation: %v", err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	return o, nil
}

// Digest returns the content hash that names a delegation everywhere.
//
//	d = SHA-256("jurat/delegation/v1\0" || enc(D))
func Digest(enc []byte) evidence.Hash {
	h := sha256.New()
	h.Write([]byte("jurat/delegation/v1\x00"))
	h.Write(enc)
	var d evidence.Hash
	h.Sum(d[:0])
	return d
}

// Text returns d as it stands in a subject_token: 43 characters of base64url.
func Text(d evidence.Hash) string { return base64.RawURLEncoding.EncodeToString(d[:]) }

// ParseText reads what [Text] wrote, and nothing else.
func ParseText(text string) (evidence.Hash, error) {
	var d evidence.Hash
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(d) || len(text) != base64.RawURLEncoding.EncodedLen(len(d)) {
		return d, fmt.Errorf("malformed delegation digest: want 43 characters of base64url, have %d", len(text))
	}
	return evidence.Hash(b), nil
}

const idPrefix = "dlg_"

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns a fresh delegation id: "dlg_" and 16 random bytes in
// lower-case base32 without look-alike letters.
func NewID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("reading randomness: %w", err)
	}
	return idPrefix + idEncoding.EncodeToString(b[:]), nil
}

func sorted[T comparable](list []T, compare func(a, b T) int) []T {
	out := slices.Clone(list)
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func compareHash(a, b evidence.Hash) int { return slices.Compare(a[:], b[:]) }
