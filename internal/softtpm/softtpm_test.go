// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/require"
)

// start runs a TPM in a directory short enough for a socket path.
func start(t *testing.T, opts Options) *TPM {
	t.Helper()
	require.Need(t, "tpm", Available())
	dir, err := os.MkdirTemp("", "softtpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	chip, err := Start(dir, opts)
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

func dial(t *testing.T, path string) wire {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return wire{conn}
}

func readPCR(t *testing.T, w wire, pcr uint) []byte {
	t.Helper()
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)}}}}.Execute(w)
	if err != nil {
		t.Fatal(err)
	}
	if len(rsp.PCRValues.Digests) != 1 {
		t.Fatalf("PCR %d: %d values", pcr, len(rsp.PCRValues.Digests))
	}
	return rsp.PCRValues.Digests[0].Buffer
}

func clock(t *testing.T, chip *TPM) tpm2.TPMSClockInfo {
	t.Helper()
	rsp, err := tpm2.ReadClock{}.Execute(dial(t, chip.Path()))
	if err != nil {
		t.Fatal(err)
	}
	return rsp.CurrentTime.ClockInfo
}

func createKey(t *testing.T, w wire) tpm2.TPMHandle {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(w)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.ObjectHandle
}

func TestManufactureWritesOnlyInItsDirectory(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	require.Need(t, "tpm", Available())
	before, _ := filepath.Glob("/var/lib/swtpm-localca/*")
	dir, err := os.MkdirTemp("/tmp", "softtpm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	chip, err := Start(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := chip.Stop(); err != nil {
			t.Error(err)
		}
	}()
	after, _ := filepath.Glob("/var/lib/swtpm-localca/*")
	if len(after) != len(before) {
		t.Errorf("the machine's own authority changed: %q, was %q", after, before)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left behind outside the directory: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "manufacture-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	for _, name := range []string{chip.RootCA(), chip.IssuerCA()} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatalf("%s: no PEM block", name)
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err != nil || !cert.IsCA {
			t.Errorf("%s: not a CA certificate: %v", name, err)
		}
	}
}

func TestStartRefusesLongPath(t *testing.T) {
	long := filepath.Join(t.TempDir(),
		"a-directory-name-that-is-much-too-long-for-the-path-of-a-unix-socket-on-this-system-whatever-it-is-for")
	if _, err := Start(long, Options{}); err == nil {
		t.Fatal("started with a socket path that does not fit")
	}
}

func TestFirmwareMeasuresEachBoot(t *testing.T) {
	chip := start(t, Options{Blank: true, Firmware: true})
	zero := make([]byte, 32)
	first := readPCR(t, dial(t, chip.Path()), 7)
	if string(first) == string(zero) {
		t.Fatal("PCR 7 is zero after the boot")
	}
	if err := chip.Measure(7, sha256.Sum256([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	if got := readPCR(t, dial(t, chip.Path()), 7); string(got) == string(first) {
		t.Fatal("PCR 7 did not move")
	}
	if err := chip.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := readPCR(t, dial(t, chip.Path()), 7); string(got) != string(first) {
		t.Fatalf("PCR 7 after the reset is %x, want %x", got, first)
	}
	if err := chip.Measure(24, sha256.Sum256(nil)); err == nil {
		t.Fatal("measured into PCR 24")
	}
}

func TestPowerCycles(t *testing.T) {
	chip := start(t, Options{Blank: true})
	if err := chip.Measure(10, sha256.Sum256([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	zero := string(make([]byte, 32))
	first := clock(t, chip)

	if err := chip.Resume(); err != nil {
		t.Fatal(err)
	}
	c := clock(t, chip)
	if c.ResetCount != first.ResetCount || c.RestartCount != first.RestartCount+1 {
		t.Errorf("after Resume: reset %d restart %d, was %d %d", c.ResetCount, c.RestartCount, first.ResetCount, first.RestartCount)
	}
	if string(readPCR(t, dial(t, chip.Path()), 10)) == zero {
		t.Error("Resume lost PCR 10")
	}

	if err := chip.Restart(); err != nil {
		t.Fatal(err)
	}
	c = clock(t, chip)
	if c.ResetCount != first.ResetCount || c.RestartCount != first.RestartCount+2 {
		t.Errorf("after Restart: reset %d restart %d, was %d %d", c.ResetCount, c.RestartCount, first.ResetCount, first.RestartCount)
	}
	if string(readPCR(t, dial(t, chip.Path()), 10)) != zero {
		t.Error("Restart kept PCR 10")
	}

	if err := chip.Reset(); err != nil {
		t.Fatal(err)
	}
	if c = clock(t, chip); c.ResetCount != first.ResetCount+1 || !bool(c.Safe) {
		t.Errorf("after Reset: reset %d safe %v, want %d true", c.ResetCount, c.Safe, first.ResetCount+1)
	}

	if err := chip.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if c = clock(t, chip); c.ResetCount != first.ResetCount+2 || bool(c.Safe) {
		t.Errorf("after PowerCut: reset %d safe %v, want %d false", c.ResetCount, c.Safe, first.ResetCount+2)
	}

	if err := chip.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.ReadClock{}).Execute(dial(t, chip.Path())); err == nil {
		t.Error("a killed TPM answered")
	}
	if err := chip.Reset(); err != nil {
		t.Fatal(err)
	}
	clock(t, chip)
}

// A client that dies must not use up the TPM's three object slots.
func TestRelayFlushesWhatAClientLeaves(t *testing.T) {
	chip := start(t, Options{Blank: true})
	for range 5 {
		w := dial(t, chip.Path())
		createKey(t, w)
		createKey(t, w)
		w.conn.Close()
	}
	// Two clients at once, each with a key of its own.
	a, b := dial(t, chip.Path()), dial(t, chip.Path())
	createKey(t, a)
	key := createKey(t, b)
	a.conn.Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 16}.Execute(b)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles.Handle) == 1 && handles.Handle[0] == key {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("handles %v, want only %v", handles.Handle, key)
		}
	}
}

func TestDelayIsForQuotesOnly(t *testing.T) {
	chip := start(t, Options{Blank: true})
	chip.SetDelay(300*time.Millisecond, 0)
	w := dial(t, chip.Path())
	began := time.Now()
	readPCR(t, w, 0)
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("PCR_Read took %v", took)
	}
	began = time.Now()
	// The TPM refuses this quote; what counts is when it does.
	_, err := tpm2.Quote{SignHandle: tpm2.TPMRHNull, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(w)
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("Quote took %v (%v)", took, err)
	}
	if errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
