// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"
	"slices"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// MethodSSH is the one way of answering there is: an SSH signature.
const MethodSSH = "sshsig"

// BundleType is the type word of every bundle.
const BundleType = "jurat-delegation-bundle"

// Bundle is a delegation with everything anybody answered, byte for byte: what
// an auditor needs to judge it without the broker.
type Bundle struct {
	_       struct{}       `cbor:",toarray"`
	Type    string         `json:"typ"`
	Version uint64         `json:"v"`
	Object  evidence.Bytes `json:"object"` // enc(D)
	Answers []Answer       `json:"answers"`
	Log     []Logged       `json:"log"` // the broker's log about it; for package audit to judge
}

// Answer is one signed answer.
type Answer struct {
	_         struct{}       `cbor:",toarray"`
	Act       Act            `json:"act"`
	Method    string         `json:"method"` // MethodSSH
	Person    Person         `json:"person"`
	At        uint64         `json:"at"`        // seconds since 1970, when the broker took it
	Statement evidence.Bytes `json:"statement"` // empty for an approval
	Signature evidence.Bytes `json:"signature"` // binary; holds the public key
}

// Logged is an entry of the broker's log with its receipt.
type Logged struct {
	_       struct{}       `cbor:",toarray"`
	Entry   evidence.Bytes `json:"entry"`
	Receipt string         `json:"receipt"`
}

// Marshal returns the canonical bytes of b.
func (b *Bundle) Marshal() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	enc, err := evidence.Marshal(b)
	if err == nil && len(enc) > MaxBundle {
		return nil, fmt.Errorf("delegation bundle of %d bytes, at most %d", len(enc), MaxBundle)
	}
	return enc, err
}

// ParseBundle decodes one bundle in canonical form.
func ParseBundle(enc []byte) (*Bundle, error) {
	if len(enc) > MaxBundle {
		return nil, fmt.Errorf("delegation bundle of %d bytes, at most %d", len(enc), MaxBundle)
	}
	b := new(Bundle)
	if err := evidence.Unmarshal(enc, b); err != nil {
		return nil, fmt.Errorf("malformed delegation bundle: %v", err)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Bundle) check() error {
	switch {
	case b.Type != BundleType:
		return fmt.Errorf("delegation bundle of type %q, want %q", b.Type, BundleType)
	case b.Version != Version:
		return fmt.Errorf("delegation bundle version %d, want %d", b.Version, Version)
	case len(b.Answers) > MaxAnswers || len(b.Log) > MaxAnswers:
		return fmt.Errorf("delegation bundle with %d answers and %d log entries, at most %d each", len(b.Answers), len(b.Log), MaxAnswers)
	}
	return nil
}

// State is where a delegation stands by what was signed about it.
type State string

// The states. Uses are not among them: they are counted, not signed.
const (
	Unknown   State = ""
	Requested State = "requested" // not all who must approve have
	Approved  State = "approved"
	Early     State = "early" // approved, and not begun
	Expired   State = "expired"
	Refused   State = "refused"
	Revoked   State = "revoked"
)

// Standing is what the signatures of a bundle prove. Its zero value proves
// nothing.
type Standing struct {
	object    *Delegation
	d         evidence.Hash
	approvals []Given
	refused   []Given
	revoked   []Given
}

// Given is an answer whose signature was verified.
type Given struct {
	Act          Act
	Person       Person
	Key          Key
	UserVerified bool // the key asked for a PIN or finger
	At           time.Time
}

// Verify judges a delegation by its signatures alone. It returns an error if
// anything in b is not what it should be: one bad answer spoils the bundle,
// because whoever put it there cannot be believed about the others.
//
// Each answer must be signed by a key that approvers holds for the person, in
// the namespace of its kind. An approval or refusal is the approver's, or, if
// the delegation wants several persons, of anybody in approvers. A revocation is
// of the approver, or of somebody who approved.
func Verify(b *Bundle, approvers []Approver) (Standing, error) {
	if err := b.check(); err != nil {
		return Standing{}, err
	}
	o, err := Parse(b.Object)
	if err != nil {
		return Standing{}, err
	}
	s := Standing{object: o, d: Digest(b.Object)}
	for i, a := range b.Answers {
		g, err := s.verify(b.Object, a, approvers)
		if err != nil {
			return Standing{}, fmt.Errorf("answer %d, %s of %q: %v", i, a.Act, a.Person.Subject, err)
		}
		if err := s.take(g); err != nil {
			return Standing{}, fmt.Errorf("answer %d: %v", i, err)
		}
	}
	for _, g := range s.revoked {
		if !s.concerns(g.Person) {
			return Standing{}, fmt.Errorf("revocation of %q: neither the approver nor one who approved", g.Person.Subject)
		}
	}
	return s, nil
}

// VerifyAnswer judges one answer about enc(D) before it is kept, as [Verify]
// judges all of them.
func VerifyAnswer(enc []byte, a Answer, approvers []Approver) (Given, error) {
	o, err := Parse(enc)
	if err != nil {
		return Given{}, err
	}
	s := Standing{object: o, d: Digest(enc)}
	return s.verify(enc, a, approvers)
}

func (s *Standing) verify(enc []byte, a Answer, approvers []Approver) (Given, error) {
	if a.Method != MethodSSH {
		return Given{}, fmt.Errorf("unknown method %q", a.Method)
	}
	message := enc
	if a.Act != Approval {
		st, err := ParseStatement(a.Act, a.Statement)
		if err != nil {
			return Given{}, err
		}
		if st.D != s.d {
			return Given{}, fmt.Errorf("statement is about another delegation, %s", Text(st.D))
		}
		message = a.Statement
	} else if len(a.Statement) != 0 {
		return Given{}, fmt.Errorf("approval with a statement of %d bytes", len(a.Statement))
	}
	sig, err := ParseSignature(a.Signature)
	if err != nil {
		return Given{}, err
	}
	if a.At == 0 || a.At > maxTime {
		return Given{}, fmt.Errorf("taken at second %d", a.At)
	}
	if a.Act != Revocation && a.Person != s.object.Approver && s.object.FourEyes < 2 {
		return Given{}, fmt.Errorf("only %s was asked", s.object.Approver)
	}
	at := time.Unix(int64(a.At), 0).UTC()
	key, err := registered(approvers, a.Person, sig.Key(), at)
	if err != nil {
		return Given{}, err
	}
	if err := sig.verify(a.Act, message, key); err != nil {
		return Given{}, err
	}
	return Given{Act: a.Act, Person: a.Person, Key: key, UserVerified: sig.UserVerified(), At: at}, nil
}

// registered returns the key of person equal to key, if there is one at that
// time.
func registered(approvers []Approver, person Person, key Key, at time.Time) (Key, error) {
	for _, a := range approvers {
		if a.Person != person {
			continue
		}
		for _, r := range a.Keys {
			if r.Key.Equal(key) && r.at(at) {
				return r.Key, nil
			}
		}
	}
	return Key{}, fmt.Errorf("key %s is not registered for them at %s", key.Fingerprint(), at.Format(time.RFC3339))
}

// take adds a verified answer. Nobody counts twice, and no key does.
func (s *Standing) take(g Given) error {
	list := map[Act]*[]Given{Approval: &s.approvals, Refusal: &s.refused, Revocation: &s.revoked}[g.Act]
	for _, other := range *list {
		if other.Person == g.Person || other.Key.Equal(g.Key) {
			return fmt.Errorf("second %s of %q, or with key %s", g.Act, g.Person.Subject, g.Key.Fingerprint())
		}
	}
	*list = append(*list, g)
	return nil
}

// concerns reports whether p is the approver or has approved.
func (s *Standing) concerns(p Person) bool {
	return p == s.object.Approver || slices.ContainsFunc(s.approvals, func(g Given) bool { return g.Person == p })
}

// At returns where the delegation stands at time t. An approval counts if it
// was taken before the delegation expired.
func (s Standing) At(t time.Time) State {
	switch {
	case s.object == nil:
		return Unknown
	case len(s.revoked) > 0:
		return Revoked
	case len(s.refused) > 0:
		return Refused
	}
	approver, persons := false, uint64(0)
	for _, g := range s.approvals {
		if g.At.Before(s.object.ExpiresTime()) {
			persons++
			approver = approver || g.Person == s.object.Approver
		}
	}
	switch {
	case !t.Before(s.object.ExpiresTime()):
		return Expired
	case !approver || persons < s.object.FourEyes:
		return Requested
	case t.Before(s.object.NotBeforeTime()):
		return Early
	}
	return Approved
}

// Delegation returns the delegation that was judged, nil for the zero value.
func (s Standing) Delegation() *Delegation { return s.object }

// D returns its content hash.
func (s Standing) D() evidence.Hash { return s.d }

// Answers returns what was verified: approvals, refusals, revocations.
func (s Standing) Answers() []Given { return slices.Concat(s.approvals, s.refused, s.revoked) }
