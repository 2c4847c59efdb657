// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package keys keeps the broker's secrets in files of its data directory
// (station 9, once per start). Its door is that directory.
//
//	token.key      ECDSA P-256   signs access tokens (station 10)
//	log.key        Ed25519       signs checkpoints of the log
//	challenge.key  32 bytes      authenticates challenges
//	pairwise.key   32 bytes      makes the names of humans differ per audience
//
// A file that is missing is made, by a create that fails if the file exists.
// It refuses a file or directory that others may read or write, that belongs
// to another user, or that is not a plain file. Nothing here can be printed:
// [Keys] shows itself as one word whatever the verb.
package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// Names of the files.
const (
	TokenFile     = "token.key"
	LogFile       = "log.key"
	ChallengeFile = "challenge.key"
	PairwiseFile  = "pairwise.key"
)

const secretSize = 32

// Types of PEM blocks.
const (
	pemKey    = "PRIVATE KEY" // PKCS #8
	pemSecret = "JURAT SECRET"
)

// Keys are the broker's secrets.
type Keys struct {
	Token     *ecdsa.PrivateKey
	Log       ed25519.PrivateKey
	Challenge []byte
	Pairwise  []byte

	// Made names the files that did not exist before.
	Made []string
}

// Format prints one word instead of keys.
func (*Keys) Format(f fmt.State, _ rune) {
	// A fmt.State that cannot be written to has no way to be told.
	_, _ = io.WriteString(f, "keys(redacted)")
}

// LogValue is one word instead of keys.
func (*Keys) LogValue() slog.Value { return slog.StringValue("keys(redacted)") }

// MarshalJSON refuses.
func (*Keys) MarshalJSON() ([]byte, error) { return nil, errors.New("keys are not for output") }

// Digests are what each key may be known by where others can read it. Brokers
// that answer for each other have the same.
//
//	token.key, log.key           SHA-256(SubjectPublicKeyInfo)
//	challenge.key, pairwise.key  HMAC-SHA-256(secret, "jurat broker key")
func (k *Keys) Digests() (map[string][32]byte, error) {
	out := make(map[string][32]byte)
	for name, public := range map[string]any{TokenFile: k.Token.Public(), LogFile: k.Log.Public()} {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = sha256.Sum256(der)
	}
	for name, secret := range map[string][]byte{ChallengeFile: k.Challenge, PairwiseFile: k.Pairwise} {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("jurat broker key"))
		out[name] = [32]byte(mac.Sum(nil))
	}
	return out, nil
}

// Open reads the keys in dir, and makes those that are missing, as well as dir.
func Open(dir string, rand io.Reader) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if err := private(dir, info); err != nil {
		return nil, err
	}
	k := &Keys{}
	token, err := k.read(dir, TokenFile, func() (*pem.Block, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
		return pkcs8(key, err)
	})
	if err != nil {
		return nil, err
	}
	log, err := k.read(dir, LogFile, func() (*pem.Block, error) {
		_, key, err := ed25519.GenerateKey(rand)
		return pkcs8(key, err)
	})
	if err != nil {
		return nil, err
	}
	var ok bool
	if k.Token, ok = parse(token).(*ecdsa.PrivateKey); !ok || k.Token.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s is not an ECDSA P-256 key in PKCS #8", filepath.Join(dir, TokenFile))
	}
	if k.Log, ok = parse(log).(ed25519.PrivateKey); !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key in PKCS #8", filepath.Join(dir, LogFile))
	}
	if k.Challenge, err = k.secret(dir, ChallengeFile, rand); err != nil {
		return nil, err
	}
	k.Pairwise, err = k.secret(dir, PairwiseFile, rand)
	return k, err
}

func (k *Keys) secret(dir, name string, rand io.Reader) ([]byte, error) {
	block, err := k.read(dir, name, func() (*pem.Block, error) {
		b := make([]byte, secretSize)
		_, err := io.ReadFull(rand, b)
		return &pem.Block{Type: pemSecret, Bytes: b}, err
	})
	if err != nil {
		return nil, err
	}
	if block.Type != pemSecret || len(block.Bytes) != secretSize {
		return nil, fmt.Errorf("%s does not hold a secret of %d bytes", filepath.Join(dir, name), secretSize)
	}
	return block.Bytes, nil
}

func pkcs8(key any, err error) (*pem.Block, error) {
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return &pem.Block{Type: pemKey, Bytes: der}, err
}

// parse returns the key in block, or nil.
func parse(block *pem.Block) any {
	if block.Type != pemKey {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil
	}
	return key
}

// read returns the one PEM block of a file, which make fills when it is missing.
func (k *Keys) read(dir, name string, make func() (*pem.Block, error)) (*pem.Block, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir, path, make); err != nil {
			return nil, err
		}
		k.Made = append(k.Made, name)
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", path)
	}
	if err := private(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 {
		return nil, fmt.Errorf("%s does not hold one PEM block; if a first start was interrupted, remove it", path)
	}
	return block, nil
}

func create(dir, path string, make func() (*pem.Block, error)) error {
	block, err := make()
	if err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(pem.EncodeToMemory(block))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// private wants that nobody but us may touch path.
func private(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may not have any right to it", path, mode)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s does not belong to user %d, who runs the broker", path, os.Geteuid())
	}
	return nil
}
