// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package softtpm

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/internal/require"
)

// printed is what tpm2_eventlog, which nobody here wrote, makes of a log.
func printed(t *testing.T, chip *TPM) string {
	t.Helper()
	_, err := exec.LookPath("tpm2_eventlog")
	require.Need(t, "tpm", err)
	out, err := exec.Command("tpm2_eventlog", chip.EventLog()).CombinedOutput()
	if err != nil {
		t.Fatalf("tpm2_eventlog: %v\n%s", err, out)
	}
	return string(out)
}

// replayed takes the PCR values from the end of what tpm2_eventlog prints.
func replayed(text string) map[string]map[uint]string {
	banks := make(map[string]map[uint]string)
	var bank map[uint]string
	line := regexp.MustCompile(`^\s+(\d+)\s*: 0x([0-9a-f]+)$`)
	_, text, _ = strings.Cut(text, "\npcrs:\n")
	for s := range strings.Lines(text) {
		s = strings.TrimRight(s, "\n")
		if m := line.FindStringSubmatch(s); m != nil {
			var pcr uint
			for _, digit := range m[1] {
				pcr = 10*pcr + uint(digit-'0')
			}
			bank[pcr] = m[2]
		} else {
			bank = make(map[uint]string)
			banks[strings.TrimSuffix(strings.TrimSpace(s), ":")] = bank
		}
	}
	return banks
}

func TestLogReplaysInEveryBank(t *testing.T) {
	chip := start(t, Options{Banks: "sha1,sha256,sha384,sha512", Firmware: true})
	for range 2 { // at the first start, and after a reset
		values := replayed(printed(t, chip))
		if len(values) != 4 {
			t.Fatalf("replay has banks %v", values)
		}
		w := dial(t, chip.Path())
		for bank, algorithm := range map[string]tpm2.TPMIAlgHash{
			"sha1": tpm2.TPMAlgSHA1, "sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512,
		} {
			for pcr := range uint(16) {
				got := hexPCR(t, w, algorithm, pcr)
				want := values[bank][pcr]
				if want == "" {
					want = strings.Repeat("0", len(got)) // not in the log, so nobody extended it
				}
				if got != want {
					t.Errorf("%s PCR %d is %s, the log makes %s", bank, pcr, got, want)
				}
			}
			for pcr := range uint(8) {
				if values[bank][pcr] == "" {
					t.Errorf("%s PCR %d is not in the log", bank, pcr)
				}
			}
		}
		if err := chip.Reset(); err != nil {
			t.Fatal(err)
		}
	}
}

func hexPCR(t *testing.T, w wire, algorithm tpm2.TPMIAlgHash, pcr uint) string {
	t.Helper()
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: algorithm, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)}}}}.Execute(w)
	if err != nil {
		t.Fatal(err)
	}
	if len(rsp.PCRValues.Digests) != 1 {
		t.Fatalf("PCR %d: %d values", pcr, len(rsp.PCRValues.Digests))
	}
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, x := range rsp.PCRValues.Digests[0].Buffer {
		b.WriteByte(digits[x>>4])
		b.WriteByte(digits[x&15])
	}
	return b.String()
}

// Another boot differs where it should, and only there.
func TestAnotherBoot(t *testing.T) {
	chip := start(t, Options{Blank: true, Firmware: true})
	read := func() (pcrs [16]string) {
		w := dial(t, chip.Path())
		for pcr := range pcrs {
			pcrs[pcr] = string(readPCR(t, w, uint(pcr)))
		}
		return pcrs
	}
	usual := read()
	for name, c := range map[string]struct {
		boot  bootlog.Boot
		moved []int
		says  string
	}{
		"usual":            {bootlog.Boot{}, nil, bootlog.DefaultCommandLine},
		"Secure Boot off":  {bootlog.Boot{SecureBootOff: true}, []int{7}, "SecureBoot"},
		"another kernel":   {bootlog.Boot{Kernel: "6.12.0-evil"}, []int{4, 8, 9}, "vmlinuz-6.12.0-evil"},
		"other parameters": {bootlog.Boot{CommandLine: "init=/bin/sh"}, []int{8, 9}, "init=/bin/sh"},
	} {
		chip.SetBoot(c.boot)
		if err := chip.Reset(); err != nil {
			t.Fatal(err)
		}
		moved := make(map[int]bool)
		foretold := c.boot.PCRs()
		for pcr, value := range read() {
			if value != usual[pcr] {
				moved[pcr] = true
			}
			if value != string(foretold[pcr][:]) {
				t.Errorf("%s: PCR %d is %x, without a TPM it is %x", name, pcr, value, foretold[pcr])
			}
		}
		for _, pcr := range c.moved {
			if !moved[pcr] {
				t.Errorf("%s: PCR %d is as usual", name, pcr)
			}
			delete(moved, pcr)
		}
		if len(moved) != 0 {
			t.Errorf("%s: PCRs %v moved too", name, moved)
		}
		if text := printed(t, chip); !strings.Contains(text, c.says) {
			t.Errorf("%s: the log does not say %q", name, c.says)
		}
	}
}

// Sleep does not boot, so it leaves the log alone.
func TestResumeLeavesTheLog(t *testing.T) {
	chip := start(t, Options{Blank: true, Firmware: true})
	before, err := os.ReadFile(chip.EventLog())
	if err != nil {
		t.Fatal(err)
	}
	chip.SetBoot(bootlog.Boot{SecureBootOff: true})
	if err := chip.Resume(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(chip.EventLog()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the log changed: %v", err)
	}
	if err := chip.Restart(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(chip.EventLog()); err != nil || bytes.Equal(before, after) {
		t.Errorf("the log did not change: %v", err)
	}
}
