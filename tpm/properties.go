// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// Properties are what the TPM says about itself. Nothing of it is signed.
type Properties struct {
	Manufacturer string   // TCG vendor id, such as "IFX" or "IBM"
	Vendor       string   // the manufacturer's own words
	Firmware     uint64   // as in the firmwareVersion of a quote
	Revision     uint32   // of the specification, times 100: 138, 159, ...
	Banks        []string // active PCR banks: "sha1", "sha256", ...
}

// Properties asks the TPM who made it, which firmware it runs and which PCR
// banks are active.
func (d *Device) Properties(ctx context.Context) (Properties, error) {
	var p Properties
	values := make(map[tpm2.TPMPT]uint32)
	for _, property := range []tpm2.TPMPT{
		tpm2.TPMPTManufacturer, tpm2.TPMPTFirmwareVersion1, tpm2.TPMPTFirmwareVersion2, tpm2.TPMPTRevision,
		tpm2.TPMPTVendorString1, tpm2.TPMPTVendorString2, tpm2.TPMPTVendorString3, tpm2.TPMPTVendorString4,
	} {
		value, err := d.property(ctx, property)
		if err != nil && !errors.Is(err, errAbsent) {
			return p, err
		}
		values[property] = value
	}
	p.Manufacturer = text(values[tpm2.TPMPTManufacturer])
	p.Vendor = text(values[tpm2.TPMPTVendorString1], values[tpm2.TPMPTVendorString2],
		values[tpm2.TPMPTVendorString3], values[tpm2.TPMPTVendorString4])
	p.Firmware = uint64(values[tpm2.TPMPTFirmwareVersion1])<<32 | uint64(values[tpm2.TPMPTFirmwareVersion2])
	p.Revision = values[tpm2.TPMPTRevision]
	active, err := d.allocated(ctx)
	for _, selection := range active {
		p.Banks = append(p.Banks, bankName(selection.Hash))
	}
	return p, err
}

// text joins properties of four characters each. What is not printable ASCII
// has no place in a log line.
func text(values ...uint32) string {
	var b []byte
	for _, value := range values {
		b = binary.BigEndian.AppendUint32(b, value)
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

// errAbsent: the TPM has no such property.
var errAbsent = errors.New("no such property")

func (d *Device) property(ctx context.Context, property tpm2.TPMPT) (uint32, error) {
	rsp, err := run(ctx, d.bus, tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(property), PropertyCount: 1,
	})
	if err != nil {
		return 0, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) == 0 || list.TPMProperty[0].Property != property {
		// A TPM without the property answers with the next one it has.
		return 0, fmt.Errorf("TPM property 0x%x: %w", uint32(property), errAbsent)
	}
	return list.TPMProperty[0].Value, nil
}

var bankNames = map[tpm2.TPMIAlgHash]string{
	tpm2.TPMAlgSHA1: "sha1", tpm2.TPMAlgSHA256: "sha256", tpm2.TPMAlgSHA384: "sha384", tpm2.TPMAlgSHA512: "sha512",
	tpm2.TPMAlgSHA3256: "sha3-256", tpm2.TPMAlgSHA3384: "sha3-384", tpm2.TPMAlgSHA3512: "sha3-512",
}

func bankName(hash tpm2.TPMIAlgHash) string {
	if name, ok := bankNames[hash]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(hash))
}

// allocated lists the banks that are active, with their PCRs.
func (d *Device) allocated(ctx context.Context) ([]tpm2.TPMSPCRSelection, error) {
	rsp, err := run(ctx, d.bus, banksQuestion)
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("PCR banks: %w", err)
	}
	var active []tpm2.TPMSPCRSelection
	for _, selection := range list.PCRSelections {
		if len(selected(selection)) > 0 { // otherwise supported, not active
			active = append(active, selection)
		}
	}
	return active, nil
}

// handles lists the TPM's handles from first on to last.
func (d *Device) handles(ctx context.Context, first, last tpm2.TPMHandle) ([]tpm2.TPMHandle, error) {
	var all []tpm2.TPMHandle
	for next := first; ; {
		rsp, err := run(ctx, d.bus, tpm2.GetCapability{
			Capability: tpm2.TPMCapHandles, Property: uint32(next), PropertyCount: maxHandles,
		})
		if err != nil {
			return nil, err
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return nil, fmt.Errorf("handles from 0x%x: %w", uint32(next), err)
		}
		for _, handle := range list.Handle {
			if handle < next || handle > last {
				return all, nil
			}
			if len(all) == maxListed {
				return nil, fmt.Errorf("handles from 0x%x: more than %d", uint32(first), maxListed)
			}
			all = append(all, handle)
			next = handle + 1
		}
		if !bool(rsp.MoreData) || len(list.Handle) == 0 || next > last {
			return all, nil
		}
	}
}
