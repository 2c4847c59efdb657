// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// SaltSize is the size of a person's salt.
const SaltSize = 32

// Pseudonym returns how a person stands in the log. The salt is random, one
// for each person, and kept beside the log: once it is deleted, nothing in the
// log can be traced to them, and the tree is as it was.
//
//	human = HMAC-SHA256(salt, "jurat/pseudonym/v1\0" || issuer || "\0" || subject)
func Pseudonym(salt []byte, issuer, subject string) (evidence.Bytes, error) {
	if len(salt) != SaltSize {
		return nil, fmt.Errorf("salt of %d bytes, want %d", len(salt), SaltSize)
	}
	m := hmac.New(sha256.New, salt)
	m.Write([]byte("jurat/pseudonym/v1\x00" + issuer + "\x00" + subject))
	return m.Sum(nil), nil
}
