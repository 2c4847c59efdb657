// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Manufacturer is who made a TPM: TPM_PT_MANUFACTURER, four characters (TCG
// TPM Vendor ID Registry).
type Manufacturer [4]byte

// registry names the makers whose certificates may be met.
var registry = map[Manufacturer]string{
	{'A', 'M', 'D', 0}: "AMD", {'A', 'N', 'T', 0}: "Ant Group", {'A', 'T', 'M', 'L'}: "Atmel", {'B', 'R', 'C', 'M'}: "Broadcom",
	{'C', 'S', 'C', 'O'}: "Cisco", {'F', 'L', 'Y', 'S'}: "Flyslice", {'R', 'O', 'C', 'C'}: "Rockchip", {'G', 'O', 'O', 'G'}: "Google",
	{'H', 'P', 'I', 0}: "HPI", {'H', 'P', 'E', 0}: "HPE", {'H', 'I', 'S', 'I'}: "Huawei", {'I', 'B', 'M', 0}: "IBM",
	{'I', 'F', 'X', 0}: "Infineon", {'I', 'N', 'T', 'C'}: "Intel", {'L', 'E', 'N', 0}: "Lenovo", {'M', 'S', 'F', 'T'}: "Microsoft",
	{'N', 'S', 'M', ' '}: "National Semiconductor", {'N', 'T', 'Z', 0}: "Nationz", {'N', 'T', 'C', 0}: "Nuvoton",
	{'Q', 'C', 'O', 'M'}: "Qualcomm", {'S', 'M', 'S', 'N'}: "Samsung", {'S', 'N', 'S', 0}: "Sinosun", {'S', 'M', 'S', 'C'}: "SMSC",
	{'S', 'T', 'M', ' '}: "STMicroelectronics", {'T', 'X', 'N', 0}: "Texas Instruments", {'W', 'E', 'C', 0}: "Winbond",
	{0, 0, 0x10, 0x14}: "IBM (software TPM)", // what swtpm writes
}

// vendor is one folder of the shipped bundle.
type vendor struct {
	ids   []Manufacturer // who may be named in certificates below its roots
	cloud bool           // its roots certify attestation keys of virtual machines too
}

// vendors are the folders that ship.
var vendors = map[string]vendor{
	"AMD":       {ids: []Manufacturer{{'A', 'M', 'D', 0}}},
	"Atmel":     {ids: []Manufacturer{{'A', 'T', 'M', 'L'}}},
	"Google":    {ids: []Manufacturer{{'G', 'O', 'O', 'G'}}, cloud: true},
	"Infineon":  {ids: []Manufacturer{{'I', 'F', 'X', 0}}},
	"Intel":     {ids: []Manufacturer{{'I', 'N', 'T', 'C'}}},
	"Microsoft": {ids: []Manufacturer{{'M', 'S', 'F', 'T'}}},
	"Nationz":   {ids: []Manufacturer{{'N', 'T', 'Z', 0}}},
	"Nuvoton":   {ids: []Manufacturer{{'N', 'T', 'C', 0}}},
	"STMicro":   {ids: []Manufacturer{{'S', 'T', 'M', ' '}}},
}

// shippedManufacturer reports whether a maker is one whose roots ship.
func shippedManufacturer(m Manufacturer) bool {
	for _, v := range vendors {
		for _, id := range v.ids {
			if id == m {
				return true
			}
		}
	}
	return false
}

// ID returns the form certificates use, such as "id:49465800".
func (m Manufacturer) ID() string { return "id:" + strings.ToUpper(hex.EncodeToString(m[:])) }

// Name returns the company, or "" for one that is not in the registry.
func (m Manufacturer) Name() string { return registry[m] }

// String returns ID and name.
func (m Manufacturer) String() string {
	if name := m.Name(); name != "" {
		return m.ID() + " (" + name + ")"
	}
	return m.ID()
}

// ParseManufacturer reads "id:49465800", as in certificates, or the characters
// themselves, "IFX".
func ParseManufacturer(s string) (Manufacturer, error) {
	var m Manufacturer
	if digits, ok := strings.CutPrefix(s, "id:"); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != len(m) {
			return m, fmt.Errorf("manufacturer %q, want id: and 8 hexadecimal digits", clean(s))
		}
		return Manufacturer(raw), nil
	}
	if len(s) < 3 || len(s) > len(m) {
		return m, fmt.Errorf("manufacturer %q, want id: and 8 hexadecimal digits, or 3 or 4 characters of the registry", clean(s))
	}
	// "STM" has a space behind it, "IFX" a zero.
	for _, tail := range []string{"", "\x00", " "} {
		if padded := s + tail; len(padded) == len(m) {
			copy(m[:], padded)
			if _, ok := registry[m]; ok {
				return m, nil
			}
		}
	}
	return m, fmt.Errorf("manufacturer %q is not in the registry; write id: and 8 hexadecimal digits", clean(s))
}

// Firmware is a version of a TPM's firmware.
//
//	Major.Minor = TPM_PT_FIRMWARE_VERSION_1, two bytes each
//	Build       = TPM_PT_FIRMWARE_VERSION_2
type Firmware struct {
	Major, Minor uint16
	Build        uint32
}

// FirmwareOf takes the firmwareVersion of a quote apart: its upper half is
// TPM_PT_FIRMWARE_VERSION_1 (Part 2 section 10.12.12). It is what runs; the
// version in an EK certificate is what left the factory.
func FirmwareOf(quoted uint64) Firmware {
	return Firmware{Major: uint16(quoted >> 48), Minor: uint16(quoted >> 32), Build: uint32(quoted)}
}

// parseVersion reads the version attribute of a certificate: "id:" and 4 digits
// (major and minor of a byte each), 8 (TPM_PT_FIRMWARE_VERSION_1) or 16 (both).
func parseVersion(s string) (Firmware, bool) {
	digits, ok := strings.CutPrefix(s, "id:")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return Firmware{}, false
	}
	switch len(digits) {
	case 4:
		return Firmware{Major: uint16(n >> 8), Minor: uint16(n & 0xff)}, true
	case 8:
		return Firmware{Major: uint16(n >> 16), Minor: uint16(n)}, true
	case 16:
		return FirmwareOf(n), true
	}
	return Firmware{}, false
}

// String returns the decimal form that makers use, such as "7.62".
func (f Firmware) String() string {
	if f.Build != 0 {
		return fmt.Sprintf("%d.%d.%d", f.Major, f.Minor, f.Build)
	}
	return fmt.Sprintf("%d.%d", f.Major, f.Minor)
}
