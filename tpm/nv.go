// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// readNV reads a whole NV index, with the empty password of the index or of
// the owner, whichever the index allows.
func (d *Device) readNV(ctx context.Context, index tpm2.TPMHandle) ([]byte, error) {
	public, err := run(ctx, d.bus, tpm2.NVReadPublic{NVIndex: index})
	if err != nil {
		return nil, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
	}
	area, err := public.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
	}
	if area.NVIndex != index || int(area.DataSize) > maxNV {
		return nil, fmt.Errorf("NV index 0x%x: answer is about 0x%x with %d bytes, at most %d",
			uint32(index), uint32(area.NVIndex), area.DataSize, maxNV)
	}
	name, err := tpm2.NVName(area)
	if err != nil {
		return nil, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
	}
	auth := tpm2.AuthHandle{Handle: index, Name: *name, Auth: tpm2.PasswordAuth(nil)}
	switch {
	case area.Attributes.AuthRead:
	case area.Attributes.OwnerRead:
		auth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	default:
		return nil, fmt.Errorf("NV index 0x%x: neither its own nor the owner's password may read it", uint32(index))
	}
	data := make([]byte, 0, area.DataSize)
	for len(data) < int(area.DataSize) {
		rsp, err := run(ctx, d.bus, tpm2.NVRead{
			AuthHandle: auth,
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: *name},
			Size:       uint16(min(int(area.DataSize)-len(data), nvChunk)),
			Offset:     uint16(len(data)),
		})
		if err != nil {
			return nil, fmt.Errorf("NV index 0x%x: %w", uint32(index), err)
		}
		if n := len(rsp.Data.Buffer); n == 0 || n > int(area.DataSize)-len(data) {
			return nil, fmt.Errorf("NV index 0x%x: TPM2_NVRead gave %d bytes at %d of %d", uint32(index), n, len(data), area.DataSize)
		}
		data = append(data, rsp.Data.Buffer...)
	}
	return data, nil
}

// errNoIndex: the NV index is not defined.
var errNoIndex = errors.New("no such NV index")

// readNVIf reads an index if it is among those that are defined.
func (d *Device) readNVIf(ctx context.Context, defined []tpm2.TPMHandle, index tpm2.TPMHandle) ([]byte, error) {
	for _, handle := range defined {
		if handle == index {
			return d.readNV(ctx, index)
		}
	}
	return nil, errNoIndex
}
