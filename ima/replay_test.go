// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// register is a PCR of a TPM, extended as a TPM extends it.
type register []byte

func (r register) extend(digest []byte) register {
	if len(r) == sha1.Size {
		d := sha1.Sum(append(bytes.Clone(r), digest...))
		return d[:]
	}
	d := sha256.Sum256(append(bytes.Clone(r), digest...))
	return d[:]
}

// TestReplay: what each generation of kernels extends, done by hand.
func TestReplay(t *testing.T) {
	zero := make([]byte, 32)
	now, before, sha1bank := register(zero), register(zero), register(zero[:20])
	ones := bytes.Repeat([]byte{0xff}, 32)
	extend := func(hashed []byte) {
		d256, d1 := sha256.Sum256(hashed), sha1.Sum(hashed)
		now, before, sha1bank = now.extend(d256[:]), before.extend(append(d1[:], zero[:12]...)), sha1bank.extend(d1[:])
	}
	w := newWriter()
	w.add(10, "ima-ng", ng("sha256", sum(1)), name("/a"))
	extend(w.data(ng("sha256", sum(1)), name("/a")))
	w.add(11, "ima-ng", ng("sha256", sum(2)), name("/elsewhere"))
	w.violation(10, "ima-ng", ng("sha256", make([]byte, 20)), name("/b"))
	now, before, sha1bank = now.extend(ones), before.extend(append(bytes.Clone(ones[:20]), zero[:12]...)), sha1bank.extend(ones[:20])
	w.legacy(10, sum(3)[:20], "/c")
	extend(append(append(bytes.Clone(sum(3)[:20]), "/c"...), make([]byte, 254)...))

	r := NewReplay(10, AllTracks)
	var halfway Replay
	for i, e := range all(t, Format{}, w.list) {
		r.Add(&e)
		if i == 1 { // kept as plain data, and taken up again
			kept, err := json.Marshal(r)
			if err != nil || json.Unmarshal(kept, &halfway) != nil {
				t.Fatal(err)
			}
		} else if i > 1 {
			halfway.Add(&e)
		}
	}
	if r.Count != 4 || r.Followed != 3 || r.Violations != 1 || halfway != r {
		t.Errorf("%+v, kept and taken up again %+v", r, halfway)
	}
	for _, c := range []struct {
		value []byte
		track Track
	}{{now, TrackSHA256}, {before, TrackPadded}, {sha1bank, TrackSHA1}} {
		if track, ok := r.Match(c.value); !ok || track != c.track {
			t.Errorf("%x: track %d, %v; want track %d", c.value, track, ok, c.track)
		}
		only := NewReplay(10, AllTracks&^c.track)
		for _, e := range all(t, Format{}, w.list) {
			only.Add(&e)
		}
		if track, ok := only.Match(c.value); ok {
			t.Errorf("%x: matches track %d without track %d", c.value, track, c.track)
		}
		c.value[3] ^= 1
		if _, ok := r.Match(c.value); ok {
			t.Errorf("%x matches", c.value)
		}
	}
	if _, ok := r.Match(nil); ok {
		t.Error("nothing matches")
	}
	if TrackSHA1.Bank() != "sha1" || TrackSHA256.Bank() != "sha256" || TrackPadded.Bank() != "sha256" {
		t.Error("banks")
	}
}

// TestCheckTemplateDigest: any bit of the data counts, and of the digest.
func TestCheckTemplateDigest(t *testing.T) {
	for _, bank := range []int{20, 32, 48, 64} {
		w := newWriter()
		w.bank = bank
		list := w.add(10, "ima-ng", ng("sha256", sum(1)), name("/a")).legacy(10, sum(2)[:20], "/b").list
		for _, e := range all(t, Format{DigestSize: bank}, list) {
			for _, b := range []*byte{&e.TemplateDigest[bank-1], &e.Data[0], &e.Data[len(e.Data)-1]} {
				*b ^= 1
				if e.CheckTemplateDigest() {
					t.Errorf("bank of %d bytes: a wrong digest passes", bank)
				}
				*b ^= 1
			}
			if !e.CheckTemplateDigest() {
				t.Errorf("bank of %d bytes: the digest does not pass", bank)
			}
		}
	}
	if (&Entry{TemplateDigest: []byte{1, 2, 3}}).CheckTemplateDigest() {
		t.Error("a digest of three bytes passes")
	}
}

// TestBootAggregate: over the registers, and with the values, of the kernel's
// ima_calc_boot_aggregate_tfm.
func TestBootAggregate(t *testing.T) {
	values := func(size int) func(int) []byte {
		return func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	}
	concat := func(size, n int) (out []byte) {
		for i := range n {
			out = append(out, values(size)(i)...)
		}
		return out
	}
	eight, ten, old := sha256.Sum256(concat(32, 8)), sha256.Sum256(concat(32, 10)), sha1.Sum(concat(20, 8))
	got := BootAggregate("sha256", values(32))
	if len(got) != 2 || got[0].PCRs != 10 || !bytes.Equal(got[0].Digest, ten[:]) || got[1].PCRs != 8 || !bytes.Equal(got[1].Digest, eight[:]) {
		t.Errorf("sha256: %+v", got)
	}
	if got := BootAggregate("sha1", values(20)); len(got) != 1 || got[0].PCRs != 8 || !bytes.Equal(got[0].Digest, old[:]) {
		t.Errorf("sha1: %+v", got)
	}
	partly := func(missing int) func(int) []byte {
		return func(i int) []byte {
			if i == missing {
				return nil
			}
			return values(32)(i)
		}
	}
	if got := BootAggregate("sha256", partly(9)); len(got) != 1 || got[0].PCRs != 8 {
		t.Errorf("without PCR 9: %+v", got)
	}
	if got := BootAggregate("sha256", partly(0)); got != nil {
		t.Errorf("without PCR 0: %+v", got)
	}
	if got := BootAggregate("sm3", values(32)); got != nil {
		t.Errorf("sm3: %+v", got)
	}
	// Known from machines whose firmware measured nothing.
	none := BootAggregate("sha1", func(int) []byte { return make([]byte, 20) })
	if hex.EncodeToString(none[0].Digest) != "9797edf8d0eed36b1cf92547816051c8af4e45ee" {
		t.Errorf("all zero: %x", none[0].Digest)
	}
}
