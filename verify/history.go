// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"fmt"

	"github.com/jurat-dev/jurat/evidence"
)

// epoch holds the TPM's counters against what was known. They are absolute,
// because the key is a primary of the endorsement hierarchy: a change of either
// counter is a reset, a hibernation or a suspend, and ends the epoch.
func (v *verification) epoch() *Rejection {
	h, last, a := v.b.Header, v.host.Last, &v.attest
	if last == nil {
		return nil
	}
	same := a.resetCount == last.ResetCount && a.restartCount == last.RestartCount
	switch {
	case h.Epoch < last.Epoch:
		return reject(codeEpochRewind, "header epoch", "at least "+number(last.Epoch), number(h.Epoch))
	case a.resetCount < last.ResetCount || a.resetCount == last.ResetCount && a.restartCount < last.RestartCount:
		return reject(codeResetRewind, "quote clockInfo", fmt.Sprintf("at least %d resets, %d restarts", last.ResetCount, last.RestartCount),
			fmt.Sprintf("%d resets, %d restarts", a.resetCount, a.restartCount))
	case a.resetCount == last.ResetCount && a.firmware != last.Firmware:
		return reject(codeFirmware, "quote firmwareVersion", fmt.Sprintf("%016x", last.Firmware), fmt.Sprintf("%016x", a.firmware))
	case h.Epoch == last.Epoch && !same:
		return reject(codeEpoch, "header epoch", fmt.Sprintf("a new epoch after %d resets, %d restarts", last.ResetCount, last.RestartCount),
			fmt.Sprintf("epoch %d with %d resets, %d restarts", h.Epoch, a.resetCount, a.restartCount))
	case h.Epoch == last.Epoch && !bytes.Equal(h.BootID, last.BootID):
		return reject(codeEpoch, "header boot_id", "boot "+last.BootID.String()+" or a new epoch", h.BootID.String())
	case same && a.clock < last.Clock:
		return reject(codeClock, "quote clock", fmt.Sprintf("at least %d ms", last.Clock), fmt.Sprintf("%d ms", a.clock))
	}
	return nil
}

// firmware refuses what is known to be broken (V24). The version is the true
// one, because the key is a primary of the endorsement hierarchy.
func (v *verification) firmware() *Rejection {
	for _, f := range v.policy.Firmware {
		if got := v.attest.firmware; (f.Maker == "" || f.Maker == v.host.Maker) && f.From <= got && got <= f.To {
			return reject(codeFirmwareDenied, "quote firmwareVersion", fmt.Sprintf("none from %016x to %016x (%s)", f.From, f.To, f.Why), fmt.Sprintf("%016x", got))
		}
	}
	return nil
}

// clock demands a clock that the TPM calls safe, or a reset that the broker
// saw only just now, and a quote newer than the last one.
func (v *verification) clock() *Rejection {
	h, last := v.b.Header, v.host.Last
	v.resetSince = v.now
	if last != nil && last.ResetCount == v.attest.resetCount {
		v.resetSince = last.ResetSince
	}
	if grace := v.policy.UnsafeClockGrace; !v.attest.safe && (grace == 0 || v.now.Sub(v.resetSince) > grace) {
		return reject(codeClockUnsafe, "quote clockInfo", fmt.Sprintf("a safe clock, or at most %v since %s", grace, stamp(v.resetSince)), "unsafe at "+stamp(v.now))
	}
	if last == nil {
		return nil
	}
	if h.Sequence <= last.Sequence {
		return reject(codeSequence, "header sequence", "more than "+number(last.Sequence), number(h.Sequence))
	}
	if h.Sequence == last.Sequence+1 && h.Previous != last.Quote {
		return reject(codeQuoteChain, "header previous_quote", last.Quote.String(), h.Previous.String())
	}
	return nil
}

// checkpoint holds the checkpoint against the last known one.
func (v *verification) checkpoint() *Rejection {
	c, last := v.b.Checkpoint, v.host.Last
	if last == nil {
		return nil
	}
	switch {
	case c.Number < last.Number:
		return reject(codeCkptRewind, "checkpoint number", "at least "+number(last.Number), number(c.Number))
	case c.Size < last.Size:
		return reject(codeCkptRewind, "checkpoint size", "at least "+number(last.Size), number(c.Size))
	case c.Number == last.Number && v.b.Header.Checkpoint != last.Checkpoint:
		return reject(codeCkptFork, place("checkpoint", c.Number), last.Checkpoint.String(), v.b.Header.Checkpoint.String())
	case c.Number == last.Number+1 && c.Previous != last.Checkpoint:
		return reject(codeCkptChain, "checkpoint previous", last.Checkpoint.String(), c.Previous.String())
	case c.Epoch == last.Epoch && (c.Lost < last.Lost || c.Taints < last.Taints):
		return reject(codeCkptCount, "checkpoint counters", fmt.Sprintf("at least %d lost, %d taints", last.Lost, last.Taints), fmt.Sprintf("%d lost, %d taints", c.Lost, c.Taints))
	}
	return nil
}

// consistency proves that the log only grew since the broker last saw it.
func (v *verification) consistency() *Rejection {
	var size uint64
	var root evidence.Hash
	if last := v.host.Last; last != nil {
		size, root = last.Size, last.Root
	}
	proof := &v.b.Consistency
	if proof.From != size {
		return reject(codeConsistency, "consistency from", number(size), number(proof.From))
	}
	if err := evidence.CheckConsistency(proof.Proof, v.b.Checkpoint.Size, v.b.Checkpoint.Root, size, root); err != nil {
		return reject(codeConsistency, "consistency proof", fmt.Sprintf("a proof that %d entries begin with the %d known", v.b.Checkpoint.Size, size), err.Error())
	}
	return nil
}

// entries proves every entry of the bundle to be in the log.
func (v *verification) entries() *Rejection {
	c := v.b.Checkpoint
	v.leaves = make([]evidence.Hash, len(v.b.Entries))
	for i := range v.b.Entries {
		e := &v.b.Entries[i]
		v.leaves[i] = evidence.LeafHash(e.Raw)
		if err := evidence.CheckInclusion(e.Proof, c.Size, c.Root, e.Index, v.leaves[i]); err != nil {
			return reject(codeInclusion, place("entry", e.Index), fmt.Sprintf("a proof under the checkpoint of %d entries", c.Size), err.Error())
		}
	}
	return nil
}

// start finds the entry that opened the epoch: exactly one, which says of the
// sensor and the boot what the header says, and which stays the same.
func (v *verification) start() *Rejection {
	h, last := v.b.Header, v.host.Last
	var found *evidence.Start
	for i := range v.b.Entries {
		s := v.b.Entries[i].Value.Start
		if s == nil || s.Epoch != h.Epoch {
			continue
		}
		if found != nil {
			return reject(codeStart, place("entry", v.b.Entries[i].Index), "one start of epoch "+number(h.Epoch), "a second one")
		}
		found, v.startIndex, v.startLeaf, v.signals = s, v.b.Entries[i].Index, v.leaves[i], s.Signals
	}
	switch {
	case found == nil:
		return reject(codeStart, "entries", "the start of epoch "+number(h.Epoch), "none")
	case found.Tier != h.Tier:
		return reject(codeStart, "start tier", quoted(h.Tier), quoted(found.Tier))
	case found.Sensor != h.Sensor:
		return reject(codeStart, "start sensor_object", h.Sensor.String(), found.Sensor.String())
	case !bytes.Equal(found.BootID, h.BootID):
		return reject(codeStart, "start boot_id", hexOf(h.BootID), hexOf(found.BootID))
	case last != nil && h.Epoch == last.Epoch && v.startLeaf != last.Start:
		return reject(codeStart, place("entry", v.startIndex), "start with leaf "+last.Start.String(), v.startLeaf.String())
	case last != nil && h.Epoch != last.Epoch && v.startIndex < last.Size:
		return reject(codeStart, place("entry", v.startIndex), fmt.Sprintf("a new epoch after the %d entries known", last.Size), "one among them")
	}
	return nil
}
