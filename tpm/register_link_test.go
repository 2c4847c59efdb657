// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

// between stands between the Device and the TPM. What it answers itself does
// not reach the TPM.
type between struct {
	link
	answer func(code tpm2.TPMCC) []byte // nil: pass the command on
}

func (l *between) exchange(command []byte) ([]byte, error) {
	if answer := l.answer(commandCode(command)); answer != nil {
		return answer, nil
	}
	return l.link.exchange(command)
}

// interpose puts answer between dev and its TPM.
func interpose(dev *Device, answer func(tpm2.TPMCC) []byte) {
	dev.bus.mu.Lock()
	defer dev.bus.mu.Unlock()
	if l, ok := dev.bus.link.(*between); ok {
		l.answer = answer
		return
	}
	dev.bus.link = &between{dev.bus.link, answer}
}

// yes is success without parameters, and with the answer to one session.
var yes = answer(tpm2.TPMSTSessions, tpm2.TPMRCSuccess, 0, 0, 0, 0, 0, 0, 1, 0, 0)

// drop says that every command of this code was done, and does none of them.
func drop(dropped tpm2.TPMCC) func(tpm2.TPMCC) []byte {
	return func(code tpm2.TPMCC) []byte {
		if code == dropped {
			return slices.Clone(yes)
		}
		return nil
	}
}

func TestDroppedExtendsAreNoticed(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	r, _ := register(t, dev, RegisterOptions{}, StageAbsent)
	must(t, r.Define(t.Context()))

	interpose(dev, drop(tpm2.TPMCCNVExtend))
	if err := r.Open(t.Context(), evidence.Hash{1}); err == nil {
		t.Error("opened without a first write")
	}
	pass := func(tpm2.TPMCC) []byte { return nil }
	interpose(dev, pass)
	must(t, r.Open(t.Context(), evidence.Hash{2}))

	interpose(dev, drop(tpm2.TPMCCPCRExtend))
	if err := r.CloseLatch(t.Context(), bootID); !errors.Is(err, ErrDropped) {
		t.Errorf("closed a latch that is open: %v", err)
	}
	interpose(dev, pass)
	must(t, r.CloseLatch(t.Context(), bootID))

	// Later extends cost no second look: the certified value tells.
	interpose(dev, drop(tpm2.TPMCCNVExtend))
	must(t, r.Extend(t.Context(), evidence.Hash{3}))
	interpose(dev, pass)
	_, value, err := r.Certify(t.Context(), ak, evidence.Hash{9})
	if want := extended(evidence.Hash{}, evidence.Hash{2}); err != nil || value != want {
		t.Errorf("certified %x, want %x: %v", value, want, err)
	}
}

// One who changes what is extended first is noticed too.
func TestOpenedWithAnotherValue(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	r, _ := register(t, dev, RegisterOptions{}, StageAbsent)
	must(t, r.Define(t.Context()))
	inner := dev.bus.link
	dev.bus.link = linkFunc{inner, func(command []byte) ([]byte, error) {
		if commandCode(command) == tpm2.TPMCCNVExtend {
			command = slices.Clone(command)
			command[len(command)-1] ^= 1
		}
		return inner.exchange(command)
	}}
	if err := r.Open(t.Context(), evidence.Hash{1}); !errors.Is(err, ErrDropped) {
		t.Error(err)
	}
}

type linkFunc struct {
	link
	f func([]byte) ([]byte, error)
}

func (l linkFunc) exchange(command []byte) ([]byte, error) { return l.f(command) }

// IMA extends PCR 10 at any time, also between PolicyPCR and the extend.
func TestOpenWhilePCRsMove(t *testing.T) {
	for _, moves := range []int{1, pcrAttempts - 1, pcrAttempts} {
		chip := startTPM(t, softtpm.Options{Blank: true})
		dev := open(t, chip.Path())
		r, _ := register(t, dev, RegisterOptions{}, StageAbsent)
		must(t, r.Define(t.Context()))
		count := 0
		interpose(dev, func(code tpm2.TPMCC) []byte {
			if code == tpm2.TPMCCPolicyOR {
				if count++; count <= moves {
					must(t, chip.Measure(10, [32]byte{byte(count)}))
				}
			}
			return nil
		})
		err := r.Open(t.Context(), evidence.Hash{1})
		if moves < pcrAttempts && err != nil {
			t.Errorf("%d moves: %v", moves, err)
		}
		if moves == pcrAttempts && !errors.Is(err, tpm2.TPMRCPCRChanged) {
			t.Errorf("%d moves: %v", moves, err)
		}
	}
}

// Whatever command fails, or wherever the caller gives up, no session is left
// behind. swtpm's own socket cleans nothing up.
func TestNoSessionIsLeftBehind(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev, err := Open(chip.RawPath())
	must(t, err)
	ak := createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	loaded := func() (n int) {
		for _, first := range []tpm2.TPMHandle{0x02000000, 0x03000000, 0x80000000} {
			some, err := dev.handles(t.Context(), first, first|0x00ffffff)
			must(t, err)
			n += len(some)
		}
		return n
	}
	before := loaded()
	for name, operation := range map[string]func(context.Context) error{
		"Extend":     func(ctx context.Context) error { return r.Extend(ctx, evidence.Hash{2}) },
		"Open":       func(ctx context.Context) error { return r.Open(ctx, evidence.Hash{2}) }, // refused
		"Certify":    func(ctx context.Context) error { _, _, err := r.Certify(ctx, ak, evidence.Hash{2}); return err },
		"AuditBanks": func(ctx context.Context) error { _, _, err := ak.AuditBanks(ctx, evidence.Hash{2}); return err },
		"State":      func(ctx context.Context) error { _, err := r.State(ctx); return err },
	} {
		for n := 1; interrupt(t, dev, n, operation); n++ {
			if left := loaded(); left != before {
				t.Fatalf("%s, command %d: %d handles loaded, want %d", name, n, left, before)
			}
		}
	}
	must(t, dev.Close())
	if left := transient(t, chip.RawPath()); len(left) != 0 {
		t.Errorf("left loaded: %x", left)
	}
}

// interrupt runs operation twice: its n-th command fails, and its caller gives
// up after the n-th command. It reports whether there is an n-th command.
func interrupt(t *testing.T, dev *Device, n int, operation func(context.Context) error) bool {
	t.Helper()
	count := 0
	interpose(dev, func(code tpm2.TPMCC) []byte {
		if code == tpm2.TPMCCFlushContext {
			return nil
		}
		if count++; count == n {
			return answer(tpm2.TPMSTNoSessions, tpm2.TPMRCFailure)
		}
		return nil
	})
	if err := operation(t.Context()); count >= n && err == nil {
		t.Errorf("command %d fails: no error", n)
	}
	reached := count >= n
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count = 0
	interpose(dev, func(tpm2.TPMCC) []byte {
		if count++; count == n {
			cancel()
		}
		return nil
	})
	_ = operation(ctx)
	interpose(dev, func(tpm2.TPMCC) []byte { return nil })
	return reached
}

func TestManyExtendsLeaveNothingLoaded(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev, err := Open(chip.RawPath())
	must(t, err)
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{})
	value := extended(evidence.Hash{}, evidence.Hash{})
	for i := range 10000 {
		c := evidence.Hash{byte(i), byte(i >> 8)}
		must(t, r.Extend(t.Context(), c))
		value = extended(value, c)
	}
	if got, err := r.Read(t.Context()); err != nil || got != value {
		t.Errorf("register is %x, want %x: %v", got, value, err)
	}
	if n := len(dev.keys.loaded); n != 0 {
		t.Errorf("%d handles kept account of", n)
	}
	must(t, dev.Close())
	if left := transient(t, chip.RawPath()); len(left) != 0 {
		t.Errorf("left loaded: %x", left)
	}
}

// What is no answer to TPM2_NV_Extend is not taken for one.
func TestNVExtendAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		ok     bool
	}{
		"good":            {yes, true},
		"with a nonce":    {answer(tpm2.TPMSTSessions, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0), true},
		"with parameters": {answer(tpm2.TPMSTSessions, 0, 0, 0, 0, 1, 7, 0, 0, 1, 0, 0), false},
		"without session": {answer(tpm2.TPMSTSessions, 0, 0, 0, 0, 0), false},
		"without a word":  {answer(tpm2.TPMSTNoSessions, 0), false},
		"cut off":         {answer(tpm2.TPMSTSessions, 0, 0, 0, 0, 0, 0, 0, 1), false},
		"more":            {answer(tpm2.TPMSTSessions, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), false},
		"refused":         {answer(tpm2.TPMSTNoSessions, tpm2.TPMRCPolicyFail), false},
	} {
		dev := &Device{bus: &bus{path: "canned", link: &between{nil, func(tpm2.TPMCC) []byte { return c.answer }},
			sleep: func(context.Context, time.Duration) error { return errors.New("impatient") }}}
		err := nvExtend(t.Context(), dev.bus, DefaultIndex, tpm2.TPMRSPW, make([]byte, 32))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A register that is read has 32 bytes, whatever the TPM says.
func TestReadOfAnotherSize(t *testing.T) {
	for _, size := range []byte{0, 31, 33} {
		body := append([]byte{0, 0, 0, 2 + size, 0, size}, make([]byte, size)...)
		dev, _ := scripted(&between{nil, func(tpm2.TPMCC) []byte {
			return answer(tpm2.TPMSTSessions, tpm2.TPMRCSuccess, append(slices.Clone(body), 0, 0, 1, 0, 0)...)
		}})
		r := &Register{dev: dev, index: DefaultIndex, name: RegisterName(DefaultIndex, DefaultLatch)}
		if value, err := r.Read(t.Context()); err == nil {
			t.Errorf("%d bytes: %x", size, value)
		}
	}
}

// The certified part is the whole register.
func TestCertifiedPart(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	for _, part := range [][2]uint16{{0, 32}, {0, 31}, {1, 31}, {0, 0}} {
		rsp, err := run(t.Context(), dev.bus, tpm2.NVCertify{
			SignHandle: ak.key.auth(), AuthHandle: r.auth(), NVIndex: tpm2.NamedHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: r.name}},
			QualifyingData: tpm2.TPM2BData{Buffer: make([]byte, 32)}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Offset: part[0], Size: part[1]})
		if err != nil && part[1] == 0 {
			continue // a TPM may refuse that
		}
		must(t, err)
		if _, err := r.checkCertified(ak, rsp.CertifyInfo.Bytes(), evidence.Hash{}); (err == nil) != (part == [2]uint16{0, 32}) {
			t.Errorf("%d bytes at %d: %v", part[1], part[0], err)
		}
	}
}

// What the TPM would say of any register is not held against this one.
func TestWarningsAreNotTheRegisters(t *testing.T) {
	for rc, about := range map[tpm2.TPMRC]bool{
		tpm2.TPMRCNVRate: false, tpm2.TPMRCRetry: false, tpm2.TPMRCLockout: false,
		tpm2.TPMRCPolicyFail: true, tpm2.TPMRCNVUninitialized: true, tpm2.TPMRCAuthUnavailable: true,
	} {
		err := (&Register{}).refused(rc)
		if !errors.Is(err, rc) || errors.Is(err, ErrRegister) != about {
			t.Errorf("%v: %v", rc, err)
		}
	}
}
