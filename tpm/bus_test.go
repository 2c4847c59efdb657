// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// scriptLink answers the n-th command with the n-th code, and the rest as a
// TPM that has nothing to say.
type scriptLink struct {
	codes []tpm2.TPMRC
	err   error // after the codes
	count int
}

func (l *scriptLink) exchange([]byte) ([]byte, error) {
	l.count++
	if l.count <= len(l.codes) {
		return answer(tpm2.TPMSTNoSessions, l.codes[l.count-1]), nil
	}
	if l.err != nil {
		return nil, l.err
	}
	return answer(tpm2.TPMSTNoSessions, tpm2.TPMRCSuccess, make([]byte, 25)...), nil
}

func (l *scriptLink) Close() error { return nil }

// scripted is a Device on such a link, and the time that it waited.
func scripted(l link) (*Device, *time.Duration) {
	waited := new(time.Duration)
	return &Device{bus: &bus{path: "script", link: l, sleep: func(ctx context.Context, d time.Duration) error {
		*waited += d
		return ctx.Err()
	}}}, waited
}

func TestRetriesWhatTheTPMPutsOff(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate} {
		l := &scriptLink{codes: []tpm2.TPMRC{rc, rc, rc}}
		dev, waited := scripted(l)
		if _, err := dev.Clock(t.Context()); err != nil {
			t.Errorf("%v: %v", rc, err)
		}
		if l.count != 4 || *waited != 7*firstWait {
			t.Errorf("%v: %d commands with %v between them, want 4 with %v", rc, l.count, *waited, 7*firstWait)
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	for rc, patience := range map[tpm2.TPMRC]time.Duration{
		tpm2.TPMRCRetry: busyPatience, tpm2.TPMRCTesting: busyPatience, tpm2.TPMRCNVRate: ratePatience,
	} {
		l := &scriptLink{}
		for range 1000 {
			l.codes = append(l.codes, rc)
		}
		dev, waited := scripted(l)
		_, err := dev.Clock(t.Context())
		if !errors.Is(err, rc) {
			t.Errorf("%v: %v", rc, err)
		}
		if *waited > patience || *waited < patience-longestWait {
			t.Errorf("%v: waited %v, want %v", rc, *waited, patience)
		}
	}
}

func TestDoesNotRetryWhatIsFinal(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCLockout, tpm2.TPMRCFailure, tpm2.TPMRCObjectMemory, tpm2.TPMRCAuthFail} {
		l := &scriptLink{codes: []tpm2.TPMRC{rc}}
		dev, _ := scripted(l)
		if _, err := dev.Clock(t.Context()); !errors.Is(err, rc) || l.count != 1 {
			t.Errorf("%v: %v after %d commands", rc, err, l.count)
		}
	}
}

func TestRetryHonoursContext(t *testing.T) {
	l := &scriptLink{codes: []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCRetry}}
	dev := &Device{bus: &bus{path: "script", link: l, sleep: sleep}}
	ctx, cancel := context.WithTimeout(t.Context(), firstWait/2)
	defer cancel()
	if _, err := dev.Clock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestGoneStaysGone(t *testing.T) {
	l := &scriptLink{codes: []tpm2.TPMRC{tpm2.TPMRCRetry}, err: fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)}
	dev, _ := scripted(l)
	for range 3 {
		if _, err := dev.Clock(t.Context()); !errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
	}
	if l.count != 2 {
		t.Errorf("%d commands on a link that is out of step, want none after the second", l.count)
	}
}
