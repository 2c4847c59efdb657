// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"slices"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Act is a kind of answer.
type Act string

// The answers a person can give.
const (
	Approval   Act = "approval"
	Refusal    Act = "refusal"
	Revocation Act = "revocation"
)

// Namespaces keep the answers apart: a signature made in one is none in
// another (PROTOCOL.sshsig).
const (
	NamespaceApproval   = "jurat.dev/delegation/v1"
	NamespaceRefusal    = "jurat.dev/refusal/v1"
	NamespaceRevocation = "jurat.dev/revocation/v1"
)

// Namespace returns the namespace the answer is signed in, or "" for no answer.
func (a Act) Namespace() string {
	switch a {
	case Approval:
		return NamespaceApproval
	case Refusal:
		return NamespaceRefusal
	case Revocation:
		return NamespaceRevocation
	}
	return ""
}

// Signature is one SSH signature in its plain form. It is well formed; what it
// is worth, [Verify] says.
type Signature struct {
	sig  *sshsig.Signature
	key  Key
	blob []byte
}

const (
	armorBegin = "-----BEGIN SSH SIGNATURE-----\n"
	armorEnd   = "\n-----END SSH SIGNATURE-----"
)

// ParseArmored reads what ssh-keygen -Y sign writes: one block and nothing
// around it but a last line end. How the lines are broken does not matter,
// because only the binary form is kept.
func ParseArmored(text []byte) (*Signature, error) {
	if len(text) > MaxArmored {
		return nil, fmt.Errorf("armored signature of %d bytes, at most %d", len(text), MaxArmored)
	}
	text = bytes.TrimSuffix(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"))
	if !bytes.HasPrefix(text, []byte(armorBegin)) || !bytes.HasSuffix(text, []byte(armorEnd)) ||
		bytes.Count(text, []byte("-----")) != 4 {
		return nil, fmt.Errorf("malformed signature: want exactly one SSH SIGNATURE block, and nothing before or after it")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != sshsig.PEMType || len(block.Headers) != 0 || len(rest) != 0 {
		return nil, fmt.Errorf("malformed signature: the SSH SIGNATURE block is broken")
	}
	return ParseSignature(block.Bytes)
}

// ParseSignature reads a signature in the binary form that is kept.
func ParseSignature(blob []byte) (*Signature, error) {
	if len(blob) > MaxSignature {
		return nil, fmt.Errorf("signature of %d bytes, at most %d", len(blob), MaxSignature)
	}
	sig, err := sshsig.ParseSignature(blob)
	if err != nil {
		return nil, fmt.Errorf("malformed signature: %v", err)
	}
	// The library drops the reserved field and reads over what it does not
	// need: two different blobs must not be the same signature.
	if !bytes.Equal(sig.Marshal(), blob) {
		return nil, fmt.Errorf("malformed signature: not in its plain form")
	}
	key, err := ParseKeyBlob(sig.PublicKey.Marshal())
	if err != nil {
		return nil, fmt.Errorf("signature: %v", err)
	}
	s := &Signature{sig, key, bytes.Clone(blob)}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// check holds the inner signature to its key: the algorithm that belongs to
// it, nothing behind it, and a touch where there is a button.
func (s *Signature) check() error {
	inner, want := s.sig.Signature, []string{s.key.Type()}
	if s.key.Type() == ssh.KeyAlgoRSA {
		want = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	if !slices.Contains(want, inner.Format) {
		return fmt.Errorf("signature of algorithm %q by a key of type %q", inner.Format, s.key.Type())
	}
	if !s.key.Hardware() {
		if len(inner.Rest) != 0 {
			return fmt.Errorf("malformed signature: %d bytes behind it", len(inner.Rest))
		}
		return nil
	}
	if len(inner.Rest) != 5 {
		return fmt.Errorf("malformed signature: %d bytes of flags and counter, want 5", len(inner.Rest))
	}
	if inner.Rest[0]&flagPresent == 0 {
		return fmt.Errorf("security key signed without being touched")
	}
	return nil
}

// Flags of a security key's signature (PROTOCOL.u2f).
const (
	flagPresent  = 0x01
	flagVerified = 0x04
)

// Blob returns the binary form: what is kept and hashed.
func (s *Signature) Blob() []byte { return bytes.Clone(s.blob) }

// Armored returns the text form.
func (s *Signature) Armored() []byte { return sshsig.Armor(s.sig) }

// Key returns the key the signature says it is by.
func (s *Signature) Key() Key { return s.key }

// Namespace returns the namespace the signature says it is in.
func (s *Signature) Namespace() string { return s.sig.Namespace }

// UserVerified reports whether a security key asked for its PIN or finger
// before it signed.
func (s *Signature) UserVerified() bool {
	return s.key.Hardware() && s.sig.Signature.Rest[0]&flagVerified != 0
}

// verify reports whether s is key's signature of message as an answer of kind
// act.
//
//	key over "SSHSIG" || namespace || "" || hash || H(message)   (PROTOCOL.sshsig)
func (s *Signature) verify(act Act, message []byte, key Key) error {
	namespace := act.Namespace()
	if namespace == "" {
		return fmt.Errorf("unknown answer %q", act)
	}
	if s.sig.Namespace != namespace {
		return fmt.Errorf("signature in namespace %q, want %q", s.sig.Namespace, namespace)
	}
	if !s.key.Equal(key) {
		return fmt.Errorf("signature by key %s, want %s", s.key.Fingerprint(), key.Fingerprint())
	}
	err := sshsig.Verify(bytes.NewReader(message), s.sig, key.pub, s.sig.HashAlgorithm, namespace)
	if err != nil {
		return fmt.Errorf("signature by key %s does not fit what was signed: %v", key.Fingerprint(), err)
	}
	return nil
}

// Sign answers with a key in this process or in an ssh-agent. message is
// enc(D) for an approval, an encoded [Statement] otherwise. The library refuses
// the empty namespace of an unknown act.
func Sign(rand io.Reader, signer ssh.Signer, act Act, message []byte) (*Signature, error) {
	sig, err := sshsig.SignWithRand(bytes.NewReader(message), rand, signer, sshsig.HashSHA512, act.Namespace())
	if err != nil {
		return nil, fmt.Errorf("signing: %v", err)
	}
	return ParseSignature(sig.Marshal())
}
