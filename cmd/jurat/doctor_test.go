// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/doctor"
	"github.com/jurat-dev/jurat/internal/bootlog"
)

// sampleHost writes the files of another machine, whose TPM is out of reach.
func sampleHost(t *testing.T, w *world) {
	t.Helper()
	log, _ := bootlog.Boot{}.Log(bootlog.SHA256)
	for name, text := range map[string]string{
		"proc/sys/kernel/osrelease":                         "6.12.1-test\n",
		"proc/cmdline":                                      "BOOT_IMAGE=/boot/vmlinuz-" + bootlog.DefaultKernel + " " + bootlog.DefaultCommandLine + "\n",
		"sys/kernel/btf/vmlinux":                            "",
		"sys/kernel/security/tpm0/binary_bios_measurements": string(log),
		"sys/kernel/security/lockdown":                      "[none] integrity confidentiality\n",
		"etc/crypttab":                                      "root UUID=1 none tpm2-device=auto,tpm2-pcrs=7+13\n",
	} {
		file := w.path("host/" + name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, []byte(text))
	}
}

// examined is a report with a line of each kind.
func examined() *doctor.Report {
	pin := strings.Repeat("9f86d081", 8)
	r := &doctor.Report{EK: []doctor.Key{}, PCRs: map[string]doctor.PCR{}, Checks: []doctor.Check{
		{Name: "TPM", Status: doctor.OK, Text: "TPM 2.0 answers at /dev/tpmrm0"},
		{Name: "EK rsa-2048", Status: doctor.Warn, Text: "certificate not believed, E_EK_CHAIN: it leads to no root that is installed",
			Hint: "the maker's certificates for the broker and --ek-roots, or pin the key:\njurat host add NAME --ek-pin " + pin},
		{Name: "PCR banks", Status: doctor.Bad, Text: "sha1 is active, and boot log event 17 has no digest for it: refused (E_BANKS)",
			Hint: "disable sha1 in the firmware setup, or 'tpm2_pcrallocate sha1:none', and restart"},
		{Name: "IMA", Status: doctor.Unknown, Text: "no permission to read /sys/kernel/security/ima/binary_runtime_measurements", Hint: "run it with sudo"},
		{Name: "command line", Status: doctor.Warn, Text: "the running one was not measured: " + strings.Repeat("a=b ", 30), Hint: strings.Repeat("restart ", 20)},
	}}
	r.OK = false
	return r
}

func TestDoctorGolden(t *testing.T) {
	var b strings.Builder
	showDoctor(term.New(&b, false), examined())
	golden(t, "doctor-lines", b.String())
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n >= 110 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	b.Reset()
	showDoctor(term.New(&b, true), examined())
	for _, want := range []string{"\x1b[32mok\x1b[0m       TPM", "\x1b[31mbad\x1b[0m      PCR banks", "\x1b[33mwarn\x1b[0m     EK", "\x1b[2munknown\x1b[0m  IMA"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// What others wrote reaches neither the terminal nor the JSON as it is.
func TestDoctorCleans(t *testing.T) {
	w := newWorld(t)
	sampleHost(t, w)
	write(t, w.path("host/proc/sys/kernel/osrelease"), []byte("6.1\x1b[2J\u202eevil"))
	for _, form := range [][]string{nil, {"--json"}} {
		_, out, _ := w.run(append(form, "doctor", "--root", w.path("host"))...)
		if strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, "evil") {
			t.Errorf("%q", out)
		}
	}
}

func TestDoctorExit(t *testing.T) {
	w := newWorld(t)
	sampleHost(t, w)
	code, out, errs := w.run("doctor", "--root", w.path("host"), "--tpm", w.path("nothing"), "--json")
	var got struct {
		Schema string
		OK     bool
		Checks []doctor.Check
		TPM    *doctor.Chip
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || errs != "" {
		t.Fatal(err, errs)
	}
	if code != exitNo || got.OK || got.Schema != "jurat.doctor/v1" || got.TPM != nil || got.Checks[0].Status != doctor.Bad {
		t.Errorf("exit %d, %+v", code, got)
	}
	if code, _, errs := w.run("doctor", "--root", w.path("host"), "--ek-roots", w.path("nothing")); code == exitYes || !strings.Contains(errs, "nothing") {
		t.Errorf("exit %d, %s", code, errs)
	}
	for exit, statuses := range map[int][]doctor.Status{
		exitYes:         {doctor.OK, doctor.Warn, doctor.Unknown},
		exitNo:          {doctor.OK, doctor.Bad, doctor.Unknown},
		exitEnvironment: {doctor.Unknown, doctor.Unknown},
	} {
		r := new(doctor.Report)
		for _, s := range statuses {
			r.Add(doctor.Check{Name: "x", Status: s})
		}
		if got := doctorExit(r); got != exit {
			t.Errorf("%v: exit %d, want %d", statuses, got, exit)
		}
	}
}

// juratd's own line.
func TestDoctorAsksJuratd(t *testing.T) {
	w := newWorld(t)
	sampleHost(t, w)
	ask := func(want string) {
		t.Helper()
		_, out, _ := w.run(w.sockets("doctor", "--root", w.path("host"))...)
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	ask("does not answer at DIR/agent.sock\n         -> 'systemctl status juratd'")
	status := sampleStatus()
	w.agent.set(func(int, local.Request) any { return status })
	ask("runs, tier")
	status.BrokerState = "unreachable: no route"
	ask("broker unreachable: no route\n         -> 'jurat status'")
}
