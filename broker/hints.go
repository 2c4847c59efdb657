// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package broker

import "github.com/jurat-dev/jurat/verify"

// hints say what to do about evidence that was refused as a whole, to those who
// read the explanation. A code without one is a message that no honest host
// sends: there is nothing to be done but to look who does.
var hints = map[verify.Code]string{
	"E_FORMAT":        "agent and broker must be of versions that know each other: jurat version, jurat-broker -version",
	"E_POLICY":        "the file that -policy names is unsound: see the log of jurat-broker",
	"E_HOST":          "remove the host and enrol it again: jurat host remove",
	"E_CHALLENGE":     "nothing: the host asks again by itself",
	"E_NONCE":         "nothing, if it is rare: the host asks again by itself",
	"E_NONCE_EXPIRED": "nothing, if it is rare; else the host or its TPM is too slow to answer in time: jurat status on the host",
	"E_AK_NAME":       "the store was changed by hand: restore it, or remove the host and enrol it again",
	"E_HOST_MISMATCH": "the state directory of one juratd was copied to another machine: enrol that machine by itself",
	"E_SIGNATURE":     "the host has another TPM or attestation key than it enrolled with: jurat host remove, then enrol it again",
	"E_SIGNER":        "the host has another TPM or attestation key than it enrolled with: jurat host remove, then enrol it again",

	"E_PCR_BANK":      "the host has to quote the SHA-256 bank: turn it on in the firmware setup",
	"E_PCR_SELECTION": "update juratd: this broker wants PCRs 0 to 15",
	"E_PCR_DIGEST":    "nothing, if it is rare: a PCR moved while it was quoted, and the host tries again",
	"E_BANKS":         "turn off, in the firmware setup, every PCR bank that the firmware leaves empty, so that only SHA-256 (and what the boot log covers) is active; then reboot",

	"E_FIRMWARE_DENIED": "update the TPM's firmware; denied_firmware in the broker's policy says what is not believed, and why",
	"E_EPOCH_REWIND":    "juratd's state went back: if a backup was restored on the host, remove the host and enrol it again; else somebody did that",
	"E_RESET_REWIND":    "the TPM was cleared or a virtual machine was rolled back: if that was on purpose, remove the host and enrol it again",
	"E_FIRMWARE":        "reboot the host; if it comes back, this is not the TPM it was",
	"E_EPOCH":           "restart juratd: the machine started again or slept, and the agent has to begin a new epoch",
	"E_CLOCK":           "the TPM's clock went back without a reset: a virtual machine was rolled back, or this is not the TPM it was",
	"E_CLOCK_UNSAFE":    "wait: after a power loss a TPM's clock is safe again within about an hour; -unsafe-clock-grace lets hosts through meanwhile",
	"E_SEQUENCE":        "nothing, if it is rare: the host makes a new quote; a host that never gets through runs two agents on one state",
	"E_QUOTE_CHAIN":     "nothing, if it is rare; else two agents run on one host, or its state was restored from a backup",

	"E_TIER":           "tiers in the broker's policy says what is accepted; 'jurat status' on the host says why it is not better",
	"E_ANCHOR":         "anchors in the broker's policy says what is accepted; a broken register is as before after a reboot of the host",
	"E_LATCH":          "reboot the host: the register has to be opened, and its latch PCR closed, before anything else runs; latches in the broker's policy says which PCRs may be latches",
	"E_REGISTER_NAME":  "the register is not the one that juratd makes: reboot the host, so that it is made anew; for a NvPCR add its name to nvpcrs in the broker's policy",
	"E_REGISTER_TAIL":  "nothing, if it is rare: the host sends the checkpoints again from the first one",
	"E_REGISTER_VALUE": "treat the host as taken over until you know better: its log was rewound, or somebody else wrote into the register; a reboot begins a new one",

	"E_CKPT_REWIND": "juratd's log is shorter than it was: if a backup was restored on the host, remove the host and enrol it again; else somebody rewound it",
	"E_CKPT_FORK":   "juratd's log was changed: if a backup was restored on the host, remove the host and enrol it again; else somebody did that",
	"E_CKPT_CHAIN":  "juratd's log was changed: if a backup was restored on the host, remove the host and enrol it again; else somebody did that",
	"E_CKPT_COUNT":  "juratd's counts went back inside an epoch: restart juratd, so that a new one begins, and find out who changed its state",
	"E_CONSISTENCY": "juratd's log is not the one it was: if its state was lost or restored, remove the host and enrol it again; else somebody changed it",

	"E_BOOT_LOG":       "nothing, if it is rare: the host sends the log again; else the host has none (is it booted by UEFI? is securityfs mounted?), and measured in the broker's policy wants one",
	"E_BOOT_FORM":      "the firmware's log cannot be read: 'jurat eventlog show' on the host's binary_bios_measurements says where; update the firmware",
	"E_PCR_UNMEASURED": "the firmware measures nothing into this PCR: turn measured boot (TPM, UEFI) on in the firmware setup, or take the PCR out of measured in the broker's policy",
	"E_BOOT_REPLAY":    "something was extended into this PCR that the boot log does not have: 'jurat eventlog replay' on the host shows which PCRs differ; if firmware or boot loader do that, take the PCR out of measured in the broker's policy; if not, somebody did",
	"E_OS_LOG":         "nothing, if it is rare: systemd wrote while the log was read, and the host sends it again",

	"E_IMA":           "nothing, if it is rare: the host sends its list again from the beginning",
	"E_IMA_FORM":      "the kernel's list cannot be read: 'jurat ima show' on the host's binary_runtime_measurements says where",
	"E_IMA_AGGREGATE": "the list is of another boot than the quoted one: reboot the host; with kexec the list of the first kernel goes on, which is not accepted",
	"E_IMA_PARTIAL":   "nothing: a long list comes in several bundles, and this was not the last",
	"E_IMA_REPLAY":    "something was extended into PCR 10 that the list does not have, or the list was cut: reboot the host; if it comes back, somebody does that",
	"E_IMA_VIOLATION": "a file was written to while it was measured or in use: find out which and why; ima_violations in the broker's policy accepts this, and then a changed file goes unseen",

	"E_START":   "restart juratd, so that it begins a new epoch",
	"E_BROKER":  "the workload asked for another broker: juratd's -broker and the broker's -issuer must be the same URL",
	"E_SUBJECT": "nothing, if it is rare: the process ended or was measured again meanwhile, and asks again",
}

func hintOf(r *verify.Rejection) string { return hints[r.Code] }
