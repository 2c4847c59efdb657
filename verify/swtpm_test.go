// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// machine is a host with a TPM that really quotes.
type machine struct {
	t    *testing.T
	chip *softtpm.TPM
	dev  *tpm.Device
	ak   *tpm.AK
	last *verify.State
	seq  uint64
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	require.Need(t, "tpm", softtpm.Available())
	dir, err := os.MkdirTemp("", "v") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	chip, err := softtpm.Start(dir, softtpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, chip: chip}
	t.Cleanup(func() {
		m.close()
		if err := chip.Stop(); err != nil {
			t.Error(err)
		}
	})
	m.open()
	return m
}

func (m *machine) open() {
	m.t.Helper()
	var err error
	if m.dev, err = tpm.Open(m.chip.Path()); err != nil {
		m.t.Fatal(err)
	}
	if m.ak, err = m.dev.CreateAK(m.t.Context(), "1"); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) close() {
	if err := m.dev.Close(); err != nil {
		m.t.Error(err)
	}
}

// power does something to the TPM's power, between two connections.
func (m *machine) power(cycle func() error) {
	m.t.Helper()
	m.close()
	if err := cycle(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
}

// world is the sample host with this machine's TPM in it. Each one is a step
// further in time.
func (m *machine) world(epoch uint64) *testbundle.World {
	w := testbundle.First()
	if m.last != nil {
		w = testbundle.Second()
		w.Last, w.Known = m.last, m.last.Size
		if epoch != m.last.Epoch {
			w = testbundle.Rebooted()
			w.Last = m.last
		}
	}
	m.seq++
	w.Epoch, w.Sequence = epoch, m.seq
	w.AKPublic, w.AKName = m.ak.Public(), m.ak.Name()
	w.Chip = &testbundle.Chip{Name: m.ak.Name(), Quote: func(q evidence.Hash) (evidence.Quote, error) {
		return m.ak.Quote(context.Background(), q)
	}, Banks: func(q evidence.Hash) (*evidence.Banks, error) {
		response, signed, err := m.ak.AuditBanks(context.Background(), q)
		return &evidence.Banks{Response: response, Certified: signed}, err
	}}
	return w
}

// refused builds and verifies a world that has to be refused.
func refused(t *testing.T, w *testbundle.World, want verify.Code) {
	t.Helper()
	b, err := evidence.Parse(w.Build().Bytes)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Bundle(b, w.Host(), w.Challenge(), w.Policy, w.Now)
	if err == nil || r.OK() {
		t.Fatalf("accepted, want %s", want)
	}
	if got := code(t, err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestRealQuote takes a TPM from first contact on.
func TestRealQuote(t *testing.T) {
	m := newMachine(t)
	if err := verify.CheckAK(m.ak.Public()); err != nil {
		t.Fatal(err)
	}
	r, built := accept(t, m.world(1))
	clock, err := m.dev.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := r.Next()
	if next.ResetCount != clock.ResetCount || next.RestartCount != clock.RestartCount || next.Clock > uint64(clock.Time.Milliseconds()) || next.Firmware == 0 {
		t.Errorf("state %+v, the TPM says %+v: its counters are obfuscated", next, clock)
	}
	values, err := m.dev.ReadPCRs(t.Context(), []uint8{0, 15})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.PCRs().At(15); string(got[:]) != string(values[1].Digest) {
		t.Errorf("PCR 15 is %v, the TPM says %v", got, values[1].Digest)
	}
	if err := opinion(m.ak.Public(), built.Bundle); err != nil {
		t.Errorf("go-attestation: %v", err)
	}
	m.last = &next
	again, _ := accept(t, m.world(1))
	if again.Next().Clock < next.Clock || !again.Next().ResetSince.Equal(next.ResetSince) {
		t.Errorf("second contact: %+v after %+v", again.Next(), next)
	}
}

// TestPowerEndsTheEpoch: a reset, a hibernation and a suspend are all seen, and
// all need a new epoch, which is then accepted.
func TestPowerEndsTheEpoch(t *testing.T) {
	m := newMachine(t)
	for _, power := range []struct {
		name  string
		cycle func() error
	}{{"reset", m.chip.Reset}, {"hibernation", m.chip.Restart}, {"suspend", m.chip.Resume}} {
		t.Run(power.name, func(t *testing.T) {
			m.t, m.last, m.seq = t, nil, 0
			r, _ := accept(t, m.world(1))
			next := r.Next()
			m.last = &next
			m.power(power.cycle)
			refused(t, m.world(1), "E_EPOCH")
			r, _ = accept(t, m.world(2))
			if after := r.Next(); after.Epoch != 2 || after.ResetCount == next.ResetCount && after.RestartCount == next.RestartCount {
				t.Errorf("after the %s: %+v", power.name, after)
			}
		})
	}
	m.t = t
}

// TestPowerCut: after an unclean end the TPM calls its clock unsafe, and only a
// policy with grace accepts it, for that long.
func TestPowerCut(t *testing.T) {
	m := newMachine(t)
	m.power(m.chip.PowerCut)
	clock, err := m.dev.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if clock.Safe {
		t.Fatal("the clock is safe after a power cut; this would prove nothing")
	}
	refused(t, m.world(1), "E_CLOCK_UNSAFE")
	w := m.world(1)
	w.Policy.UnsafeClockGrace = 2 * time.Minute
	r, _ := accept(t, w)
	next := r.Next()
	m.last = &next
	w = m.world(1) // five minutes later
	w.Policy.UnsafeClockGrace = 2 * time.Minute
	refused(t, w, "E_CLOCK_UNSAFE")
}

// TestAnotherTPM: a good quote of a TPM that is not this host's.
func TestAnotherTPM(t *testing.T) {
	here, there := newMachine(t), newMachine(t)
	w := here.world(1)
	w.Chip.Quote = func(q evidence.Hash) (evidence.Quote, error) { return there.ak.Quote(context.Background(), q) }
	refused(t, w, "E_SIGNATURE")
}

// TestNoQuote: what the key signs beside quotes is no quote.
func TestNoQuote(t *testing.T) {
	m := newMachine(t)
	creation, err := m.ak.CertifyCreation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := m.world(1)
	w.Chip.Quote = func(q evidence.Hash) (evidence.Quote, error) {
		quote, err := m.ak.Quote(context.Background(), q)
		if err != nil {
			return quote, fmt.Errorf("quote: %w", err)
		}
		quote.Attest, quote.Signature = creation.Attest, creation.Signature
		return quote, nil
	}
	refused(t, w, "E_TYPE")
}
