// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"crypto/sha256"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// listed is the host at first contact with an IMA list of five entries.
func listed() *testbundle.World {
	w := testbundle.First()
	w.IMA = testbundle.FilesListed(&w.PCRs, "/usr/lib/systemd/systemd", "/usr/bin/invoice-agent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
	return w
}

// listedBefore is the host at second contact; three entries are known.
func listedBefore() *testbundle.World {
	w := testbundle.Second()
	w.IMA = listed().IMA
	w.IMA.From = 3
	w.KeptFiles = []evidence.Hash{evidence.Hash(testbundle.Digest("/usr/lib/systemd/systemd").Value), evidence.Hash(testbundle.Digest("/usr/bin/invoice-agent").Value)}
	w.KeptIMA = verify.NewIMAList(verify.IMAPosition{Count: 3, PCR: w.IMA.PCR(3), ResetCount: w.Last.ResetCount, RestartCount: w.Last.RestartCount}, w.KeptFiles)
	return w
}

func list(change func(*testbundle.IMA)) func(*testbundle.World) {
	return func(w *testbundle.World) { change(w.IMA) }
}

// hibernated moves the count of restarts, in a new epoch.
func hibernated(w *testbundle.World) {
	w.Epoch = 2
	w.Clock.RestartCount++
	w.Log[3] = testbundle.Start(2, w.BootID)
	w.Send = []uint64{3, 4}
}

// lists is the kernel's own list of measured files.
var lists = []fault{
	{"ok-ima", OK, "first contact with an IMA list of five entries", listed, nil},
	{"ok-ima-moved", OK, "the kernel measured one more file between the header and the quote", listed, list(func(l *testbundle.IMA) { l.Committed, l.Counted = 3, 4 })},
	{"ok-ima-behind", OK, "the kernel measured one more file after the quote: it does not count", listed, list(func(l *testbundle.IMA) { l.Committed, l.Counted, l.Quoted = 4, 4, 4 })},
	{"ok-ima-tail", OK, "second contact: only what is new is sent", listedBefore, nil},
	{"ok-ima-nothing-new", OK, "second contact: the list has not grown", listedBefore, list(func(l *testbundle.IMA) { l.Upto(3) })},
	{"ok-ima-from-zero", OK, "second contact: the whole list is sent again", listedBefore, list(func(l *testbundle.IMA) { l.From = 0 })},
	{"ok-ima-after-sleep", OK, "a TPM Resume: the list goes on", listedBefore, hibernated},
	{"ok-ima-after-reset", OK, "after a reset the list begins anew", rebooted, func(w *testbundle.World) { w.IMA = listed().IMA }},
	{"ok-ima-torn", OK, "the last entry was still being written", listed, func(w *testbundle.World) {
		w.IMA.Committed, w.IMA.Counted, w.IMA.Quoted = 4, 4, 4
		w.OnBundle = func(b bundle) { b.IMA.Data = b.IMA.Data[:len(b.IMA.Data)-7] }
	}},
	{"ok-ima-other-pcr", OK, "an entry of another PCR, which proves nothing", listed, list(func(l *testbundle.IMA) { l.OtherPCR(2) })},
	{"ok-ima-violation", OK, "a violation, which this policy accepts", listed, func(w *testbundle.World) {
		w.Policy.IMAViolations = true
		w.IMA.Violate(2)
	}},

	{"ima-replay", "E_IMA_REPLAY", "an entry was changed: no prefix makes PCR 10", listed, func(w *testbundle.World) {
		pcr := w.IMA.PCR(5)
		w.IMA.Entries[2][60] ^= 1
		w.OnHeader = func(*evidence.Header) { w.IMA.Fixed = &pcr }
	}},
	{"ima-dropped", "E_IMA_REPLAY", "an entry was taken out", listed, func(w *testbundle.World) {
		pcr := w.IMA.PCR(5)
		w.IMA.Entries = append(w.IMA.Entries[:2:2], w.IMA.Entries[3:]...)
		w.IMA.Upto(4).Fixed = &pcr
	}},
	{"ima-short", "E_IMA_REPLAY", "the list ends before what PCR 10 is about", listed, list(func(l *testbundle.IMA) { l.Committed, l.Counted, l.Sent = 4, 4, 4 })},
	{"ima-hibernated", "E_IMA_REPLAY", "a hibernation: PCR 10 began anew, and the list did not", listedBefore, func(w *testbundle.World) {
		hibernated(w)
		pcr := w.IMA.PCR(1)
		w.IMA.Fixed = &pcr
	}},
	{"ima-old-prefix", "E_IMA_REPLAY", "PCR 10 is about fewer entries than the header counts", listed, list(func(l *testbundle.IMA) { l.Quoted = 4 })},
	{"ima-partial", "E_IMA_PARTIAL", "the list did not fit into the bundle", listed, list(func(l *testbundle.IMA) { l.Counted, l.Sent, l.More = 3, 3, true })},
	{"ima-violation", "E_IMA_VIOLATION", "a file was written to while it was measured", listed, list(func(l *testbundle.IMA) { l.Violate(2) })},
	{"ima-violation-partial", "E_IMA_VIOLATION", "a violation in a list that did not fit", listed, list(func(l *testbundle.IMA) {
		l.Violate(2)
		l.Counted, l.Sent, l.More = 3, 3, true
	})},
	{"ima-aggregate", "E_IMA_AGGREGATE", "the list begins with another boot", listed, func(w *testbundle.World) { w.PCRs[3] = testbundle.Text("another boot") }},
	{"ima-form", "E_IMA_FORM", "an entry whose template has a name of four billion bytes", listed, list(func(l *testbundle.IMA) { copy(l.Entries[4][24:], "\xff\xff\xff\xff") })},
	{"ima-count", "E_IMA", "the header counts fewer IMA entries than the checkpoint", first, checkpoint(func(c *evidence.Checkpoint) { c.IMACount = 1 })},
	{"ima-count-above", "E_IMA", "the header counts more entries than are sent", listed, header(func(h *evidence.Header) { h.IMACount++ })},
	{"ima-count-below", "E_IMA", "the header counts fewer entries than are known", listedBefore, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) {
			h.IMACount, h.IMADigest = 2, evidence.Known(evidence.Hash(sha256.Sum256(nil)))
		}
		w.OnCheckpoint = func(c *evidence.Checkpoint) { c.IMACount = 2 }
	}},
	{"ima-digest", "E_IMA", "the header has another digest of what is sent", listed, header(func(h *evidence.Header) { h.IMADigest = evidence.Known(testbundle.Text("another")) })},
	{"ima-checkpoint-digest", "E_IMA", "the checkpoint has another digest of the list", listed, checkpoint(func(c *evidence.Checkpoint) {
		c.IMADigest = evidence.Known(testbundle.Text("another"))
	})},
	{"ima-data", "E_IMA", "an IMA list that nothing covers", first, rework(func(b bundle) { b.IMA.Data = []byte("list") })},
	{"ima-more", "E_IMA", "an IMA list that goes on, and is not there", first, rework(func(b bundle) { b.IMA.More = true })},
	{"ima-from", "E_IMA", "an IMA list that goes on, and was never there", first, rework(func(b bundle) { b.IMA.From = 3 })},
	{"ima-from-other", "E_IMA", "second contact from another place than the known one", listedBefore, list(func(l *testbundle.IMA) { l.From = 2 })},
	{"ima-from-unkept", "E_IMA", "the list goes on from where it was, and nothing of it was kept", listed, list(func(l *testbundle.IMA) { l.From = 2 })},
	{"ima-from-before-reset", "E_IMA", "after a reset the list goes on from where it was", rebooted, func(w *testbundle.World) {
		before := listedBefore()
		w.IMA, w.KeptIMA, w.KeptFiles = before.IMA, before.KeptIMA, before.KeptFiles
	}},
	{"ima-uncovered", "E_IMA", "IMA entries are counted, but not digested", first, header(func(h *evidence.Header) { h.IMACount = 3 })},
}
