// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/eventlog"
	"github.com/jurat-dev/jurat/internal/require"
)

// corpus returns a folder of recorded data.
func corpus(t testing.TB, folder string) string {
	root := os.Getenv("JURAT_CORPUS")
	if root == "" {
		root = "../../shared/corpus"
	}
	dir := filepath.Join(root, folder)
	_, err := os.Stat(dir)
	require.Need(t, "corpus", err)
	return dir
}

func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// expected is what corpus/README.md says of the logs, and what else is known.
var expected = map[string]struct {
	events   int
	state    eventlog.SecureBoot
	kernel   bool
	lines    int
	locality int
	alarms   []string // the codes of all findings that are alarms
	others   []string // some others
	refused  eventlog.Code
}{
	"rhel8-uefi":                                    {events: 83, state: "on", kernel: true, lines: 1},
	"cos-101-amd-sev":                               {events: 49, state: "on", kernel: true, lines: 1},
	"ubuntu-2404-amd-sevsnp":                        {events: 117, state: "off", kernel: true, lines: 1, others: []string{"ebs-failed"}},
	"ubuntu-2104-no-secure-boot":                    {events: 106, state: "off", kernel: true, lines: 1},
	"ubuntu-1804-amd-sev":                           {events: 88, state: "off", kernel: true, lines: 1},
	"debian-10":                                     {events: 25, state: "on", kernel: true, alarms: []string{"bank-sha1-only"}},
	"confidential-gke-debug-251000_eventlog":        {events: 55, state: "on", kernel: true, lines: 1},
	"arch-linux-workstation":                        {events: 25, state: "unknown", kernel: true, lines: 1, others: []string{"secure-boot-unknown"}},
	"option_rom_eventlog":                           {events: 61, state: "on", kernel: true, alarms: []string{"bank-sha1-only"}},
	"ebs_event_missing_eventlog":                    {events: 38, state: "off", kernel: true, alarms: []string{"bank-sha1-only"}, others: []string{"ebs-missing"}},
	"sb_cert_eventlog":                              {events: 15, state: "on", alarms: []string{"kernel-unmeasured", "separator-missing"}},
	"crypto_agile_eventlog":                         {events: 27, state: "unknown", kernel: true},
	"short_no_action_eventlog":                      {events: 1, state: "unknown", locality: 3, alarms: []string{"bank-sha1-only", "kernel-unmeasured"}},
	"coreos_36_shielded_vm_no_secure_boot_eventlog": {events: 76, state: "off", kernel: true, lines: 1},
	"keylime-server":                                {events: 121, state: "off", kernel: true, lines: 1, locality: 3},
	"keylime-secureboot":                            {events: 99, state: "on", kernel: true, lines: 1},
	"keylime-bogus":                                 {refused: eventlog.CodePCR},
	"keylime-empty":                                 {refused: eventlog.CodeEmpty},
	"tpm2tools-postcode":                            {events: 59, state: "on", kernel: true, lines: 1},
	"tpm2tools-bootorder":                           {events: 104, state: "off", kernel: true, lines: 1},
	"tpm2tools-uefi-sha1-log":                       {events: 17, state: "unknown", kernel: true, alarms: []string{"bank-sha1-only"}},
	"tss-nuc":                                       {events: 17, state: "unknown", kernel: true, alarms: []string{"bank-sha1-only"}},
	"tss-pc_client":                                 {events: 33, state: "unknown", kernel: true, others: []string{"after-separator"}},
}

func TestCorpus(t *testing.T) {
	dir := corpus(t, "eventlog")
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) < len(expected) {
		t.Errorf("%d logs, %d are expected: %v", len(files), len(expected), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		want, known := expected[name]
		if !known {
			continue
		}
		t.Run(name, func(t *testing.T) {
			l, err := eventlog.Parse(read(t, file))
			if want.refused != "" {
				if e, ok := err.(*eventlog.Error); !ok || e.Code != want.refused {
					t.Errorf("%v, want it refused with %s", err, want.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			state, why := l.SecureBoot()
			kernel, which := l.KernelMeasured()
			locality, _ := l.Locality()
			if len(l.Events) != want.events || state != want.state || kernel != want.kernel || len(l.KernelCommandLines()) != want.lines || locality != want.locality {
				t.Errorf("%d events, Secure Boot %s (%s), kernel measured %v (%s), command lines %q, locality %d", len(l.Events), state, why, kernel, which, l.KernelCommandLines(), locality)
			}
			if got := alarms(l); !slices.Equal(got, want.alarms) {
				t.Errorf("alarms %q, want %q: %+v", got, want.alarms, l.Findings())
			}
			for _, c := range want.others {
				if !slices.Contains(codes(l), c) {
					t.Errorf("no finding %s", c)
				}
			}
			for i := range l.Events {
				if d := l.Events[i].Describe(); d == "" || strings.Contains(d, "malformed") {
					t.Errorf("event %d: %q", i, d)
				}
			}
		})
	}
}

func alarms(l *eventlog.Log) []string {
	var out []string
	for _, f := range l.Findings() {
		if f.Severity == eventlog.Alarm && !slices.Contains(out, f.Code) {
			out = append(out, f.Code)
		}
	}
	slices.Sort(out)
	return out
}

// TestMachines: the replay of each recorded machine gives what its TPM quoted.
func TestMachines(t *testing.T) {
	dir := corpus(t, "vm")
	for machine, want := range map[string]struct {
		state  eventlog.SecureBoot
		alarms []string
	}{
		"bookworm-6.1-uki-nosb":                    {"off", nil},
		"trixie-6.12-uki-sb-snakeoil":              {"on", nil},
		"bookworm-6.1-direct-kernel-sb-unmeasured": {"on", []string{"kernel-unmeasured", "secure-boot-nothing-authorised"}},
	} {
		t.Run(machine, func(t *testing.T) {
			l, err := eventlog.Parse(read(t, dir, machine, "binary_bios_measurements"))
			if err != nil {
				t.Fatal(err)
			}
			v := l.Replay(eventlog.SHA256)
			for pcr, quoted := range quotedPCRs(t, read(t, dir, machine, "quote.pcrs")) {
				value, ok := v.At(pcr)
				if empty := bytes.Equal(quoted, make([]byte, 32)); !ok && (empty || pcr == 10) {
					continue // never used, or IMA's
				}
				if !ok || !bytes.Equal(value, quoted) {
					t.Errorf("PCR %d is %x, the TPM quoted %x", pcr, value, quoted)
				}
			}
			if state, why := l.SecureBoot(); state != want.state {
				t.Errorf("Secure Boot %s: %s", state, why)
			}
			if got := alarms(l); !slices.Equal(got, want.alarms) {
				t.Errorf("alarms %q, want %q", got, want.alarms)
			}
			if ok, why := l.KernelMeasured(); ok == slices.Contains(want.alarms, "kernel-unmeasured") {
				t.Errorf("kernel measured: %v, %s", ok, why)
			}
		})
	}
}

// quotedPCRs reads PCR 0 to 14 of a file of tpm2_quote --pcrs_format=serialized.
func quotedPCRs(t *testing.T, data []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for list := data[136:]; len(list) >= 532; list = list[532:] {
		for i := range binary.LittleEndian.Uint32(list) {
			d := list[4+i*66:]
			out = append(out, d[2:2+binary.LittleEndian.Uint16(d)])
		}
	}
	if len(out) != 15 {
		t.Fatalf("%d values", len(out))
	}
	return out
}

func write(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
