// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package tpm is the host's Trusted Platform Module: the attestation key, the
// endorsement keys, PCR values, the register that checkpoints are extended
// into, and quotes (stations 4 and 5 of the flow).
//
// Its door is the chip: /dev/tpmrm0, or the unix socket of a software TPM. In
// comes the digest of a quote header, out goes an [evidence.Quote] whose parts
// agree with one another. A TPM that vanishes is [ErrGone] and nothing else.
//
// It refuses to judge: what a quote is worth is for package verify to say, on
// another machine. It stores nothing but a register, and that only where it is
// told to ([LatchRegister.Define], Open, CloseLatch): no key is made persistent,
// and [Device.Close] flushes what was loaded. It reads no event log and no
// file.
//
//	dev, err := tpm.Open("/dev/tpmrm0")
//	ak, err := dev.CreateAK(ctx, "1")
//	register, state, err := dev.Register(ctx, tpm.RegisterOptions{})
//	err = register.Extend(ctx, checkpoint)
//	certified, value, err := register.Certify(ctx, ak, evidence.HeaderDigest(header))
//	quote, err := ak.Quote(ctx, evidence.HeaderDigest(header))
//	err = dev.Close()
package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Errors that a caller can act on.
var (
	// ErrNoDevice: there is no TPM at the path.
	ErrNoDevice = errors.New("no TPM")
	// ErrNotTPM: something is there that does not speak TPM 2.0.
	ErrNotTPM = errors.New("not a TPM 2.0")
	// ErrGone: the TPM stopped answering in the middle of things, or the Device
	// was closed. The Device cannot be used any more; Open it again.
	ErrGone = errors.New("TPM is gone")
	// ErrBank: the SHA-256 bank of PCRs is not active.
	ErrBank = errors.New("the SHA-256 PCR bank is not active: enable it in the firmware setup")
	// ErrMoving: PCRs changed faster than they could be read and quoted.
	ErrMoving = errors.New("PCRs keep changing")
)

// Device is an open TPM. Its methods may be called from several goroutines;
// the TPM runs one command at a time. A context is looked at between commands:
// a command that has been sent is waited for.
type Device struct {
	bus  *bus
	keys keyring
}

// Open opens the TPM at path: the character device /dev/tpmrm0, or the unix
// socket of a software TPM. The error says what to do about it.
func Open(path string) (*Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	var l link
	switch mode := info.Mode(); {
	case mode&os.ModeSocket != 0:
		conn, err := net.Dial("unix", path)
		if err != nil {
			return nil, openError(path, err)
		}
		l = &socketLink{conn, socketTimeout, socketKeyTimeout}
	case mode&os.ModeCharDevice != 0:
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, openError(path, err)
		}
		l = &deviceLink{os.NewFile(uintptr(fd), path), deviceTimeout}
	default:
		return nil, fmt.Errorf("%w: %s is neither a character device nor a unix socket", ErrNotTPM, path)
	}
	return newDevice(path, l)
}

// newDevice asks what is behind the link before anything else is done with it.
func newDevice(path string, l link) (*Device, error) {
	d := &Device{bus: &bus{path: path, sleep: sleep, link: l}}
	if err := d.probe(context.Background()); err != nil {
		return nil, errors.Join(err, d.bus.close())
	}
	return d, nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w at %s: enable the TPM in the firmware setup and load its driver, or name the socket of a software TPM", ErrNoDevice, path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s: nothing listens on this socket; is the software TPM running?", ErrNoDevice, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("opening TPM %s: %w: run as root, or as a member of the group that owns it", path, fs.ErrPermission)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("opening TPM %s: %w: another program has it; use /dev/tpmrm0, which is shared", path, syscall.EBUSY)
	}
	return fmt.Errorf("opening TPM: %w", err)
}

// familyTPM20 is TPM_PT_FAMILY_INDICATOR of a TPM 2.0: "2.0" and a zero byte.
const familyTPM20 = 0x322e3000

func (d *Device) probe(ctx context.Context) error {
	value, err := d.property(ctx, tpm2.TPMPTFamilyIndicator)
	switch {
	case errors.Is(err, tpm2.TPMRCInitialize):
		return fmt.Errorf("TPM %s has not been started: its firmware did not send TPM2_Startup", d.bus.path)
	case errors.Is(err, errFrame), errors.Is(err, errAbsent):
		return fmt.Errorf("%w: %s: %v", ErrNotTPM, d.bus.path, err)
	case err != nil:
		return fmt.Errorf("TPM %s: %w", d.bus.path, err)
	case value != familyTPM20:
		return fmt.Errorf("%w: %s: family 0x%08x", ErrNotTPM, d.bus.path, value)
	}
	return nil
}

// Path is what the Device was opened with.
func (d *Device) Path() string { return d.bus.path }

// Close flushes every key that was loaded and closes the TPM. Closing twice
// does nothing the second time.
func (d *Device) Close() error {
	return d.keys.close(func(handles []tpm2.TPMHandle) error {
		var errs []error
		for _, handle := range handles {
			if err := d.flush(handle); err != nil && !errors.Is(err, ErrGone) {
				errs = append(errs, err)
			}
		}
		return errors.Join(append(errs, d.bus.close())...)
	})
}

// flush removes a key or a session from the TPM's memory. It is no use to
// give up on that because a caller has run out of time.
func (d *Device) flush(handle tpm2.TPMHandle) error {
	_, err := run(context.Background(), d.bus, tpm2.FlushContext{FlushHandle: handle})
	return err
}

// Clock is the TPM's own time and its counts of resets (TPMS_CLOCK_INFO).
// These are reported, not signed; a quote carries them signed.
type Clock struct {
	Time         time.Duration // powered time since the last TPM2_Clear
	ResetCount   uint32        // TPM resets since the last TPM2_Clear
	RestartCount uint32        // restarts and resumes since the last reset
	Safe         bool          // Time has not been reported before, in spite of unclean shutdowns
}

// Clock reads the TPM's clock.
func (d *Device) Clock(ctx context.Context) (Clock, error) {
	rsp, err := run(ctx, d.bus, tpm2.ReadClock{})
	if err != nil {
		return Clock{}, err
	}
	info := rsp.CurrentTime.ClockInfo
	return Clock{
		Time:         time.Duration(info.Clock) * time.Millisecond,
		ResetCount:   info.ResetCount,
		RestartCount: info.RestartCount,
		Safe:         bool(info.Safe),
	}, nil
}
