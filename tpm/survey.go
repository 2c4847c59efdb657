// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// Survey is what can be said about a TPM without changing anything in it, for
// the person who wants to know why it does not serve. Nothing of it is signed.
type Survey struct {
	Properties Properties
	Clock      Clock
	Banks      []Bank         // active PCR banks
	PCRs       []evidence.PCR // 0 to 23 of the SHA-256 bank; nil if that is not active
	Latches    []uint8        // PCRs that may be a latch and are still zero
	Indexes    []Index        // NV indexes
	Hierarchy  Hierarchy
	Lockout    Lockout
	Room       Room
}

// Bank is an active PCR bank.
type Bank struct {
	Name string // "sha1", "sha256", ...
	PCRs []uint8
}

// Index is an NV index.
type Index struct {
	Handle  uint32
	Kind    string // "ordinary", "counter", "bits", "extend", "pin-fail", "pin-pass"
	Size    int    // bytes
	Written bool
	Name    []byte
	Err     error // why nothing is known but the handle
}

// Hierarchy says what stands in the way of making keys and indexes.
type Hierarchy struct {
	OwnerPassword, EndorsementPassword, LockoutPassword bool // has one
	OwnerEnabled, EndorsementEnabled                    bool
	OrderlyShutdown                                     bool // the last one was
}

// Lockout is the TPM's defence against guessing. The keys and registers of
// this package are exempt from it (noDA).
type Lockout struct {
	Active   bool
	Failures int64 // so far
	Limit    int64 // failures that lock the TPM
	Recovery int64 // seconds after which one failure is forgotten
}

// Room is what is in use and what is left; -1 where the TPM does not say. A TPM
// does not tell how many bytes of NV memory are left: the counters and keys that
// still fit are what there is to go by.
type Room struct {
	Indexes       int64 // NV indexes defined
	LargestIndex  int64 // bytes that one index may have
	CountersLeft  int64 // NV counters that still fit
	Persistent    int64 // persistent keys
	KeysLeft      int64 // persistent keys that still fit
	Transient     int64 // keys loaded now
	TransientLeft int64
	Sessions      int64 // sessions in use, loaded or saved
	SessionsLeft  int64
}

// Bits of two properties.
const (
	attributeOwnerAuth       = 1 << 0 // TPMA_PERMANENT (part 2 section 8.6)
	attributeEndorsementAuth = 1 << 1
	attributeLockoutAuth     = 1 << 2
	attributeInLockout       = 1 << 9
	attributeOwnerEnable     = 1 << 1 // TPMA_STARTUP_CLEAR (part 2 section 8.7)
	attributeEndorseEnable   = 1 << 2
	attributeOrderly         = 1 << 31
)

// Survey asks the TPM about itself. It changes nothing.
func (d *Device) Survey(ctx context.Context) (Survey, error) {
	var s Survey
	var err error
	if s.Properties, err = d.Properties(ctx); err != nil {
		return s, err
	}
	if s.Clock, err = d.Clock(ctx); err != nil {
		return s, err
	}
	allocated, err := d.allocated(ctx)
	if err != nil {
		return s, err
	}
	for _, selection := range allocated {
		s.Banks = append(s.Banks, Bank{bankName(selection.Hash), selected(selection)})
	}
	if err := s.pcrs(ctx, d); err != nil {
		return s, err
	}
	if err := s.properties(ctx, d); err != nil {
		return s, err
	}
	s.Indexes, err = d.indexes(ctx)
	return s, err
}

func (s *Survey) pcrs(ctx context.Context, d *Device) error {
	all := make([]uint8, pcrCount)
	for i := range all {
		all[i] = uint8(i)
	}
	var err error
	s.PCRs, err = d.ReadPCRs(ctx, all)
	if errors.Is(err, ErrBank) {
		return nil
	}
	for _, pcr := range s.PCRs {
		if mayLatch(pcr.Index) && evidence.Hash(pcr.Digest) == (evidence.Hash{}) {
			s.Latches = append(s.Latches, pcr.Index)
		}
	}
	return err
}

func (s *Survey) properties(ctx context.Context, d *Device) error {
	counts := make(map[tpm2.TPMPT]int64)
	for _, property := range []tpm2.TPMPT{
		tpm2.TPMPTPermanent, tpm2.TPMPTStartupClear, tpm2.TPMPTLockoutCounter, tpm2.TPMPTMaxAuthFail, tpm2.TPMPTLockoutInterval,
		tpm2.TPMPTHRNVIndex, tpm2.TPMPTNVIndexMax, tpm2.TPMPTNVCountersAvail, tpm2.TPMPTHRPersistent, tpm2.TPMPTHRPersistentAvail,
		tpm2.TPMPTHRTransientAvail, tpm2.TPMPTHRActive, tpm2.TPMPTHRActiveAvail,
	} {
		value, err := d.property(ctx, property)
		switch {
		case errors.Is(err, errAbsent):
			counts[property] = -1
		case err != nil:
			return err
		default:
			counts[property] = int64(value)
		}
	}
	permanent, startup := max(0, counts[tpm2.TPMPTPermanent]), max(0, counts[tpm2.TPMPTStartupClear])
	s.Hierarchy = Hierarchy{
		OwnerPassword:       permanent&attributeOwnerAuth != 0,
		EndorsementPassword: permanent&attributeEndorsementAuth != 0,
		LockoutPassword:     permanent&attributeLockoutAuth != 0,
		OwnerEnabled:        startup&attributeOwnerEnable != 0,
		EndorsementEnabled:  startup&attributeEndorseEnable != 0,
		OrderlyShutdown:     startup&attributeOrderly != 0,
	}
	s.Lockout = Lockout{
		Active:   permanent&attributeInLockout != 0,
		Failures: counts[tpm2.TPMPTLockoutCounter],
		Limit:    counts[tpm2.TPMPTMaxAuthFail],
		Recovery: counts[tpm2.TPMPTLockoutInterval],
	}
	loaded, err := d.handles(ctx, transientFirst, transientLast)
	s.Room = Room{
		Indexes:       counts[tpm2.TPMPTHRNVIndex],
		LargestIndex:  counts[tpm2.TPMPTNVIndexMax],
		CountersLeft:  counts[tpm2.TPMPTNVCountersAvail],
		Persistent:    counts[tpm2.TPMPTHRPersistent],
		KeysLeft:      counts[tpm2.TPMPTHRPersistentAvail],
		Transient:     int64(len(loaded)),
		TransientLeft: counts[tpm2.TPMPTHRTransientAvail],
		Sessions:      counts[tpm2.TPMPTHRActive],
		SessionsLeft:  counts[tpm2.TPMPTHRActiveAvail],
	}
	return err
}

var kindNames = map[tpm2.TPMNT]string{
	tpm2.TPMNTOrdinary: "ordinary", tpm2.TPMNTCounter: "counter", tpm2.TPMNTBits: "bits",
	tpm2.TPMNTExtend: "extend", tpm2.TPMNTPinFail: "pin-fail", tpm2.TPMNTPinPass: "pin-pass",
}

// indexes lists the NV indexes.
func (d *Device) indexes(ctx context.Context) ([]Index, error) {
	handles, err := d.handles(ctx, indexFirst, indexLast)
	if err != nil {
		return nil, err
	}
	var indexes []Index
	for _, handle := range handles {
		area, err := d.area(ctx, handle)
		switch {
		case errors.Is(err, ErrGone), ctx.Err() != nil:
			return nil, err
		case errors.Is(err, errNoIndex): // removed meanwhile
			continue
		case err != nil:
			indexes = append(indexes, Index{Handle: uint32(handle), Err: err})
			continue
		}
		kind, ok := kindNames[area.public.Attributes.NT]
		if !ok {
			kind = fmt.Sprintf("%d", area.public.Attributes.NT)
		}
		indexes = append(indexes, Index{
			Handle: uint32(handle), Kind: kind, Size: int(area.public.DataSize),
			Written: area.public.Attributes.Written, Name: area.name,
		})
	}
	return indexes, nil
}
