// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-tpm/tpm2"
)

func TestReadAnswerTakesExactlyOne(t *testing.T) {
	one := answer(tpm2.TPMSTSessions, tpm2.TPMRCSuccess, []byte("body")...)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r },
		"bytes": iotest.OneByteReader, // a socket may give an answer in pieces
	} {
		stream := bytes.NewReader(append(bytes.Clone(one), "next"...))
		got, err := readAnswer(wrap(stream))
		if err != nil || !bytes.Equal(got, one) {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
		if stream.Len() != len("next") {
			t.Errorf("%s: %d bytes left for the next answer, want 4", name, stream.Len())
		}
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":          {nil, io.EOF},
		"half a header":    {[]byte{0x80, 1, 0, 0}, io.ErrUnexpectedEOF},
		"half a body":      {answer(tpm2.TPMSTSessions, 0, 1, 2, 3)[:12], io.ErrUnexpectedEOF},
		"size below 10":    {[]byte{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}, errFrame},
		"size above 4096":  {[]byte{0x80, 1, 0, 0, 0x10, 1, 0, 0, 0, 0}, errFrame},
		"size of 4 GiB":    {[]byte{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, errFrame},
		"tag of a TPM 1.2": {[]byte{0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0}, errFrame},
	} {
		if _, err := readAnswer(bytes.NewReader(c.bytes)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte{})
	f.Add(answer(tpm2.TPMSTNoSessions, tpm2.TPMRCRetry))
	f.Add(answer(tpm2.TPMSTSessions, 0, make([]byte, 300)...))
	f.Add([]byte{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := readAnswer(bytes.NewReader(stream))
		if err == nil && !bytes.HasPrefix(stream, got) {
			t.Fatalf("read %x from %x", got, stream)
		}
		if err == nil && (len(got) < headerSize || len(got) > maxFrame) {
			t.Fatalf("answer of %d bytes", len(got))
		}
	})
}

// A TPM that hangs must not hang its caller, and a late answer must not be
// taken for the answer to the next command.
func TestHungSocketIsGone(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	go io.Copy(io.Discard, there)
	dev, _ := scripted(&socketLink{here, 20 * time.Millisecond, time.Hour})
	_, err := dev.Clock(t.Context())
	if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Fatal(err)
	}
	go there.Write(answer(tpm2.TPMSTNoSessions, 0, make([]byte, 25)...))
	if _, err := dev.Clock(t.Context()); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	here.Close()
}

// seqpacket is a pair of descriptors that keep messages whole, as a TPM's
// character device does.
func seqpacket(t *testing.T) (here, there *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there = os.NewFile(uintptr(fds[0]), "here"), os.NewFile(uintptr(fds[1]), "there")
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

func TestDeviceLink(t *testing.T) {
	good := answer(tpm2.TPMSTNoSessions, 0, make([]byte, 25)...)
	for name, c := range map[string]struct {
		reply []byte
		ok    bool
	}{
		"good":    {good, true},
		"short":   {good[:9], false},
		"less":    {good[:20], false},
		"more":    {append(bytes.Clone(good), 0), false},
		"garbage": {bytes.Repeat([]byte{0xff}, 40), false},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := seqpacket(t)
			go func() {
				if _, err := there.Read(make([]byte, maxFrame)); err == nil {
					there.Write(c.reply)
				}
			}()
			dev, _ := scripted(&deviceLink{here, time.Minute})
			_, err := dev.Clock(t.Context())
			if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrGone) {
				t.Fatal(err)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		here, _ := seqpacket(t)
		dev, _ := scripted(&deviceLink{here, 20 * time.Millisecond})
		_, err := dev.Clock(t.Context())
		if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "no answer within 20ms") {
			t.Fatal(err)
		}
	})
}
