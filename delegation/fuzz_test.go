// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"crypto/rand"
	"testing"
)

// Whatever is parsed is written again byte for byte, and nothing panics.

func FuzzParse(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add([]byte{0x91})
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(data)
		if err != nil {
			return
		}
		if enc, err := o.Marshal(); err != nil || !bytes.Equal(enc, data) {
			t.Fatalf("written as %x: %v", enc, err)
		}
		if text, err := Describe(data); err != nil || text == "" {
			t.Fatal(err)
		}
		if err := o.Allows(o.Audience, o.Actions, o.Limits.Datatypes); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	key, signer := signerOf(f, make([]byte, 32))
	a := person{alice, key, signer}
	enc := encoded(f, sample())
	data, err := bundle(enc, a.answer(f, Approval, enc, 0), a.answer(f, Revocation, enc, 0)).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBundle(data)
		if err != nil {
			return
		}
		if enc, err := b.Marshal(); err != nil || !bytes.Equal(enc, data) {
			t.Fatalf("written as %x: %v", enc, err)
		}
		s, err := Verify(b, trusted(a))
		if state := s.At(start); err != nil && state != Unknown {
			t.Fatalf("stands as %s in spite of %v", state, err)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	_, signer := signerOf(f, make([]byte, 32))
	sig, err := Sign(rand.Reader, signer, Approval, encoded(f, sample()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig.Blob())
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := ParseSignature(data)
		if err != nil {
			return
		}
		again, err := ParseArmored(sig.Armored())
		if err != nil || !bytes.Equal(again.Blob(), data) {
			t.Fatalf("armored and read again: %v", err)
		}
		_ = sig.UserVerified()
		_ = sig.verify(Approval, nil, sig.Key())
	})
}

func FuzzParseArmored(f *testing.F) {
	_, signer := signerOf(f, make([]byte, 32))
	sig, err := Sign(rand.Reader, signer, Approval, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig.Armored())
	f.Add(bytes.Repeat(sig.Armored(), 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := ParseArmored(data)
		if err != nil {
			return
		}
		if bytes.Count(data, []byte("-----BEGIN")) != 1 || !bytes.HasPrefix(data, []byte("-----BEGIN")) {
			t.Fatal("more than one block, or something before it")
		}
		if _, err := ParseSignature(sig.Blob()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	data, err := NewStatement(Refusal, Digest(nil), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseStatement(Refusal, data); err == nil {
			if enc, err := NewStatement(Refusal, s.D, s.Time); err != nil || !bytes.Equal(enc, data) {
				t.Fatalf("written as %x: %v", enc, err)
			}
		}
	})
}

func FuzzParseAllowedSigners(f *testing.F) {
	k, _ := signerOf(f, make([]byte, 32))
	f.Add([]byte("alice " + k.String()))
	f.Add([]byte(`bob valid-after="20261123Z",` + allThree + " " + k.String() + "\n# end\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseAllowedSigners(data, broker)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, a := range list {
			if a.Person.check() != nil || len(a.Keys) == 0 {
				t.Fatalf("%+v", a)
			}
			for _, r := range a.Keys {
				if seen[r.Key.blob] || r.Key.check() != nil {
					t.Fatalf("key %s", r.Key)
				}
				seen[r.Key.blob] = true
			}
		}
	})
}
