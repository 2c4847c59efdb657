// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

const sha1 = crypto.SHA1

var booted = testbundle.Booted

// kept is the host at second contact; the broker kept its boot log.
func kept() *testbundle.World {
	w := testbundle.Second()
	next := booted().Build().Next
	w.Last = &next
	w.Boots(bootlog.Boot{}, bootlog.SHA256)
	boot, err := verify.ParseBoot(w.BootLog)
	if err != nil {
		panic("testvectors: " + err.Error())
	}
	w.Boot, w.KeptBootLog = boot, w.BootLog
	w.OnBundle = func(b bundle) { b.BootLog = nil }
	return w
}

// logOf returns the events of the log that keep says to keep, as a log.
func logOf(keep func(pcr uint32) bool) []byte {
	log, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	out := bytes.Clone(log[:65]) // Spec ID event with one bank
	for rest := log[65:]; len(rest) > 0; {
		size := 46 + 4 + int(le32(rest[46:]))
		if keep(le32(rest)) {
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	return out
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func osLog() *testbundle.World {
	w := first()
	w.OSLog = record(11, testbundle.Text("enter-initrd"))
	return w
}

// record is one line of systemd's measurement log.
func record(pcr int, digest evidence.Hash) []byte {
	return fmt.Appendf(nil, "\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%s\"}],\"content_type\":\"systemd\",\"content\":{\"eventType\":\"phase\",\"string\":\"enter-initrd\"}}\n", pcr, digest)
}

// separated has systemd extend a PCR after the boot, and write that down or not.
func separated(w *testbundle.World, pcr int, said bool) {
	digest := testbundle.Text("os-separator")
	value := w.PCRs[pcr]
	w.PCRs[pcr] = sha256.Sum256(append(value[:], digest[:]...))
	if said {
		w.OSLog = record(pcr, digest)
	}
}

// boots is what firmware and operating system say they measured.
var boots = []fault{
	{"ok-boot-log", OK, "the boot event log is sent", booted, nil},
	{"ok-boot-log-known", OK, "the boot event log is known and not sent again", kept, nil},
	{"ok-boot-log-sent-again", OK, "the boot event log is known and sent all the same", kept, func(w *testbundle.World) { w.OnBundle = nil }},
	{"ok-boot-log-unwanted", OK, "a policy that wants no PCR measured", booted, func(w *testbundle.World) {
		w.Policy.Measured = nil
		w.PCRs[4] = testbundle.Text("something that the log does not make")
	}},
	{"boot-log-other", "E_BOOT_LOG", "another boot log than the quoted one", booted, rework(func(b bundle) { b.BootLog = b.BootLog[1:] })},
	{"boot-log-missing", "E_BOOT_LOG", "the boot log is not sent, and not known", booted, rework(func(b bundle) { b.BootLog = nil })},
	{"boot-log-changed", "E_BOOT_LOG", "the boot log is not sent, and another one is known", kept, func(w *testbundle.World) {
		w.Boots(bootlog.Boot{SecureBootOff: true}, bootlog.SHA256)
	}},
	{"boot-log-uncovered", "E_BOOT_LOG", "a boot log that the quote does not cover", booted, func(w *testbundle.World) {
		w.Policy.Measured = nil
		w.OnHeader = func(h *evidence.Header) { h.BootLog = evidence.Unknown[evidence.Hash]("no-log") }
	}},
	{"boot-log-tainted", "E_BOOT_LOG", "a boot log that the host itself does not believe", booted, func(w *testbundle.World) {
		w.Policy.Measured = nil
		w.OnHeader = func(h *evidence.Header) {
			h.BootLog = evidence.Tainted(evidence.Hash(sha256.Sum256(w.BootLog)), "changed")
		}
		w.OnBundle = func(b bundle) { b.BootLog = nil }
	}},
	{"boot-log-wanted", "E_BOOT_LOG", "no boot log, and the policy wants to see what was measured", first, func(w *testbundle.World) {
		w.Policy.Measured = []int{0, 7}
	}},
	{"boot-log-malformed", "E_BOOT_FORM", "a boot log that ends within an event", booted, func(w *testbundle.World) { w.BootLog = w.BootLog[:len(w.BootLog)-3] }},
	{"boot-log-empty-event", "E_BOOT_FORM", "a boot log of one byte", booted, func(w *testbundle.World) { w.BootLog = []byte{0} }},
	{"boot-value", "E_BOOT_REPLAY", "a PCR with another value than the log makes", booted, func(w *testbundle.World) { w.PCRs[4] = testbundle.Text("evil boot loader") }},
	{"boot-events-dropped", "E_BOOT_REPLAY", "a log from which every event of PCR 7 was taken", booted, func(w *testbundle.World) {
		w.BootLog = logOf(func(pcr uint32) bool { return pcr != 7 })
	}},
	{"boot-kept-log-and-other-value", "E_BOOT_REPLAY", "second contact: the log is known, and a PCR moved since", kept, func(w *testbundle.World) {
		w.PCRs[0] = testbundle.Text("extended after the boot")
	}},
	{"pcr-zero", "E_PCR_UNMEASURED", "nothing was measured into a PCR that the policy wants measured", booted, func(w *testbundle.World) { w.PCRs[2] = evidence.Hash{} }},
	{"pcr-ones", "E_PCR_UNMEASURED", "a PCR in the state of a TPM that was never started", booted, func(w *testbundle.World) {
		w.PCRs[2] = evidence.Hash(bytes.Repeat([]byte{0xff}, 32))
	}},
	{"policy-measured", "E_POLICY", "the policy wants a PCR measured that it does not have quoted", first, func(w *testbundle.World) { w.Policy.Measured = []int{17} }},
	{"policy-latch", "E_POLICY", "the policy takes a PCR for a latch that it does not have quoted", first, func(w *testbundle.World) { w.Policy.Latches = []int{23} }},

	{"ok-os-log", OK, "the operating system's log is sent", osLog, nil},
	{"ok-os-separator", OK, "systemd closed PCR 4 with a separator after the boot, and says so", booted, func(w *testbundle.World) { separated(w, 4, true) }},
	{"os-separator-unsaid", "E_BOOT_REPLAY", "PCR 4 was extended after the boot, and nobody says by what", booted, func(w *testbundle.World) { separated(w, 4, false) }},
	{"os-separator-alone", "E_BOOT_REPLAY", "a log of the operating system stands in for the firmware's events of PCR 7", booted, func(w *testbundle.World) {
		w.BootLog = logOf(func(pcr uint32) bool { return pcr != 7 })
		w.PCRs[7] = evidence.Hash{}
		separated(w, 7, true)
	}},
	{"os-log-other", "E_OS_LOG", "another log of the operating system than the quoted one", osLog, rework(func(b bundle) { b.OSLog = append(b.OSLog, b.OSLog...) })},
	{"os-log-missing", "E_OS_LOG", "the operating system's log is quoted, and not sent", osLog, rework(func(b bundle) { b.OSLog = nil })},
	{"os-log-uncovered", "E_OS_LOG", "a log of the operating system that the quote does not cover", osLog, header(func(h *evidence.Header) {
		h.OSLog = evidence.Unknown[evidence.Hash]("no-log")
	})},
	{"os-log-malformed", "E_OS_LOG", "a log of the operating system that is none", osLog, func(w *testbundle.World) { w.OSLog = []byte("\x1e{\"pcr\":99}\n") }},
}
