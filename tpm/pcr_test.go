// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

func TestReadPCRsRefuses(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	for _, pcrs := range [][]uint8{{1, 0}, {3, 3}, {24}, {0, 255}} {
		if _, err := dev.ReadPCRs(t.Context(), pcrs); err == nil {
			t.Errorf("read PCRs %d", pcrs)
		}
	}
	all := make([]uint8, pcrCount)
	for i := range all {
		all[i] = uint8(i)
	}
	if pcrs, err := dev.ReadPCRs(t.Context(), all); err != nil || len(pcrs) != pcrCount {
		t.Errorf("%d PCRs, %v", len(pcrs), err)
	}
	if pcrs, err := dev.ReadPCRs(t.Context(), nil); err != nil || len(pcrs) != 0 {
		t.Errorf("%d PCRs, %v", len(pcrs), err)
	}
}

func TestReadValuesRefuses(t *testing.T) {
	want := []uint8{3, 4, 5}
	digests := func(sizes ...int) (list tpm2.TPMLDigest) {
		for _, n := range sizes {
			list.Digests = append(list.Digests, tpm2.TPM2BDigest{Buffer: make([]byte, n)})
		}
		return list
	}
	sha1 := selection(want)
	sha1.PCRSelections[0].Hash = tpm2.TPMAlgSHA1
	for name, c := range map[string]struct {
		selected tpm2.TPMLPCRSelection
		values   tpm2.TPMLDigest
		count    int // 0: refused
	}{
		"all":                  {selection(want), digests(32, 32, 32), 3},
		"the lowest":           {selection(want[:2]), digests(32, 32), 2},
		"another":              {selection([]uint8{3, 4, 6}), digests(32, 32, 32), 0},
		"one more":             {selection([]uint8{3, 4, 5, 6}), digests(32, 32, 32, 32), 0},
		"not the lowest":       {selection([]uint8{4, 5}), digests(32, 32), 0},
		"fewer values":         {selection(want), digests(32, 32), 0},
		"more values":          {selection(want), digests(32, 32, 32, 32), 0},
		"values of nothing":    {selection(nil), digests(32), 0},
		"short value":          {selection(want), digests(32, 20, 32), 0},
		"values of other bank": {sha1, digests(32, 32, 32), 0},
		"nothing":              {tpm2.TPMLPCRSelection{}, digests(), 0},
	} {
		got, err := readValues(&tpm2.PCRReadResponse{PCRSelectionOut: c.selected, PCRValues: c.values}, want)
		if (err == nil) != (c.count > 0) || len(got) != c.count {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestRefusesTPMWithoutSHA256Bank(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Banks: "sha1,sha384"})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	if quote, err := ak.Quote(t.Context(), evidence.Hash{}); !errors.Is(err, ErrBank) || quote.Attest != nil {
		t.Fatalf("%+v, %v", quote, err)
	}
	p, err := dev.Properties(t.Context())
	if err != nil || len(p.Banks) != 2 || p.Banks[0] != "sha1" || p.Banks[1] != "sha384" {
		t.Errorf("banks %q, %v", p.Banks, err)
	}
}
