// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package challenge makes and knows again the broker's nonces (station 9).
//
// A challenge carries its own proof, so that asking for one costs the broker
// one HMAC and no memory:
//
//	challenge = random16 || exp || HMAC-SHA256(k, "jurat/challenge/v1\0" || issuer || "\0" || host || "\0" || random16 || exp)
//
// exp is in seconds since 1970, big endian, by the broker's clock; no other
// clock is asked. It has no door: key, clock and randomness are parameters.
// That a challenge is used once is for the store to see to.
package challenge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Size is the size of a challenge in bytes.
const Size = 16 + 8 + sha256.Size

// Life is how long a challenge is good.
const Life = 30 * time.Second

var (
	// ErrForeign is returned for a challenge that this broker did not make for this host.
	ErrForeign = errors.New("challenge is not this broker's for this host")
	// ErrStale is returned for one of ours whose time is over.
	ErrStale = errors.New("challenge is too old")
)

// Maker makes challenges.
type Maker struct {
	key    []byte
	issuer string
	rand   io.Reader
}

// New returns a maker for the broker at issuer.
func New(key []byte, issuer string, rand io.Reader) *Maker {
	return &Maker{key: key, issuer: issuer, rand: rand}
}

// Make returns a fresh challenge for the host.
func (m *Maker) Make(host string, now time.Time) ([]byte, error) {
	c := make([]byte, 24, Size)
	if _, err := io.ReadFull(m.rand, c[:16]); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	binary.BigEndian.PutUint64(c[16:], uint64(now.Add(Life).Unix()))
	return append(c, m.mac(host, c)...), nil
}

// Check returns when the challenge ends, if it is ours, for this host, and
// still good at now. The end is also returned with ErrStale.
func (m *Maker) Check(host string, c []byte, now time.Time) (time.Time, error) {
	if len(c) != Size || !hmac.Equal(c[24:], m.mac(host, c[:24])) {
		return time.Time{}, ErrForeign
	}
	end := time.Unix(int64(binary.BigEndian.Uint64(c[16:])), 0)
	// One from the future is ours too, of before our clock was set back; it is
	// not good, since how long it has been about cannot be told.
	if !now.Before(end) || end.Sub(now) > Life+time.Second {
		return end, ErrStale
	}
	return end, nil
}

func (m *Maker) mac(host string, c []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte("jurat/challenge/v1\x00" + m.issuer + "\x00" + host + "\x00"))
	h.Write(c)
	return h.Sum(nil)
}

// Text returns a challenge as it stands in JSON and in DPoP proofs.
func Text(c []byte) string { return base64.RawURLEncoding.EncodeToString(c) }

// ParseText reads what Text wrote.
func ParseText(text string) ([]byte, error) {
	c, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(c) != Size {
		return nil, ErrForeign
	}
	return c, nil
}
