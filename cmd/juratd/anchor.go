// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"flag"

	"github.com/jurat-dev/jurat/agent"
	"github.com/jurat-dev/jurat/evidence"
)

// anchorFlags say how the log is anchored in the TPM, and where the logs are
// that make what the TPM says.
type anchorFlags struct {
	mode                    string
	index, latch            uint
	bootLog, osLog, imaList string
}

func (a *anchorFlags) add(f *flag.FlagSet) {
	f.StringVar(&a.mode, "anchor", evidence.AnchorNVLatch,
		"`MODE` of anchoring the log in the TPM: nv-latch, nvpcr (a register of systemd's, needs -nv-index) or none")
	f.UintVar(&a.index, "nv-index", 0, "`HANDLE` of the register's NV index (default 0x1906a72 with nv-latch)")
	f.UintVar(&a.latch, "latch-pcr", 0, "`PCR` that latches the register: 8, 9 or 11 to 15 (default 13)")
	f.StringVar(&a.bootLog, "boot-log", agent.DefaultBootLog, "`FILE` with the firmware's event log")
	f.StringVar(&a.osLog, "os-log", agent.DefaultOSLog, "`FILE` with systemd's measurements")
	f.StringVar(&a.imaList, "ima-list", agent.DefaultIMAList, "`FILE` with the kernel's IMA list, binary")
}

// anchor checks what can be checked without a TPM.
func (a *anchorFlags) anchor() (agent.Anchor, error) {
	out := agent.Anchor{Mode: a.mode, Index: uint32(a.index), Latch: uint8(a.latch)}
	switch {
	case a.mode != evidence.AnchorNVLatch && a.mode != evidence.AnchorNvPCR && a.mode != evidence.AnchorNone:
		return out, usagef("-anchor %q: want nv-latch, nvpcr or none", a.mode)
	case a.mode == evidence.AnchorNone && (a.index != 0 || a.latch != 0):
		return out, usagef("-nv-index and -latch-pcr are for a register, and -anchor is none")
	case a.mode == evidence.AnchorNvPCR && a.latch != 0:
		return out, usagef("-latch-pcr is for -anchor nv-latch")
	case a.mode == evidence.AnchorNvPCR && a.index == 0:
		return out, usagef("-anchor nvpcr needs -nv-index, the handle of the NvPCR")
	case a.index != 0 && a.index>>24 != 1: // TPM_HT_NV_INDEX
		return out, usagef("-nv-index 0x%x: no NV index, want 0x01000000 to 0x01ffffff", a.index)
	case a.latch > 15 || a.latch != 0 && a.latch < 8 || a.latch == 10:
		return out, usagef("-latch-pcr %d: want 8, 9 or 11 to 15", a.latch)
	}
	return out, nil
}
