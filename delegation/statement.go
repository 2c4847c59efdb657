// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// MaxStatement bounds an encoded statement, in bytes.
const MaxStatement = 128

// Statement is what a refusal or a revocation signs. An approval signs the
// delegation itself.
type Statement struct {
	_       struct{}      `cbor:",toarray"`
	Type    string        `json:"typ"` // "jurat-refusal" or "jurat-revocation"
	Version uint64        `json:"v"`
	D       evidence.Hash `json:"d"`
	Time    uint64        `json:"time"` // seconds since 1970, by the signer's clock: reported, decides nothing
}

func (a Act) statementType() string {
	if a == Refusal || a == Revocation {
		return "jurat-" + string(a)
	}
	return ""
}

// NewStatement returns the statement of a refusal or revocation of d, encoded
// as it is signed.
func NewStatement(act Act, d evidence.Hash, seconds uint64) ([]byte, error) {
	s := Statement{Type: act.statementType(), Version: Version, D: d, Time: seconds}
	if err := s.check(act); err != nil {
		return nil, err
	}
	return evidence.Marshal(&s)
}

// ParseStatement decodes the statement of a refusal or revocation in
// canonical form.
func ParseStatement(act Act, enc []byte) (*Statement, error) {
	if len(enc) > MaxStatement {
		return nil, fmt.Errorf("statement of %d bytes, at most %d", len(enc), MaxStatement)
	}
	s := new(Statement)
	if err := evidence.Unmarshal(enc, s); err != nil {
		return nil, fmt.Errorf("malformed statement: %v", err)
	}
	if err := s.check(act); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Statement) check(act Act) error {
	switch want := act.statementType(); {
	case want == "":
		return fmt.Errorf("%q is not said with a statement", act)
	case s.Type != want:
		return fmt.Errorf("statement of type %q, want %q", s.Type, want)
	case s.Version != Version:
		return fmt.Errorf("statement version %d, want %d", s.Version, Version)
	case s.D.IsZero():
		return fmt.Errorf("statement names no delegation")
	case s.Time == 0 || s.Time > maxTime:
		return fmt.Errorf("statement time: second %d, want one before the year 10000", s.Time)
	}
	return nil
}
