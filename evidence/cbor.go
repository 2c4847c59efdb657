// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.NilContainers = cbor.NilContainerAsEmpty // one encoding for "none"
		o.TagsMd = cbor.TagsForbidden
		m, err := o.EncMode()
		if err != nil {
			panic("evidence: encoder options: " + err.Error())
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:         cbor.DupMapKeyEnforcedAPF,
			IndefLength:       cbor.IndefLengthForbidden,
			TagsMd:            cbor.TagsForbidden,
			ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
			MaxNestedLevels:   MaxDepth,
			MaxArrayElements:  MaxElements,
			MaxMapPairs:       MaxPairs,
			NaN:               cbor.NaNDecodeForbidden,
			Inf:               cbor.InfDecodeForbidden,
		}.DecMode()
		if err != nil {
			panic("evidence: decoder options: " + err.Error())
		}
		return m
	}()
)

// Marshal returns v in deterministic CBOR, the encoding that every hash and
// signature of jurat covers, for types of other rooms. Those of this one have
// methods of their own, which write the same bytes.
func Marshal(v any) ([]byte, error) {
	return encMode.Marshal(v)
}

// Unmarshal decodes exactly one value from data into v, and refuses what
// [Marshal] would not have written byte for byte.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return err
	}
	if at := firstDifference(data, again); at >= 0 {
		return fmt.Errorf("not in deterministic form at byte %d of %d", at, len(data))
	}
	return nil
}

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// mustEncode encodes what a caller built itself. A field that was never set is
// the caller's mistake.
func mustEncode[T any](x *T, wire func(*T, *codec)) []byte {
	b, err := encode(x, wire)
	if err != nil {
		panic("evidence: encoding: " + err.Error())
	}
	return b
}

// Hash is a SHA-256 value: a 32-byte string on the wire, hexadecimal in JSON.
type Hash [32]byte

// String returns h in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns h in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return fmt.Errorf("malformed hash %q: want 64 hexadecimal digits", text)
	}
	copy(h[:], b)
	return nil
}

// IsZero reports whether h is all zeros, which no SHA-256 value is.
func (h Hash) IsZero() bool { return h == Hash{} }

// Bytes is a byte string: hexadecimal in JSON.
type Bytes []byte

// String returns b in hexadecimal.
func (b Bytes) String() string { return hex.EncodeToString(b) }

// MarshalText returns b in hexadecimal.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads hexadecimal digits.
func (b *Bytes) UnmarshalText(text []byte) error {
	d, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("malformed bytes %q: want hexadecimal digits", text)
	}
	*b = d
	return nil
}
