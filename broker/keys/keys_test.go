// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var files = []string{TokenFile, LogFile, ChallengeFile, PairwiseFile}

func open(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := Open(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := open(t, dir)
	if len(first.Made) != len(files) {
		t.Errorf("made %q, want all four", first.Made)
	}
	for _, name := range files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	again := open(t, dir)
	if len(again.Made) != 0 || !again.Token.Equal(first.Token) || !again.Log.Equal(first.Log) ||
		!bytes.Equal(again.Challenge, first.Challenge) || !bytes.Equal(again.Pairwise, first.Pairwise) {
		t.Error("the second start has other keys")
	}
	if bytes.Equal(first.Challenge, first.Pairwise) {
		t.Error("two secrets are the same")
	}
}

func TestRefused(t *testing.T) {
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	write := func(t *testing.T, path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name, want string
		change     func(t *testing.T, dir, path string)
	}{
		{"readable by others", "mode 0644", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o644)) }},
		{"readable by the group", "mode 0640", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o640)) }},
		{"directory open", "mode 0755", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o755)) }},
		{"empty", "one PEM block", func(t *testing.T, _, path string) { write(t, path, nil) }},
		{"two blocks", "one PEM block", func(t *testing.T, _, path string) {
			write(t, path, append(block(pemSecret, make([]byte, 32)), block(pemSecret, make([]byte, 32))...))
		}},
		{"another kind", filepath.Base("x.key")[1:], func(t *testing.T, _, path string) { write(t, path, block("X", make([]byte, 31))) }},
		{"symbolic link", "too many levels", func(t *testing.T, dir, path string) {
			must(t, os.Rename(path, filepath.Join(dir, "other")))
			must(t, os.Symlink("other", path))
		}},
		{"directory", "not a plain file", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}},
	}
	for _, c := range cases {
		for _, name := range files {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "data")
				open(t, dir)
				c.change(t, dir, filepath.Join(dir, name))
				if _, err := Open(dir, rand.Reader); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		}
	}
}

func TestOtherOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open(t, dir)
	path := filepath.Join(dir, TokenFile)
	info, err := os.Stat(path)
	must(t, err)
	if err := private(path, otherOwner{info}); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("got %v", err)
	}
}

// otherOwner is a file whose owner cannot be told.
type otherOwner struct{ os.FileInfo }

func (otherOwner) Sys() any { return nil }

func TestNeverPrinted(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "data"))
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	log.Info("x", "keys", k)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", k)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "keys(redacted)") {
			t.Errorf("printed %q", line)
		}
	}
	if b, err := json.Marshal(k); err == nil {
		t.Errorf("encoded %s", b)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
