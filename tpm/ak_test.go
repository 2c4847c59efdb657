// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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

// alterLink changes the answers to one command on their way.
type alterLink struct {
	link
	code  tpm2.TPMCC
	alter func([]byte)
}

func (l *alterLink) exchange(command []byte) ([]byte, error) {
	answer, err := l.link.exchange(command)
	if err == nil && commandCode(command) == l.code {
		l.alter(answer)
	}
	return answer, err
}

func TestRefusesAnotherKeyThanAskedFor(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	template := akTemplate("1")
	genuine := createAK(t, dev, "1").Public()
	if k, err := newKey(0x80000000, genuine, template); err != nil || len(k.name.Buffer) != 34 {
		t.Fatal(err)
	}
	unrestricted := akTemplate("1")
	unrestricted.ObjectAttributes.Restricted = false
	for says, encoded := range map[string][]byte{
		"does not follow the template": tpm2.Marshal(unrestricted),
		"type 0x1, want 0x23":          tpm2.Marshal(tpm2.RSAEKTemplate),
		"not canonical":                append(bytes.Clone(genuine), 0),
		"public area of key":           genuine[:40],
	} {
		if _, err := newKey(0x80000000, encoded, template); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want it to say %q", err, says)
		}
	}
	dev.bus.link = &alterLink{dev.bus.link, tpm2.TPMCCCreatePrimary, func(answer []byte) {
		answer[len(answer)-6] ^= 1 // the last byte of the name
	}}
	if _, err := dev.CreateAK(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("took a key of another name: %v", err)
	}
	if len(dev.keys.loaded) != 1 {
		t.Errorf("loaded %x: the refused key is among them", dev.keys.loaded)
	}
}

func ExampleQualifiedName() {
	name := append([]byte{0x00, 0x0b}, make([]byte, 32)...)
	fmt.Printf("%x\n", QualifiedName(name))
	// Output:
	// 000b71d37f91fb2e303f3fb95bf81824f45dea18f9d89c11a27c3d8ecdbfdf3694a8
}
