// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

var first, second, rebooted = testbundle.First, testbundle.Second, testbundle.Rebooted

func batch() *testbundle.World { return testbundle.Batch(5) }

// good must be accepted; each is the ground that a fault stands on.
var good = []fault{
	{"ok-first-contact", OK, "first contact, a batch of one", first, nil},
	{"ok-second-contact", OK, "second contact: the log grew", second, nil},
	{"ok-reboot", OK, "second contact after a reboot: new epoch, log goes on", rebooted, nil},
	{"ok-batch", OK, "a batch of five requests", batch, nil},
	{"ok-batch-part", OK, "two requests of a batch of five; the others went elsewhere", batch, func(w *testbundle.World) {
		w.Omit = map[int]bool{0: true, 2: true, 4: true}
	}},
	{"ok-agent-restart", OK, "new epoch without a reset of the TPM: the agent was restarted", rebooted, func(w *testbundle.World) {
		w.Clock.ResetCount = w.Last.ResetCount
		w.BootID = w.Last.BootID
		w.Log[3] = testbundle.Start(2, w.BootID)
	}},
	{"ok-quotes-between", OK, "quotes and checkpoints that another broker got lie in between", second, func(w *testbundle.World) {
		w.Sequence, w.Number = 9, 7
	}},
	{"ok-same-checkpoint", OK, "nothing happened since: same checkpoint, new quote", second, func(w *testbundle.World) {
		sameCheckpoint(w)
	}},
	{"ok-unsafe-clock-in-grace", OK, "the clock is unsafe, and the TPM was reset four minutes ago", second, func(w *testbundle.World) {
		w.Clock.Safe = false
		w.Policy.UnsafeClockGrace = 6 * time.Minute
	}},
	{"ok-clock-of-another-boot", OK, "the clock went back over a reset: a TPM stores it only now and then", rebooted, func(w *testbundle.World) {
		w.Clock.Clock = 1
	}},
	{"ok-other-signature", OK, "the other ECDSA signature over the same quote: what identifies it is the digest of its attest", first, func(w *testbundle.World) {
		w.OnSignature = testbundle.Malleate
	}},
	{"ok-reboot-after-hibernation", OK, "a reset sets the count of restarts back", rebooted, func(w *testbundle.World) { w.Last.RestartCount = 2 }},
	{"ok-firmware-update", OK, "another TPM firmware after a reset", rebooted, func(w *testbundle.World) { w.Firmware++ }},
	{"ok-counts-of-another-epoch", OK, "losses and taints are counted anew in each epoch", rebooted, func(w *testbundle.World) {
		w.Last.Lost, w.Last.Taints = 5, 6
		w.OnCheckpoint = func(c *evidence.Checkpoint) { c.Lost, c.Taints = 0, 0 }
	}},
	{"ok-two-starts", OK, "the start of an older epoch is shown as well", rebooted, func(w *testbundle.World) { w.Send = []uint64{0, 3, 4} }},
	{"ok-ak-policy", OK, "a key whose use needs an authorization policy", first, ak(func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) })},
	{"ok-host-clock-off", OK, "the host's clock is a year ahead; it decides nothing", first, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) { h.Wall += 365 * 24 * 3600 }
	}},
}

// sameCheckpoint takes the world back to the checkpoint of the first contact.
func sameCheckpoint(w *testbundle.World) {
	w.Log, w.Send = w.Log[:3], []uint64{testbundle.StartEntry, testbundle.ProcessEntry}
	w.Number = w.Last.Number
	w.Requests[0].Subject.Index = testbundle.ProcessEntry
}

// swap replaces bytes that must be there.
func swap(data, old, new []byte) []byte {
	if bytes.Count(data, old) != 1 {
		panic("testvectors: the bytes to change are not there exactly once")
	}
	return bytes.Replace(data, old, new, 1)
}
