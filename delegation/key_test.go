// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

func TestKeyRefuses(t *testing.T) {
	_, signer := newSigner(t)
	good := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	word := strings.Fields(good)[1]
	certificate := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKey(good + " a comment of words"); err != nil {
		t.Error(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, minRSA)
	if err != nil {
		t.Fatal(err)
	}
	long := ssh.Marshal(struct{ Type, E, N string }{ssh.KeyAlgoRSA, "\x00\x01\x00\x01", "\x00" + string(private.N.Bytes())})
	if _, err := ssh.ParsePublicKey(long); err != nil {
		t.Fatalf("the library does not take the long form: the test tests nothing: %v", err)
	}
	for name, line := range map[string]string{
		"key in a long form": "ssh-rsa " + base64.StdEncoding.EncodeToString(long), "base64 and noise": "ssh-ed25519 " + word + "!!!!",
		"nothing": "", "one word": "ssh-ed25519", "another type outside": "ssh-rsa " + word, "options": `command="x" ` + good, "two lines": good + "\n" + good,
		"not base64": "ssh-ed25519 A!", "base64 and more": "ssh-ed25519 " + word + "=", "certificate": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(certificate))),
		"truncated": "ssh-ed25519 " + word[:40], "another application": sk(t, "web:").line,
	} {
		if k, err := ParseKey(line); err == nil || !k.IsZero() {
			t.Errorf("%s: taken", name)
		}
	}
	var none Key
	if none.Type() != "" || none.Fingerprint() != "" || none.Hardware() || none.Equal(none) || len(none.Marshal()) != 0 {
		t.Error("the zero key is a key")
	}
}

// securityKey is a software FIDO authenticator, speaking PROTOCOL.u2f.
type securityKey struct {
	application string
	private     *ecdsa.PrivateKey
	line        string
}

func sk(t testing.TB, application string) securityKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Curve, Point, Application string }{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), application}))
	if err != nil {
		t.Fatal(err)
	}
	return securityKey{application, private, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))}
}

// sign signs message with the flags set.
func (s securityKey) sign(t testing.TB, act Act, message []byte, flags byte) []byte {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s.line))
	if err != nil {
		t.Fatal(err)
	}
	inner := sha256.Sum256(message)
	toSign := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{act.Namespace(), "", "sha256", string(inner[:])})...)
	app, data := sha256.Sum256([]byte(s.application)), sha256.Sum256(toSign)
	counter := binary.BigEndian.AppendUint32([]byte{flags}, 42)
	digest := sha256.Sum256(append(append(app[:], counter...), data[:]...))
	r, q, err := ecdsa.Sign(rand.Reader, s.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return sshsig.Signature{Version: 1, PublicKey: key, Namespace: act.Namespace(), HashAlgorithm: sshsig.HashSHA256, Signature: &ssh.Signature{
		Format: ssh.KeyAlgoSKECDSA256, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, q}), Rest: counter}}.Marshal()
}

func TestSecurityKey(t *testing.T) {
	enc := encoded(t, sample())
	s := sk(t, "ssh:")
	key, err := ParseKey(s.line)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Hardware() {
		t.Error("a security key is no hardware")
	}
	for _, c := range []struct {
		flags         byte
		good, pinUsed bool
	}{{flagPresent, true, false}, {flagPresent | flagVerified, true, true}, {0, false, false}, {flagVerified, false, false}} {
		blob := s.sign(t, Approval, enc, c.flags)
		// ssh-keygen leaves the flags to its caller: it must take them all.
		armored := pem.EncodeToMemory(&pem.Block{Type: sshsig.PEMType, Bytes: blob})
		if !agrees(t, "alice "+s.line, "alice", NamespaceApproval, armored, enc) {
			t.Errorf("flags %#x: ssh-keygen does not take it", c.flags)
		}
		sig, err := ParseSignature(blob) // refuses at once what was not touched
		if err == nil {
			err = sig.verify(Approval, enc, key)
		} else if c.good || !strings.Contains(err.Error(), "without being touched") {
			t.Errorf("flags %#x: %v", c.flags, err)
		}
		if (err == nil) != c.good {
			t.Errorf("flags %#x: %v", c.flags, err)
			continue
		}
		if c.good && sig.UserVerified() != c.pinUsed {
			t.Errorf("flags %#x: user verified is %v", c.flags, sig.UserVerified())
		}
	}
	good, err := sshsig.ParseSignature(s.sign(t, Approval, enc, flagPresent))
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range [][]byte{nil, {flagPresent}, {flagPresent, 0, 0, 0}, {flagPresent, 0, 0, 0, 42, 0}} {
		bad := *good
		bad.Signature = &ssh.Signature{Format: good.Signature.Format, Blob: good.Signature.Blob, Rest: rest}
		if _, err := ParseSignature(bad.Marshal()); err == nil {
			t.Errorf("%d bytes of flags and counter are taken", len(rest))
		}
	}
	// The flags are signed: a touch cannot be made into a PIN.
	blob := s.sign(t, Approval, enc, flagPresent)
	blob[len(blob)-5] |= flagVerified
	sig, err := ParseSignature(blob)
	if err != nil {
		t.Fatal(err)
	}
	if sig.verify(Approval, enc, key) == nil {
		t.Error("flags can be changed after signing")
	}
	other := sk(t, "ssh:")
	other.private = s.private // the same key, held for another application
	other.application = "ssh:other"
	if sig, err := ParseSignature(other.sign(t, Approval, enc, flagPresent)); err == nil && sig.verify(Approval, enc, key) == nil {
		t.Error("the application is not part of the key")
	}
}
