// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package delegation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/jurat-dev/jurat/internal/require"
)

// keygen runs ssh-keygen, the independent opinion.
func keygen(t testing.TB, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	_, err := exec.LookPath("ssh-keygen")
	require.Need(t, "ssh", err)
	c := exec.Command("ssh-keygen", args...)
	c.Stdin = bytes.NewReader(stdin)
	return c.CombinedOutput()
}

// made is a key pair made by ssh-keygen.
type made struct {
	path string
	line string
}

func makeKey(t testing.TB, args ...string) made {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if out, err := keygen(t, nil, append([]string{"-q", "-N", "", "-C", "somebody", "-f", path}, args...)...); err != nil {
		t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
	}
	line, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return made{path, strings.TrimSpace(string(line))}
}

// sign signs as a person would, with ssh-keygen alone.
func (m made) sign(t testing.TB, namespace string, message []byte, more ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-Y", "sign", "-q", "-f", m.path, "-n", namespace}, more...)
	if out, err := keygen(t, nil, append(args, file)...); err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v\n%s", err, out)
	}
	armored, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	return armored
}

// agrees asks ssh-keygen whether sig is name's signature of message.
func agrees(t testing.TB, signers, name, namespace string, sig, message []byte) bool {
	t.Helper()
	folder := t.TempDir()
	file, sigFile := filepath.Join(folder, "signers"), filepath.Join(folder, "sig")
	for path, data := range map[string][]byte{file: []byte(signers), sigFile: sig} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := keygen(t, message, "-Y", "verify", "-f", file, "-I", name, "-n", namespace, "-s", sigFile)
	return err == nil
}

func TestOpenSSHSignatures(t *testing.T) {
	enc := encoded(t, sample())
	for _, c := range []struct {
		args []string
		more []string
		good bool
	}{
		{args: []string{"-t", "ed25519"}, good: true},
		{args: []string{"-t", "ed25519"}, more: []string{"-O", "hashalg=sha256"}, good: true},
		{args: []string{"-t", "ecdsa", "-b", "256"}, good: true},
		{args: []string{"-t", "ecdsa", "-b", "384"}, good: true},
		{args: []string{"-t", "rsa", "-b", "3072"}, good: true},
		{args: []string{"-t", "rsa", "-b", "2048"}},
		{args: []string{"-t", "ecdsa", "-b", "521"}},
	} {
		t.Run(strings.Join(append(c.args, c.more...), " "), func(t *testing.T) {
			m := makeKey(t, c.args...)
			armored := m.sign(t, NamespaceApproval, enc, c.more...)
			sig, err := ParseArmored(armored)
			key, keyErr := ParseKey(m.line)
			if !c.good {
				if err == nil || keyErr == nil {
					t.Errorf("taken: signature %v, key %v", err, keyErr)
				}
				return
			}
			if err != nil || keyErr != nil {
				t.Fatal(err, keyErr)
			}
			if err := sig.verify(Approval, enc, key); err != nil {
				t.Error(err)
			}
			if sig.Namespace() != NamespaceApproval || sig.UserVerified() || key.Hardware() || !sig.Key().Equal(key) {
				t.Errorf("signature says %q %v", sig.Namespace(), sig.Key())
			}
			out, err := keygen(t, nil, "-l", "-f", m.path+".pub")
			if err != nil || !strings.Contains(string(out), " "+key.Fingerprint()+" ") {
				t.Errorf("fingerprint %s, ssh-keygen says %s", key.Fingerprint(), out)
			}
			if key.String()+" somebody" != m.line {
				t.Errorf("key is %q, ssh-keygen says %q", key, m.line)
			}
			again, err := ParseSignature(sig.Blob())
			if err != nil || again.verify(Approval, enc, key) != nil {
				t.Errorf("kept and read again: %v", err)
			}
			if !agrees(t, "alice "+m.line, "alice", NamespaceApproval, sig.Armored(), enc) {
				t.Error("ssh-keygen does not take what we armored again")
			}
		})
	}
}

// What we sign, ssh-keygen takes; and it tells the answers apart as we do.
func TestSignForOpenSSH(t *testing.T) {
	enc := encoded(t, sample())
	key, signer := newSigner(t)
	for _, act := range []Act{Approval, Refusal, Revocation} {
		sig, err := Sign(rand.Reader, signer, act, enc)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []Act{Approval, Refusal, Revocation} {
			want := act == other
			if got := agrees(t, "alice "+key.String(), "alice", other.Namespace(), sig.Armored(), enc); got != want {
				t.Errorf("ssh-keygen: %s as %s: %v", act, other, got)
			}
			if err := sig.verify(other, enc, key); (err == nil) != want {
				t.Errorf("%s as %s: %v", act, other, err)
			}
		}
	}
	if _, err := Sign(rand.Reader, signer, "nod", enc); err == nil {
		t.Error("an unknown answer was signed")
	}
}

func newSigner(t testing.TB) (Key, ssh.Signer) {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		t.Fatal(err)
	}
	return signerOf(t, seed)
}

// signerOf returns always the same key: fuzzing compares runs.
func signerOf(t testing.TB, seed []byte) (Key, ssh.Signer) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(seed)
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKeyBlob(signer.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return key, signer
}

func TestSignatureOneByteChanged(t *testing.T) {
	enc := encoded(t, sample())
	key, signer := newSigner(t)
	good, err := Sign(rand.Reader, signer, Approval, enc)
	if err != nil {
		t.Fatal(err)
	}
	for at := range good.blob {
		for bit := range 8 {
			bad := good.Blob()
			bad[at] ^= 1 << bit
			if sig, err := ParseSignature(bad); err == nil && sig.verify(Approval, enc, key) == nil {
				t.Fatalf("byte %d bit %d of the signature changes nothing", at, bit)
			}
		}
	}
	for at := range enc {
		bad := bytes.Clone(enc)
		bad[at] ^= 1
		if good.verify(Approval, bad, key) == nil {
			t.Fatalf("byte %d of the delegation is not signed", at)
		}
	}
	other, _ := newSigner(t)
	if good.verify(Approval, enc, other) == nil {
		t.Error("another key made the same signature")
	}
	if good.verify(Approval, enc, Key{}) == nil {
		t.Error("no key made the signature")
	}
}

// rawBlob is the signature as PROTOCOL.sshsig lays it out.
type rawBlob struct {
	Magic     [6]byte
	Version   uint32
	Key       string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

func TestSignatureRefuses(t *testing.T) {
	enc := encoded(t, sample())
	_, signer := newSigner(t)
	good, err := Sign(rand.Reader, signer, Approval, enc)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*rawBlob)) []byte {
		var b rawBlob
		if err := ssh.Unmarshal(good.blob, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		return ssh.Marshal(b)
	}
	if !bytes.Equal(changed(func(*rawBlob) {}), good.blob) {
		t.Fatal("the layout is not what the test thinks")
	}
	inner := func(s ssh.Signature) string { return string(ssh.Marshal(s)) }
	bytesOf := good.sig.Signature.Blob
	for name, blob := range map[string][]byte{
		"nothing":            {},
		"too large":          make([]byte, MaxSignature+1),
		"trailing byte":      append(good.Blob(), 0),
		"magic":              changed(func(b *rawBlob) { b.Magic[0] = 's' }),
		"version 0":          changed(func(b *rawBlob) { b.Version = 0 }),
		"version 2":          changed(func(b *rawBlob) { b.Version = 2 }),
		"reserved":           changed(func(b *rawBlob) { b.Reserved = "x" }),
		"sha1":               changed(func(b *rawBlob) { b.Hash = "sha1" }),
		"no hash":            changed(func(b *rawBlob) { b.Hash = "" }),
		"no key":             changed(func(b *rawBlob) { b.Key = "" }),
		"key and more":       changed(func(b *rawBlob) { b.Key += "\x00" }),
		"another algorithm":  changed(func(b *rawBlob) { b.Signature = inner(ssh.Signature{Format: "ssh-rsa", Blob: bytesOf}) }),
		"bytes behind it":    changed(func(b *rawBlob) { b.Signature += "\x01\x00\x00\x00\x00" }),
		"no inner signature": changed(func(b *rawBlob) { b.Signature = "" }),
	} {
		if sig, err := ParseSignature(blob); err == nil || sig != nil {
			t.Errorf("%s: taken", name)
		}
	}
	for n := range good.blob {
		if _, err := ParseSignature(good.blob[:n]); err == nil {
			t.Errorf("the first %d bytes are taken", n)
		}
	}
	if _, err := ParseSignature(make([]byte, MaxSignature+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a signature above the cap: %v", err)
	}
	if _, err := ParseArmored(make([]byte, MaxArmored+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("an armored signature above the cap: %v", err)
	}
}

// A looser program may sign in no namespace at all. That is no answer.
func TestNoNamespace(t *testing.T) {
	enc := encoded(t, sample())
	key, signer := newSigner(t)
	hash := sha256.Sum256(enc)
	inner, err := signer.Sign(rand.Reader, append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{"", "", "sha256", string(hash[:])})...))
	if err != nil {
		t.Fatal(err)
	}
	s := sshsig.Signature{Version: 1, PublicKey: signer.PublicKey(), HashAlgorithm: sshsig.HashSHA256, Signature: inner}
	if err := sshsig.Verify(bytes.NewReader(enc), &s, signer.PublicKey(), sshsig.HashSHA256, ""); err != nil {
		t.Fatalf("the library does not take it: the test tests nothing: %v", err)
	}
	sig, err := ParseSignature(s.Marshal())
	if err != nil {
		return
	}
	for _, act := range []Act{Approval, Refusal, Revocation, "", "x"} {
		if sig.verify(act, enc, key) == nil {
			t.Errorf("a signature without a namespace is taken as %q", act)
		}
	}
}

// broken is a signer whose key went away.
type broken struct{ ssh.Signer }

func (broken) Sign(io.Reader, []byte) (*ssh.Signature, error) {
	return nil, errors.New("no such key")
}

func TestSignFails(t *testing.T) {
	_, signer := newSigner(t)
	if sig, err := Sign(rand.Reader, broken{signer}, Approval, nil); err == nil || sig != nil {
		t.Error("signed without a key")
	}
}

func TestArmored(t *testing.T) {
	enc := encoded(t, sample())
	m := makeKey(t, "-t", "ed25519")
	armored := string(m.sign(t, NamespaceApproval, enc))
	want, err := ParseArmored([]byte(armored))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(armored))
	rewrapped := string(pem.EncodeToMemory(block)) // breaks lines at 64, ssh-keygen at 70
	if rewrapped == armored {
		t.Error("the other wrapping is the same")
	}
	for name, good := range map[string]string{
		"other line length": rewrapped, "CR LF": strings.ReplaceAll(armored, "\n", "\r\n"), "no last line end": strings.TrimSuffix(armored, "\n"),
	} {
		if sig, err := ParseArmored([]byte(good)); err != nil || !bytes.Equal(sig.blob, want.blob) {
			t.Errorf("%s: %v", name, err)
		}
	}
	headers := string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: map[string]string{"Who": "me"}, Bytes: block.Bytes}))
	other := string(pem.EncodeToMemory(&pem.Block{Type: "SIGNATURE", Bytes: block.Bytes}))
	for name, bad := range map[string]string{
		"nothing": "", "text before": "I approve\n" + armored, "text after": armored + "really\n", "line after": armored + "\n", "space before": " " + armored,
		"two blocks": armored + armored, "headers": headers, "another type": other, "binary": string(want.blob), "half": armored[:len(armored)/2],
		"a block inside": strings.Replace(armored, "\n", "\n"+armorBegin, 1), "too long": armorBegin + strings.Repeat("A", MaxArmored) + armorEnd,
		"text in the middle": strings.Replace(armored, "\n", "\nhello there!\n", 1), "only the frame": armorBegin[:len(armorBegin)-1] + armorEnd,
	} {
		if sig, err := ParseArmored([]byte(bad)); err == nil || sig != nil {
			t.Errorf("%s: taken", name)
		}
	}
}
