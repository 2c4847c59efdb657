// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Sizes of RSA keys that are taken, in bits.
const (
	minRSA = 3072
	maxRSA = 8192
)

// Key is the SSH public key of an approver, of a kind that may approve:
// ed25519, ECDSA on P-256 or P-384, either of them in a security key, or RSA
// of at least 3072 bits. Its zero value is no key.
type Key struct {
	pub  ssh.PublicKey
	blob string
}

// ParseKey reads one line of a public key file, "ssh-ed25519 AAAA… comment".
// The comment is dropped. Options, as in authorized_keys, are refused.
func ParseKey(line string) (Key, error) {
	fields := strings.Fields(line)
	if strings.ContainsAny(line, "\n\r\x00") || len(fields) < 2 {
		return Key{}, fmt.Errorf("malformed public key: want one line of type and base64")
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return Key{}, fmt.Errorf("malformed public key: second word is not base64")
	}
	k, err := ParseKeyBlob(blob)
	if err != nil {
		return Key{}, err
	}
	if k.Type() != fields[0] {
		return Key{}, fmt.Errorf("public key says %q outside and %q inside", fields[0], k.Type())
	}
	return k, nil
}

// ParseKeyBlob reads a public key in SSH wire format.
func ParseKeyBlob(blob []byte) (Key, error) {
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return Key{}, fmt.Errorf("malformed public key: %v", err)
	}
	k := Key{pub, string(blob)}
	if !bytes.Equal(pub.Marshal(), blob) {
		return Key{}, fmt.Errorf("public key %s is not in its plain form", pub.Type())
	}
	if err := k.check(); err != nil {
		return Key{}, err
	}
	return k, nil
}

func (k Key) check() error {
	switch t := k.pub.Type(); t {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384:
		return nil
	case ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		if app := k.application(); !strings.HasPrefix(app, "ssh:") {
			return fmt.Errorf("security key for application %q, want one that begins with \"ssh:\"", app)
		}
		return nil
	case ssh.KeyAlgoRSA:
		n := 0
		if c, ok := k.pub.(ssh.CryptoPublicKey); ok {
			if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
				n = r.N.BitLen()
			}
		}
		if n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits, want %d to %d", n, minRSA, maxRSA)
		}
		return nil
	default:
		return fmt.Errorf("public key of type %q cannot approve", t)
	}
}

// application returns the FIDO application of a security key: the last string
// of its wire format (OpenSSH PROTOCOL.u2f).
func (k Key) application() string {
	rest := []byte(k.blob)
	var last string
	for len(rest) > 0 {
		var field struct {
			Value string
			Rest  []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(rest, &field); err != nil {
			return ""
		}
		last, rest = field.Value, field.Rest
	}
	return last
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.pub == nil }

// Type returns the name of the key's algorithm, such as "ssh-ed25519".
func (k Key) Type() string {
	if k.IsZero() {
		return ""
	}
	return k.pub.Type()
}

// Hardware reports whether the key lives in a security key that signs only
// when somebody touches it.
func (k Key) Hardware() bool {
	return k.Type() == ssh.KeyAlgoSKED25519 || k.Type() == ssh.KeyAlgoSKECDSA256
}

// Marshal returns the key in SSH wire format.
func (k Key) Marshal() []byte { return []byte(k.blob) }

// String returns the key as a line of a public key file, without a comment.
func (k Key) String() string {
	return k.Type() + " " + base64.StdEncoding.EncodeToString([]byte(k.blob))
}

// Fingerprint returns "SHA256:…" as ssh-keygen prints it.
func (k Key) Fingerprint() string {
	if k.IsZero() {
		return ""
	}
	return ssh.FingerprintSHA256(k.pub)
}

// Equal reports whether k and o are the same key.
func (k Key) Equal(o Key) bool { return !k.IsZero() && k.blob == o.blob }

// Registered is a key as registered for a person. What it signs counts from
// After on and before Before; a zero time is no bound.
type Registered struct {
	Key    Key
	After  time.Time
	Before time.Time
}

func (r Registered) at(t time.Time) bool {
	return (r.After.IsZero() || !t.Before(r.After)) && (r.Before.IsZero() || t.Before(r.Before))
}

// Approver is a person with the keys that the caller trusts to be theirs.
type Approver struct {
	Person Person
	Keys   []Registered
}
