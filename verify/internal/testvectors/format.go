// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

const codeFormat = "E_FORMAT"

// reshape changes the bytes of a good bundle.
func reshape(change func([]byte) []byte) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnBytes = change }
}

// rework changes the parts of a good bundle.
func rework(change func(*evidence.Bundle)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnBundle = change }
}

// formats are not bundles at all, or larger in a part than they may be.
var formats = []fault{
	{"format-empty", codeFormat, "no byte at all", first, reshape(func([]byte) []byte { return nil })},
	{"format-truncated", codeFormat, "the last byte is missing", first, reshape(func(d []byte) []byte { return d[:len(d)-1] })},
	{"format-trailing", codeFormat, "one byte behind the end", first, reshape(func(d []byte) []byte { return append(d, 0) })},
	{"format-tagged", codeFormat, "a tag before the map", first, reshape(func(d []byte) []byte { return append([]byte{0xd9, 0x02, 0x59}, d...) })},
	{"format-indefinite", codeFormat, "a map of indefinite length", first, reshape(func(d []byte) []byte {
		return append(append([]byte{0xbf}, d[1:]...), 0xff)
	})},
	{"format-long-integer", codeFormat, "a key that is not in its shortest form", first, reshape(func(d []byte) []byte {
		return swap(d, []byte{0x0a, 0x58, 56}, []byte{0x18, 0x0a, 0x58, 56})
	})},
	{"format-profile", codeFormat, "another version of the format", first, reshape(func(d []byte) []byte {
		return swap(d, []byte("jurat.dev/evidence/v1"), []byte("jurat.dev/evidence/v2"))
	})},
	{"format-duplicate-key", codeFormat, "one key twice", first, reshape(func(d []byte) []byte {
		nonce := bytes.Index(d, []byte{0x0a, 0x58, 56})
		return append(append([]byte{d[0] + 1}, d[nonce:nonce+3+56]...), d[1:]...)
	})},
	{"format-null", codeFormat, "null where bytes belong", first, reshape(func(d []byte) []byte {
		return swap(d, []byte{0x3a, 0x00, 0x01, 0x11, 0x77, 0x40}, []byte{0x3a, 0x00, 0x01, 0x11, 0x77, 0xf6})
	})},
	{"format-header-trailing", codeFormat, "one byte behind the header", first, rework(func(b *evidence.Bundle) { b.RawHeader = append(b.RawHeader, 0) })},
	{"format-header-version", codeFormat, "a header of version 2", first, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) { h.Version = 2 }
	}},
	{"format-checkpoint-version", codeFormat, "a checkpoint of version 2", first, func(w *testbundle.World) {
		w.OnCheckpoint = func(c *evidence.Checkpoint) { c.Version = 2 }
	}},
	{"format-request-version", codeFormat, "a request of version 2", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Version = 2 }
	}},
	{"format-entry-version", codeFormat, "an entry of version 2", first, func(w *testbundle.World) {
		w.Log[testbundle.ProcessEntry].Version = 2
	}},
	{"format-entry-bodies", codeFormat, "an entry with two bodies", first, func(w *testbundle.World) {
		w.Log[testbundle.ProcessEntry].Exit = &evidence.Exit{}
	}},
	{"format-request-nonce", codeFormat, "a request that answers another challenge than the bundle", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Nonce[0] ^= 1 }
	}},
	{"format-request-confirm", codeFormat, "a bearer request with a key", first, func(w *testbundle.World) {
		w.OnRequest = func(_ int, r *evidence.Request) { r.Confirm.Method = evidence.ConfirmBearer }
	}},
	{"format-no-request", codeFormat, "no request", first, rework(func(b *evidence.Bundle) { b.Requests, b.Closing = nil, nil })},
	{"format-closing-missing", codeFormat, "a request without its closing look", batch, rework(func(b *evidence.Bundle) { b.Closing = b.Closing[:4] })},
	{"format-closing-order", codeFormat, "two closing looks change places", batch, rework(func(b *evidence.Bundle) {
		b.Closing[0], b.Closing[1] = b.Closing[1], b.Closing[0]
	})},
	{"format-attest-size", codeFormat, "an attest of 1025 bytes", first, rework(func(b *evidence.Bundle) { b.Quote.Attest = make([]byte, evidence.MaxAttest+1) })},
	{"format-signature-size", codeFormat, "a signature of 1025 bytes", first, rework(func(b *evidence.Bundle) { b.Quote.Signature = make([]byte, evidence.MaxSignature+1) })},
	{"format-proof-size", codeFormat, "a proof of 65 hashes", first, rework(func(b *evidence.Bundle) { b.Requests[0].Proof = make(evidence.Proof, evidence.MaxProof+1) })},
	{"format-pcr-order", codeFormat, "two PCR values change places", first, rework(func(b *evidence.Bundle) {
		p := b.Quote.PCRs
		p[3], p[4] = p[4], p[3]
	})},
	{"format-pcr-twice", codeFormat, "one PCR twice", first, rework(func(b *evidence.Bundle) { b.Quote.PCRs[4].Index = 3 })},
	{"format-nonce-short", codeFormat, "a nonce of 7 bytes", first, rework(func(b *evidence.Bundle) { b.Nonce = b.Nonce[:7] })},
	{"format-ueid", codeFormat, "a ueid of another type", first, rework(func(b *evidence.Bundle) { b.UEID[0] = 2 })},
}
