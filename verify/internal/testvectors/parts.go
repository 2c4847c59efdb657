// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// header changes the header before it is quoted.
func header(change func(*evidence.Header)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnHeader = change }
}

// parts do not belong together, or say what cannot be checked.
var parts = []fault{
	{"mix-header-ak", "E_MIX", "the header names another key", first, header(func(h *evidence.Header) { h.AKName[5] ^= 1 })},
	{"mix-checkpoint-ak", "E_MIX", "the checkpoint names another key", first, checkpoint(func(c *evidence.Checkpoint) { c.AKName[5] ^= 1 })},
	{"mix-checkpoint", "E_MIX", "another checkpoint than the quoted one", first, rework(func(b bundle) {
		b.Checkpoint.At++
		b.RawChk = b.Checkpoint.Marshal()
	})},
	{"mix-checkpoint-earlier", "E_MIX", "the checkpoint of the last bundle under a new quote", second, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) { b.RawChk = testbundle.First().Build().Bundle.RawChk }
	}},
	{"mix-number", "E_MIX", "header and checkpoint number differently", first, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) { h.Number++ }
		w.OnRequest = func(_ int, r *evidence.Request) { r.Number++ }
	}},
	{"mix-epoch", "E_MIX", "header and checkpoint are of two epochs", first, checkpoint(func(c *evidence.Checkpoint) { c.Epoch++ })},
	{"mix-boot-id", "E_MIX", "header and checkpoint are of two boots", first, checkpoint(func(c *evidence.Checkpoint) { c.BootID = make([]byte, 16) })},
	{"mix-request-number", "E_MIX", "a request made at another checkpoint", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Number++ }
	}},
	{"mix-quote-earlier", "E_EXTRADATA", "the quote of the last bundle with a new header", second, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) { b.Quote = testbundle.First().Build().Bundle.Quote }
	}},
	{"mix-header-earlier", "E_SEQUENCE", "quote and header of the last bundle with new requests", second, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			old := testbundle.First().Build().Bundle
			b.Quote, b.RawHeader, b.RawChk = old.Quote, old.RawHeader, old.RawChk
		}
	}},
	{"mix-requests-later", "E_INCLUSION", "a request that came after the quote", first, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			r := b.Requests[0].Value
			r.Audience = "https://payroll.example"
			b.Requests[0].Raw = r.Marshal()
		}
	}},
	{"mix-entries-later", "E_INCLUSION", "an entry that came after the checkpoint", first, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			e := *b.Entries[1].Value
			e.At++
			raw, err := e.Marshal()
			if err != nil {
				panic("testvectors: " + err.Error())
			}
			b.Entries[1].Raw = raw
		}
	}},

	{"tier-unknown", "E_TIER", "an unknown tier", first, header(func(h *evidence.Header) { h.Tier = "procfs" })},
	{"tier-policy", "E_TIER", "a tier that the policy does not accept", first, func(w *testbundle.World) { w.Policy.Tiers = []string{verify.TierLSM} }},
	{"anchor-unknown", "E_ANCHOR", "an unknown anchor mode", first, header(func(h *evidence.Header) { h.Anchor = "pcr-23" })},
	{"anchor-policy", "E_ANCHOR", "an anchor mode that the policy does not accept", first, func(w *testbundle.World) { w.Policy.Anchors = []string{evidence.AnchorNVLatch} }},
	{"register-needless", "E_REGISTER", "a register although the anchor mode is none", first, rework(func(b bundle) { b.Register = &evidence.Register{} })},
	{"register-name-needless", "E_REGISTER", "a register's name although the anchor mode is none", first, header(func(h *evidence.Header) { h.NVName = []byte{0, 0x0b} })},
	{"register-missing", "E_REGISTER", "a latched register that is not shown", first, func(w *testbundle.World) {
		anchored(evidence.AnchorNVLatch)(w)
		w.OnBundle = nil
	}},
}

// anchored claims a register and shows something in its place.
func anchored(mode string) func(*testbundle.World) {
	return func(w *testbundle.World) {
		name := testbundle.Text("NV index")
		w.OnHeader = func(h *evidence.Header) { h.Anchor, h.NVName = mode, append([]byte{0, 0x0b}, name[:]...) }
		w.OnBundle = func(b bundle) {
			b.Register = &evidence.Register{Certified: evidence.Certification{Attest: []byte{1}, Signature: []byte{2}}}
		}
	}
}

// proofs fail in the log, in the batch, or in what a request says it is about.
var proofs = []fault{
	{"entry-proof", "E_INCLUSION", "a wrong hash in an entry's proof", first, rework(func(b bundle) { b.Entries[1].Proof[0][0] ^= 1 })},
	{"entry-proof-short", "E_INCLUSION", "an entry's proof lacks a hash", second, rework(func(b bundle) { b.Entries[0].Proof = b.Entries[0].Proof[1:] })},
	{"entry-index", "E_INCLUSION", "an entry behind the end of the log", first, rework(func(b bundle) { b.Entries[1].Index = 3 })},
	{"entry-moved", "E_INCLUSION", "an entry under another number", first, rework(func(b bundle) { b.Entries[1].Index = 1 })},
	{"request-proof", "E_INCLUSION", "a wrong hash in a request's proof", batch, rework(func(b bundle) { b.Requests[1].Proof[0][0] ^= 1 })},
	{"request-proof-long", "E_INCLUSION", "a hash too many in a request's proof", first, rework(func(b bundle) { b.Requests[0].Proof = evidence.Proof{{}} })},
	{"request-index", "E_INCLUSION", "a request behind the end of the batch", batch, rework(func(b bundle) { b.Requests[4].Index, b.Closing[4].Index = 5, 5 })},
	{"request-index-huge", "E_INCLUSION", "a request with the largest number there is", batch, rework(func(b bundle) {
		b.Requests[4].Index, b.Closing[4].Index = 1<<64-1, 1<<64-1
	})},
	{"batch-size", "E_INCLUSION", "the header counts more requests than its root has", first, header(func(h *evidence.Header) { h.Batch = 2 })},
	{"batch-root", "E_INCLUSION", "another batch", first, header(func(h *evidence.Header) { h.BatchRoot[0] ^= 1 })},
	{"log-size", "E_INCLUSION", "the checkpoint counts more entries than its root has", first, checkpoint(func(c *evidence.Checkpoint) { c.Size = 9 })},
	{"log-root", "E_INCLUSION", "another log", first, checkpoint(func(c *evidence.Checkpoint) { c.Root[0] ^= 1 })},

	{"start-missing", "E_START", "the start of the epoch is not shown", first, func(w *testbundle.World) { w.Send = w.Send[1:] }},
	{"start-other-epoch", "E_START", "only the start of another epoch is shown", rebooted, func(w *testbundle.World) { w.Send = []uint64{0, 4} }},
	{"start-twice", "E_START", "two starts of one epoch", first, func(w *testbundle.World) {
		w.Log[testbundle.ExecEntry] = testbundle.Start(1, w.BootID)
		w.Send = []uint64{0, 1, 2}
	}},
	{"start-tier", "E_START", "the header claims a better tier than the log", first, header(func(h *evidence.Header) { h.Tier = verify.TierLSM })},
	{"start-sensor", "E_START", "the header claims another sensor than the log", first, header(func(h *evidence.Header) { h.Sensor[0] ^= 1 })},
	{"start-boot-id", "E_START", "the epoch began in another boot", first, func(w *testbundle.World) { w.Log[0] = testbundle.Start(1, make([]byte, 16)) }},
	{"start-changed", "E_START", "another start of the same epoch than the one known", second, func(w *testbundle.World) { w.Last.Start[0] ^= 1 }},
	{"start-early", "E_START", "a new epoch that begins among entries that were known before", rebooted, func(w *testbundle.World) {
		w.Log[testbundle.ExecEntry] = w.Log[3]
		w.Log = append(w.Log[:3], w.Log[4])
		w.Send = []uint64{testbundle.ExecEntry, 3}
		w.Requests[0].Subject.Index = 3
		known := testbundle.First()
		known.Log[testbundle.ExecEntry] = w.Log[testbundle.ExecEntry]
		next := known.Build().Next
		w.Last.Root, w.Last.Checkpoint = next.Root, next.Checkpoint
	}},

	{"request-broker", "E_BROKER", "a request for another broker", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Broker = "https://other.example" }
	}},
	{"subject-missing", "E_SUBJECT", "the measurement is not shown", first, func(w *testbundle.World) { w.Send = w.Send[:1] }},
	{"subject-leaf", "E_SUBJECT", "the request names another entry by hash than by number", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Subject.Leaf[0] ^= 1 }
	}},
	{"subject-kind", "E_SUBJECT", "the request names an exec, which measures nothing", first, func(w *testbundle.World) {
		w.Requests[0].Subject.Index = testbundle.ExecEntry
		w.Send = []uint64{0, 1, 2}
	}},
	{"subject-instance", "E_SUBJECT", "the measurement is of another process", first, func(w *testbundle.World) { w.Requests[0].Subject.Instance.PID++ }},
	{"subject-generation", "E_SUBJECT", "the measurement is of what the process ran before its last exec", first, func(w *testbundle.World) {
		w.Requests[0].Subject.Instance.Generation++
	}},
	{"subject-old-epoch", "E_SUBJECT", "the measurement was made before the epoch began", rebooted, func(w *testbundle.World) {
		w.Requests[0].Subject.Index = testbundle.ProcessEntry
		w.Send = []uint64{testbundle.ProcessEntry, 3}
	}},
}
