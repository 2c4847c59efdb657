// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// refusedScene is one thing that is wrong with a host, and what says no to it.
type refusedScene struct {
	name   string
	want   string // checks that fail, the first attestor's claim is claim
	claim  verify.Claim
	change func(scene)
}

// bootScenes are hosts that booted otherwise, or whose kernel measured less
// than is wanted.
func bootScenes() []refusedScene {
	const none, warning, wrong = verify.ClaimNone, verify.ClaimWarning, verify.ClaimContraindicated
	return []refusedScene{
		{"no boot values", "boot/pcrs", none, func(s scene) { s.ref.Boot = verify.BootReference{} }},
		{"other PCR value", "boot/pcr-4", wrong, func(s scene) {
			s.world.Policy.Measured, s.world.PCRs[4] = nil, testbundle.Text("evil boot loader")
		}},
		{"no value and no event for a PCR", "boot/pcr-7", wrong, func(s scene) {
			s.ref.Boot.PCRs[7] = nil
			delete(s.ref.Boot.Events, 7)
		}},
		{"no boot log", "boot/pcr-0 boot/pcr-4 boot/pcr-7 boot/secure-boot boot/kernel-command-line", wrong, func(s scene) {
			s.world.Policy.Measured, s.world.BootLog = nil, nil
			s.ref.Boot.PCRs = nil
		}},
		{"another kernel", "boot/pcr-4 boot/kernel-command-line", wrong, func(s scene) { s.world.Boots(bootlog.Boot{Kernel: "6.13.0-evil"}, bootlog.SHA256) }},
		{"another command line", "boot/kernel-command-line", wrong, func(s scene) {
			s.world.Boots(bootlog.Boot{CommandLine: "root=/dev/vda1 init=/bin/sh"}, bootlog.SHA256)
		}},
		{"any command line, and another kernel", "boot/pcr-4", wrong, func(s scene) {
			s.world.Boots(bootlog.Boot{Kernel: "6.13.0-evil"}, bootlog.SHA256)
			s.ref.Boot.CommandLines.Any = true
		}},
		{"Secure Boot off", "boot/pcr-7 boot/secure-boot", wrong, func(s scene) { s.world.Boots(bootlog.Boot{SecureBootOff: true}, bootlog.SHA256) }},
		{"a PCR that systemd went on extending, from another boot", "boot/pcr-4 boot/kernel-command-line", wrong, func(s scene) {
			s.world.Boots(bootlog.Boot{Kernel: "6.13.0-evil"}, bootlog.SHA256)
			systemd(s, 4, "enter-initrd", "leave-initrd")
		}},
		{"a PCR that goes on in a way that systemd does not say", "boot/pcr-4", wrong, func(s scene) {
			systemd(s, 4, "enter-initrd", "leave-initrd")
			s.world.PCRs[4] = testbundle.Text("one more")
		}},
		{"a required event is missing", "boot/pcr-4", wrong, func(s scene) {
			s.ref.Boot.PCRs[4] = nil
			s.ref.Boot.Events[4] = append(s.ref.Boot.Events[4], verify.BootEvent{Digest: testbundle.Text("scanner"), Text: "scanner.efi", Required: true})
		}},
		{"no state of Secure Boot accepted", "boot/secure-boot", wrong, func(s scene) { s.ref.Boot.SecureBoot = verify.Set[string]{} }},
		{"no command line accepted", "boot/kernel-command-line", wrong, func(s scene) { s.ref.Boot.CommandLines = verify.Set[string]{} }},
		{"a forged event type", "boot/secure-boot boot/kernel-command-line boot/boot-log", wrong, func(s scene) {
			s.world.BootLog = retyped(s.world.BootLog)
			s.ref.Boot.SecureBoot, s.ref.Boot.CommandLines = verify.Set[string]{}, verify.Set[string]{}
		}},

		{"no IMA list, and one is wanted", "code/ima", none, func(s scene) { s.ref.Minimum.IMA = verify.IMAConfirmed }},
		{"no IMA minimum", "code/ima", none, func(s scene) { s.ref.Minimum.IMA = "" }},
		{"a library that IMA does not cover", "code/ima", warning, func(s scene) {
			s.ref.Minimum.IMA = verify.IMAConfirmed
			s.world.IMA = testbundle.FilesListed(&s.world.PCRs, "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2")
		}},
		{"a script that IMA does not cover", "code/ima", warning, func(s scene) {
			s.p.Script = script("/opt/agent.py")
			interpreter(s)
			s.ref.Minimum.IMA = verify.IMAConfirmed
			s.ref.Code.Scripts = []verify.Value{value("/opt/agent.py")}
			s.world.IMA = covering(s.world)
		}},
		{"PCR not quoted", "boot/pcr-17", none, func(s scene) { s.ref.Boot.PCRs[17] = []evidence.Hash{{}} }},
		{"PCR that never counts", "boot/pcr-23", none, func(s scene) { s.ref.Boot.PCRs[23] = []evidence.Hash{{}} }},
	}
}

// systemd extends words into a PCR after the boot, and writes them down.
func systemd(s scene, pcr int, words ...string) {
	s.world.Policy.Measured = []int{0, 7}
	for _, word := range words {
		digest := testbundle.Text(word)
		s.world.OSLog = fmt.Appendf(s.world.OSLog, "\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%s\"}]}\n", pcr, digest)
		s.world.PCRs[pcr] = sha256.Sum256(append(s.world.PCRs[pcr][:], digest[:]...))
	}
}

// covering is an IMA list with everything executable of the sample process.
func covering(w *testbundle.World) *testbundle.IMA {
	return testbundle.FilesListed(&w.PCRs, "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
}

// retyped gives the first separator of the log another type. Its digest stays,
// so the log goes on to replay.
func retyped(log []byte) []byte {
	at := bytes.Index(log, []byte{0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0})
	out := bytes.Clone(log)
	out[at+4] = 0x0d
	return out
}

func TestAppraiseRequest(t *testing.T) {
	w := testbundle.Batch(2)
	w.Boots(bootlog.Boot{}, bootlog.SHA256)
	r, _ := accept(t, w)
	if !r.Appraise(1, testbundle.Reference()).OK() {
		t.Error("the second request is refused")
	}
	for _, request := range []int{-1, 2} {
		if a := r.Appraise(request, testbundle.Reference()); a.OK() || len(a.Checks()) != 1 {
			t.Errorf("request %d exists", request)
		}
	}
	if a := r.Appraise(0, verify.Reference{}); a.OK() {
		t.Error("empty reference values say yes")
	} else {
		for attestor, claim := range a.Vector() {
			if claim == verify.ClaimAffirming {
				t.Errorf("%s affirms by empty reference values", attestor)
			}
		}
	}
}
