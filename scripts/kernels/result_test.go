// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"errors"
	"strings"
	"testing"
)

// A console as a guest writes it, of a boot with two rows.
const console = `[    1.234567] something of the kernel's
@kernel 6.1.0
@row first
@probe
{"kernel": "6.1.0", "tier": "lsm", "better": [], "signals": [
  {"name": "exec", "by": "tp_btf/sched_process_exec", "reason": ""},
[   12.500000] in the middle of a line's neighbours
  {"name": "file-write", "by": "", "reason": "not-watched"}]}
@probed
=== RUN   TestSignals
=== RUN   TestSignals/exec
--- PASS: TestSignals (1.00s)
    --- PASS: TestSignals/exec (0.50s)
PASS
{"number":4,"attack":"memfd","about":"x","deeds":["x"],"kernel_saw":"","verdict":"context/taint","credential":"no"}
@exit 0
@row second
@probe
{"kernel": "6.1.0", "tier": "trampoline", "better": [{"tier": "lsm", "reason": "no-lsm", "detail": "x"}], "signals": [
  {"name": "exec", "by": "tp_btf/sched_process_exec", "reason": ""},
  {"name": "file-write", "by": "", "reason": "not-watched"}]}
@probed
--- PASS: TestSignals (1.00s)
PASS
@exit 0
@end
`

func sample() *guest {
	return &guest{kernel: &kernel{name: "debian-12", release: "6.1.0"}, console: console, boot: boot{rows: []row{
		{name: "first", tests: ".", attacks: []string{"memfd"}, want: expectation{tier: "lsm", unknown: map[string]string{"file-write": "not-watched"}}},
		{name: "second", want: expectation{tier: "trampoline", better: "lsm no-lsm", unknown: map[string]string{"file-write": "not-watched"}}},
	}}}
}

func TestResultsOfAGoodGuest(t *testing.T) {
	for _, r := range sample().results() {
		if len(r.wrong) != 0 {
			t.Errorf("%s: %q", r.row.name, r.wrong)
		}
	}
	if r := sample().results()[0]; r.pass != 2 || r.probe.Tier != "lsm" {
		t.Errorf("%+v", r)
	}
}

// Each spoils the first row of a good guest, and must be complained of.
func TestResultsOfABadGuest(t *testing.T) {
	text := func(old, put string) func(*guest) {
		return func(g *guest) { g.console = strings.Replace(g.console, old, put, 1) }
	}
	for want, spoil := range map[string]func(*guest){
		`tier "tracepoint", want "lsm"`:                         text(`"tier": "lsm"`, `"tier": "tracepoint"`),
		`better tiers: "lsm no-lsm", want ""`:                   text(`"better": []`, `"better": [{"tier": "lsm", "reason": "no-lsm"}]`),
		`signal exec: by "", unknown(not-firing)`:               text(`"by": "tp_btf/sched_process_exec", "reason": ""`, `"by": "", "reason": "not-firing"`),
		`signal file-write: by "lsm/file_open"`:                 text(`"by": "", "reason": "not-watched"`, `"by": "lsm/file_open", "reason": ""`),
		`signal file-write is absent`:                           text(`"name": "file-write"`, `"name": "file-wrote"`),
		`failed: TestSignals/exec`:                              text("--- PASS: TestSignals/exec", "--- FAIL: TestSignals/exec"),
		`skipped: TestSignals/exec`:                             text("--- PASS: TestSignals/exec", "--- SKIP: TestSignals/exec"),
		`ended with status 2`:                                   text("@exit 0", "@exit 2"),
		`did not end`:                                           text("@exit 0\n", ""),
		`not prepared: echo 0`:                                  func(g *guest) { g.boot.rows[0].prepare = "echo 0"; text("@probe\n", "@unprepared\n@probe\n")(g) },
		`no probe on the console`:                               text("@probed\n", ""),
		`jurat probe: `:                                         text(`"signals": [`, `"signals": `),
		`the guest died; its last lines`:                        func(g *guest) { g.console, _, _ = strings.Cut(g.console, "=== RUN") },
		`qemu: no such thing`:                                   func(g *guest) { g.err = errors.New("qemu: no such thing") },
		`attack memfd got "YES: context/taint"`:                 text(`"credential":"no"`, `"credential":"YES"`),
		`attack memfd got ""`:                                   text(`"attack":"memfd"`, `"attack":"other"`),
		`no test passed`:                                        func(g *guest) { g.console = testLine.ReplaceAllString(g.console, "") },
		`signal exec: by "tp_btf/sched_process_exec", unknown(`: func(g *guest) { g.boot.rows[0].want.unknown["exec"] = "no-lsm" },
	} {
		g := sample()
		spoil(g)
		if have := strings.Join(g.results()[0].wrong, "\n"); !strings.Contains(have, want) {
			t.Errorf("want %q, have %q", want, have)
		}
	}
}

// What is known of one kernel alone stands instead of what is known of all.
func TestReasonByKernel(t *testing.T) {
	e := expectation{unknown: map[string]string{"ptrace": "all"}, only: map[string]map[string]string{"debian-12": {"ptrace": "old", "mounts": "old"}}}
	for _, test := range [][3]string{{"debian-12", "ptrace", "old"}, {"debian-13", "ptrace", "all"}, {"debian-12", "mounts", "old"}, {"debian-13", "mounts", ""}} {
		if have := e.reason(test[0], test[1]); have != test[2] {
			t.Errorf("%v: %q", test, have)
		}
	}
}
