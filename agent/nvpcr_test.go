// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// wire is a transport for go-tpm.
type wire struct{ net.Conn }

func (w wire) Send(command []byte) ([]byte, error) {
	if _, err := w.Write(command); err != nil {
		return nil, err
	}
	return readFrame(w)
}

// dialTPM opens the TPM without package tpm.
func dialTPM(t testing.TB, device *softtpm.TPM) wire {
	t.Helper()
	conn, err := net.Dial("unix", device.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return wire{conn}
}

const systemdIndex = 0x01d10200

// defineNvPCR makes an index as systemd does: up to version 261 its empty
// password writes (no branch), from 262 on a policy whose first branch is given.
// It is initialized as version 261 does that.
func defineNvPCR(t testing.TB, device *softtpm.TPM, policy []byte) {
	t.Helper()
	w := dialTPM(t, device)
	public := tpm2.TPMSNVPublic{
		NVIndex: systemdIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 32, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Attributes: tpm2.TPMANV{NT: tpm2.TPMNTExtend, PolicyWrite: policy != nil, AuthWrite: policy == nil, OwnerWrite: true,
			OwnerRead: true, AuthRead: true, ClearSTClear: true, Orderly: true},
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(w); err != nil {
		t.Fatal(err)
	}
	extendNvPCR(t, device, 1)
}

// extendNvPCR has the owner extend the index, as anybody might.
func extendNvPCR(t testing.TB, device *softtpm.TPM, b byte) {
	t.Helper()
	command := []byte{0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x36, 0x40, 0, 0, 1}
	command = binary.BigEndian.AppendUint32(command, systemdIndex)
	command = append(command, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 32)
	command = append(append(command, b), make([]byte, 31)...)
	binary.BigEndian.PutUint32(command[2:], uint32(len(command)))
	answer, err := dialTPM(t, device).Send(command)
	if err != nil || binary.BigEndian.Uint32(answer[6:]) != 0 {
		t.Fatalf("TPM2_NV_Extend: %x, %v", answer, err)
	}
}

func nvpcrRig(t *testing.T) (*rig, *softtpm.TPM) {
	r := newRig(t)
	device := r.withTPM()
	defineNvPCR(t, device, nil)
	r.anchor = Anchor{Mode: evidence.AnchorNvPCR, Index: systemdIndex}
	dev, err := tpm.Open(device.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	register, err := dev.NvPCR(t.Context(), systemdIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.double.policy.NvPCRs = []evidence.Bytes{register.Name()}
	r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
	return r, device
}

func TestAnchoredInNvPCR(t *testing.T) {
	r, device := nvpcrRig(t)
	r.start()
	first := r.proved()
	if g := first.Register; first.Header.Anchor != evidence.AnchorNvPCR || g.From != 0 || g.Base.IsZero() || g.Latch != 0 || len(g.Tail) != 64 {
		t.Errorf("anchor %s, register %+v", first.Header.Anchor, g)
	}
	if g := r.proved().Register; g.From != 2 || len(g.Tail) != 32 {
		t.Errorf("register %+v", g)
	}
	r.end()
	r.again()
	if b := r.proved(); b.Header.Anchor != evidence.AnchorNvPCR || b.Register.From != 3 {
		t.Errorf("started again: %s, register %+v", b.Header.Anchor, b.Register)
	}
	if err := device.Resume(); err != nil {
		t.Fatal(err)
	}
	if b := r.proved(); b.Header.Anchor != evidence.AnchorNvPCR || b.Register.From == 0 || !strings.HasSuffix(r.epochs(), reasonResume) {
		t.Errorf("after sleep: %s, register %+v, epochs %s", b.Header.Anchor, b.Register, r.epochs())
	}
	// systemd, or anybody, writes to it.
	extendNvPCR(t, device, 7)
	if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
		t.Errorf("written to: %s", b.Header.Anchor)
	}
	r.end()
	r.again()
	if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
		t.Errorf("written to, and started again: %s", b.Header.Anchor)
	}
	r.end()
	if err := device.Reset(); err != nil {
		t.Fatal(err)
	}
	// systemd has not been there yet: that is for the operator to mend.
	r.endsEarly = true
	r.again()
	if r.ended == nil || !errors.Is(r.ended, ErrAnchor) || !strings.Contains(r.ended.Error(), "never written") {
		t.Errorf("not initialized: %v", r.ended)
	}
	r.endsEarly = false
	extendNvPCR(t, device, 1)
	r.again()
	if b := r.proved(); b.Header.Anchor != evidence.AnchorNvPCR || b.Register.From != 0 {
		t.Errorf("after a reset: %s, register %+v", b.Header.Anchor, b.Register)
	}
}

// TestFirstBranch: which of the files that systemd leaves belongs to the index
// the policy says.
func TestFirstBranch(t *testing.T) {
	r := newRig(t)
	device := r.withTPM()
	// branch = PolicyNvWritten(NO), the other PolicyNvWritten(YES)
	written := func(set byte) [32]byte {
		return sha256.Sum256(append(make([]byte, 32), 0, 0, 1, 0x8f, set))
	}
	initial, later := written(0), written(1)
	or := append(make([]byte, 32), 0, 0, 1, 0x71)
	policy := sha256.Sum256(append(append(or, initial[:]...), later[:]...))
	defineNvPCR(t, device, policy[:])
	chip, err := r.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	for name, c := range map[string]struct {
		files map[string][]byte
		ok    bool
	}{
		"none":         {nil, false},
		"of another":   {map[string][]byte{"a.auth": make([]byte, 32)}, false},
		"binary":       {map[string][]byte{"a.auth": make([]byte, 32), "b.auth": initial[:]}, true},
		"hexadecimal":  {map[string][]byte{"a.auth": []byte(hex.EncodeToString(initial[:]) + "\n")}, true},
		"another name": {map[string][]byte{"a.other": initial[:]}, false},
		"too long":     {map[string][]byte{"a.auth": make([]byte, evidence.MaxText+1), "b.auth": append(initial[:], 0)}, false},
	} {
		dir := t.TempDir()
		for file, data := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		register, err := openNvPCR(t.Context(), chip, systemdIndex, dir)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.ok {
			if err := register.Extend(t.Context(), evidence.Hash{1}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// fillNV defines indexes of that size from first on until there is no room.
func fillNV(t testing.TB, device *softtpm.TPM, first tpm2.TPMHandle, size uint16) {
	t.Helper()
	w := dialTPM(t, device)
	for index := first; ; index++ {
		_, err := tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
				Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true}}),
		}.Execute(w)
		if errors.Is(err, tpm2.TPMRCNVSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoRegister: a TPM that has no register for the log is a mistake that the
// operator has to mend, or to accept.
func TestNoRegister(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*testing.T, *softtpm.TPM)
		says    string
	}{
		"owner's password": {func(t *testing.T, d *softtpm.TPM) {
			_, err := tpm2.HierarchyChangeAuth{
				AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
				NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("secret")},
			}.Execute(dialTPM(t, d))
			if err != nil {
				t.Fatal(err)
			}
		}, "tpm2_changeauth -c owner"},
		"NV memory full": {func(t *testing.T, d *softtpm.TPM) {
			fillNV(t, d, 0x01800000, 2048)
			fillNV(t, d, 0x01880000, 8)
		}, "tpm2_nvundefine"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			device := r.withTPM()
			c.happens(t, device)
			r.endsEarly = true
			r.start()
			if r.ended == nil || !errors.Is(r.ended, ErrAnchor) || !strings.Contains(r.ended.Error(), c.says) {
				t.Errorf("ended with %v", r.ended)
			}
			if r.agent.log.Size() != 0 {
				t.Error("an epoch began")
			}
			r.endsEarly = false
			r.anchor.Mode = evidence.AnchorNone
			r.again()
			if b := r.proved(); b.Header.Anchor != evidence.AnchorNone || b.Register != nil {
				t.Errorf("anchor %s", b.Header.Anchor)
			}
		})
	}
}

// TestIndexInUse: somebody else's index is left alone, and a register of our
// own that another configuration made is replaced after a reset.
func TestIndexInUse(t *testing.T) {
	r := newRig(t)
	device := r.withTPM()
	r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
	r.double.policy.Latches = []int{11, 13}
	r.start()
	r.proved()
	r.end()
	r.anchor.Latch = 11
	r.again()
	if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
		t.Errorf("another latch in the same boot: %s", b.Header.Anchor)
	}
	r.end()
	if err := device.Reset(); err != nil {
		t.Fatal(err)
	}
	r.again()
	if b := r.proved(); b.Header.Anchor != evidence.AnchorNVLatch || b.Register.Latch != 11 {
		t.Errorf("another latch after a reset: %s", b.Header.Anchor)
	}

	other := newRig(t)
	device = other.withTPM()
	other.double.policy.Anchors = append(slices.Clone(other.double.policy.Anchors), evidence.AnchorBroken)
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: tpm.DefaultIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true}}),
	}.Execute(dialTPM(t, device))
	if err != nil {
		t.Fatal(err)
	}
	other.start()
	if b := other.proved(); b.Header.Anchor != evidence.AnchorBroken {
		t.Errorf("an index that is in use: %s", b.Header.Anchor)
	}
	if s, err := other.client().Status(context.Background()); err != nil || !strings.Contains(s.AnchorFault, "-nv-index") {
		t.Errorf("status %+v, %v", s, err)
	}
}
