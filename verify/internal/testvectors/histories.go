// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// checkpoint changes the checkpoint before anything refers to it.
func checkpoint(change func(*evidence.Checkpoint)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnCheckpoint = change }
}

// histories contradict what the broker remembers of the host.
var histories = []fault{
	{"epoch-reset", "E_EPOCH", "the TPM was reset, and the epoch goes on: PCRs may have been extended again", second, func(w *testbundle.World) { w.Clock.ResetCount++ }},
	{"epoch-hibernate", "E_EPOCH", "the TPM was restarted (hibernation), and the epoch goes on", second, func(w *testbundle.World) { w.Clock.RestartCount++ }},
	{"epoch-boot-id", "E_EPOCH", "another boot id inside an epoch (kexec)", second, func(w *testbundle.World) { w.Last.BootID = make([]byte, 16) }},
	{"epoch-rewind", "E_EPOCH_REWIND", "an older epoch", second, func(w *testbundle.World) { w.Last.Epoch++ }},
	{"reset-rewind", "E_RESET_REWIND", "fewer resets than before: the TPM was cleared or rolled back", rebooted, func(w *testbundle.World) { w.Clock.ResetCount -= 2 }},
	{"restart-rewind", "E_RESET_REWIND", "fewer restarts than before without a reset", rebooted, func(w *testbundle.World) {
		w.Last.RestartCount = 2
		w.Clock.ResetCount, w.Clock.RestartCount = w.Last.ResetCount, 1
	}},
	{"firmware", "E_FIRMWARE", "another TPM firmware without a reset", second, func(w *testbundle.World) { w.Firmware++ }},
	{"clock-rewind", "E_CLOCK", "the clock went back", second, func(w *testbundle.World) { w.Clock.Clock = w.Last.Clock - 1 }},
	{"clock-rewind-new-epoch", "E_CLOCK", "the clock went back over a restart of the agent", rebooted, func(w *testbundle.World) {
		w.Clock.ResetCount, w.Clock.Clock = w.Last.ResetCount, w.Last.Clock-1
	}},
	{"clock-unsafe", "E_CLOCK_UNSAFE", "the clock is not safe, and the policy gives no grace", first, func(w *testbundle.World) { w.Clock.Safe = false }},
	{"clock-unsafe-late", "E_CLOCK_UNSAFE", "the clock is still not safe five minutes after the reset", second, func(w *testbundle.World) {
		w.Clock.Safe = false
		w.Policy.UnsafeClockGrace = 5*time.Minute - time.Second
	}},
	{"clock-unsafe-new-epoch", "E_CLOCK_UNSAFE", "a restart of the agent does not begin the grace anew", rebooted, func(w *testbundle.World) {
		w.Clock.ResetCount, w.Clock.Safe = w.Last.ResetCount, false
		w.Policy.UnsafeClockGrace = 5*time.Minute - time.Second
	}},
	{"sequence-same", "E_SEQUENCE", "the sequence number of the last quote again", second, func(w *testbundle.World) { w.Sequence = w.Last.Sequence }},
	{"sequence-rewind", "E_SEQUENCE", "an older sequence number", second, func(w *testbundle.World) { w.Last.Sequence = 3 }},
	{"quote-chain", "E_QUOTE_CHAIN", "the next quote names another one before it", second, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) { h.Previous[0] ^= 1 }
	}},
	{"checkpoint-rewind", "E_CKPT_REWIND", "an older checkpoint number", second, func(w *testbundle.World) { w.Number = w.Last.Number - 1 }},
	{"log-rewind", "E_CKPT_REWIND", "a log shorter than the one known: an old copy was put back", second, func(w *testbundle.World) {
		sameCheckpoint(w)
		w.Number, w.Known = 2, 3
		w.Last.Size, w.Last.Root = 4, testbundle.Text("root over four")
	}},
	{"checkpoint-fork", "E_CKPT_FORK", "another checkpoint under a known number", second, func(w *testbundle.World) { w.Number = w.Last.Number }},
	{"checkpoint-chain", "E_CKPT_CHAIN", "the next checkpoint names another one before it", second, checkpoint(func(c *evidence.Checkpoint) { c.Previous[0] ^= 1 })},
	{"checkpoint-lost", "E_CKPT_COUNT", "fewer lost records than before", second, func(w *testbundle.World) {
		w.Last.Lost = 5
		w.OnCheckpoint = func(c *evidence.Checkpoint) { c.Lost = 4 }
	}},
	{"checkpoint-taints", "E_CKPT_COUNT", "fewer taints than before", second, func(w *testbundle.World) {
		w.Last.Taints = 5
		w.OnCheckpoint = func(c *evidence.Checkpoint) { c.Taints = 4 }
	}},
	{"log-forked", "E_CONSISTENCY", "the log does not begin with the one known: an entry was replaced", second, func(w *testbundle.World) {
		w.Log[testbundle.ExecEntry].At++
	}},
	{"consistency-empty", "E_CONSISTENCY", "no proof that the log only grew", second, rework(func(b bundle) { b.Consistency.Proof = nil })},
	{"consistency-from", "E_CONSISTENCY", "a proof from another size than the one known", second, rework(func(b bundle) { b.Consistency.From = 2 })},
	{"consistency-from-empty", "E_CONSISTENCY", "claims that nothing was known", second, rework(func(b bundle) { b.Consistency = evidence.Consistency{} })},
	{"consistency-first", "E_CONSISTENCY", "a proof at first contact, where there is nothing to prove", first, rework(func(b bundle) {
		b.Consistency.Proof = evidence.Proof{evidence.Hash{}}
	})},
}
