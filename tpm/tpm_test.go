// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// startTPM runs a software TPM for the time of the test.
func startTPM(t testing.TB, opts softtpm.Options) *softtpm.TPM {
	t.Helper()
	require.Need(t, "tpm", softtpm.Available())
	chip, err := softtpm.Start(shortDir(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chip.Stop(); err != nil {
			t.Error(err)
		}
	})
	return chip
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, path string) *Device {
	t.Helper()
	dev, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func createAK(t testing.TB, dev *Device, rotation string) *AK {
	t.Helper()
	ak, err := dev.CreateAK(t.Context(), rotation)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

// answer builds a TPM's answer of tag and code with a body.
func answer(tag tpm2.TPMST, rc tpm2.TPMRC, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(b, uint32(headerSize+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(rc))
	return append(b, body...)
}

// listen serves a socket on which each command is answered by reply; nil ends
// the connection.
func listen(t *testing.T, reply func(command []byte) []byte) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, maxFrame)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					b := reply(buf[:n])
					if b == nil {
						return
					}
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return path
}

func TestOpenSaysWhatToDo(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	family := func(value uint32) []byte {
		body := []byte{0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0}
		return answer(tpm2.TPMSTNoSessions, tpm2.TPMRCSuccess, binary.BigEndian.AppendUint32(body, value)...)
	}
	replies := func(b []byte) string { return listen(t, func([]byte) []byte { return b }) }
	for _, c := range []struct {
		name, path string
		want       error
		says       string
	}{
		{"nothing there", filepath.Join(dir, "none"), ErrNoDevice, "enable the TPM"},
		{"dead socket", dead, ErrNoDevice, "is the software TPM running"},
		{"regular file", file, ErrNotTPM, "neither a character device nor a unix socket"},
		{"directory", dir, ErrNotTPM, "neither"},
		{"other device", "/dev/null", ErrNotTPM, "0 bytes"},
		{"hangs up", replies(nil), ErrGone, "EOF"},
		{"TPM 1.2", replies([]byte{0x00, 0xc4, 0, 0, 0, 10, 0, 0, 0, 10}), ErrNotTPM, "tag 0x00c4"},
		{"some web server", replies([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), ErrNotTPM, "tag 0x4854"},
		{"other family", replies(family(0x312e3200)), ErrNotTPM, "family 0x312e3200"},
		{"empty success", replies(answer(tpm2.TPMSTNoSessions, 0)), ErrNotTPM, "no such property"},
		{"not started", replies(answer(tpm2.TPMSTNoSessions, tpm2.TPMRCInitialize)), nil, "TPM2_Startup"},
		{"failure mode", replies(answer(tpm2.TPMSTNoSessions, tpm2.TPMRCFailure)), tpm2.TPMRCFailure, "TPM_RC_FAILURE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev, err := Open(c.path)
			if err == nil {
				dev.Close()
				t.Fatal("opened")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error is %q, want one that is %q", err, c.want)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %q, want it to say %q", err, c.says)
			}
		})
	}
	for cause, says := range map[error]string{
		&fs.PathError{Op: "open", Path: "p", Err: syscall.EACCES}: "run as root",
		&fs.PathError{Op: "open", Path: "p", Err: syscall.ENODEV}: "load its driver",
		&fs.PathError{Op: "open", Path: "p", Err: syscall.EBUSY}:  "/dev/tpmrm0",
		&fs.PathError{Op: "open", Path: "p", Err: syscall.EIO}:    "input/output error",
	} {
		if err := openError("p", cause); !strings.Contains(err.Error(), says) {
			t.Errorf("%v: error is %q, want it to say %q", cause, err, says)
		}
	}
	if err := openError("p", syscall.EACCES); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v is no fs.ErrPermission", err)
	}
}

// transient lists what is loaded, through a connection of its own.
func transient(t *testing.T, path string) (handles []tpm2.TPMHandle) {
	t.Helper()
	dev := open(t, path)
	// Loaded sessions are asked for as 0x02..., saved ones as 0x03...; policy
	// sessions are 0x03... in either list.
	for first, last := range map[tpm2.TPMHandle]tpm2.TPMHandle{0x80000000: 0x80ffffff, 0x02000000: 0x03ffffff, 0x03000000: 0x03ffffff} {
		some, err := dev.handles(t.Context(), first, last)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, some...)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	return handles
}

// On swtpm's own socket nobody cleans up after us.
func TestCloseLeavesNothingLoaded(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	for range 4 { // more often than there are object slots
		dev, err := Open(chip.RawPath())
		if err != nil {
			t.Fatal(err)
		}
		ak := createAK(t, dev, "1")
		if _, err := dev.EKs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := ak.ActivateCredential(t.Context(), EK{Algorithm: "ecc-p256"}, nil, nil); err == nil {
			t.Fatal("activated nothing")
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Fatalf("second Close: %v", err)
		}
		if _, err := dev.Clock(t.Context()); !errors.Is(err, ErrGone) {
			t.Fatalf("after Close: %v", err)
		}
		if left := transient(t, chip.RawPath()); len(left) != 0 {
			t.Fatalf("left loaded: %x", left)
		}
	}
}

func TestFullTPMSaysWhatToDo(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		_, err = dev.CreateAK(t.Context(), string(rune('a'+i)))
	}
	if !errors.Is(err, tpm2.TPMRCObjectMemory) || !strings.Contains(err.Error(), "/dev/tpmrm0") {
		t.Fatal(err)
	}
}

func TestClockAndProperties(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	before, err := dev.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !before.Safe {
		t.Error("clock of a new TPM is not safe")
	}
	p, err := dev.Properties(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Manufacturer != "IBM" || !strings.Contains(p.Vendor, "SW") || p.Firmware == 0 || p.Revision < 138 {
		t.Errorf("properties %+v", p)
	}
	if !strings.Contains(strings.Join(p.Banks, " "), "sha256") {
		t.Errorf("banks %q", p.Banks)
	}
	if err := chip.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.Clock(t.Context()); !errors.Is(err, ErrGone) {
		t.Fatalf("after the power cut: %v", err)
	}
	after, err := open(t, chip.Path()).Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.ResetCount != before.ResetCount+1 || after.Safe {
		t.Errorf("after the power cut: %+v, before: %+v", after, before)
	}
}

func TestContextIsLookedAtBetweenCommands(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ak.Quote(ctx, [32]byte{1}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := ak.Quote(t.Context(), [32]byte{1}); err != nil {
		t.Fatalf("after a cancelled one: %v", err)
	}
}
