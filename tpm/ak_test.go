// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

func TestAKIsTheSameAfterRestartAndReset(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	first := createAK(t, open(t, chip.Path()), "1")
	if other := createAK(t, open(t, chip.Path()), "2"); bytes.Equal(other.Public(), first.Public()) {
		t.Error("another rotation id made the same key")
	}
	for name, cycle := range map[string]func() error{"reset": chip.Reset, "restart": chip.Restart, "power cut": chip.PowerCut} {
		if err := cycle(); err != nil {
			t.Fatal(err)
		}
		if again := createAK(t, open(t, chip.Path()), "1"); !bytes.Equal(again.Public(), first.Public()) || !bytes.Equal(again.Name(), first.Name()) {
			t.Errorf("after a %s the key is another one", name)
		}
	}
	if other := createAK(t, open(t, startTPM(t, softtpm.Options{Blank: true}).Path()), "1"); bytes.Equal(other.Public(), first.Public()) {
		t.Error("two TPMs have the same key")
	}
}

// The template is part of the format: a change would orphan every enrolled host.
func TestAKTemplateIsFixed(t *testing.T) {
	// type, nameAlg, attributes, authPolicy; symmetric, scheme, curve, KDF; x, y.
	x := sha256.Sum256([]byte("jurat-ak/v11"))
	want, err := hex.DecodeString("0023000b000504720000" + "00100018000b00030010" +
		"0020" + hex.EncodeToString(x[:]) + "0020" + strings.Repeat("00", 32))
	if err != nil {
		t.Fatal(err)
	}
	got := tpm2.Marshal(akTemplate("1"))
	if !bytes.Equal(got, want) {
		t.Errorf("template is\n%x, want\n%x", got, want)
	}
}
