// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/term"
	"github.com/jurat-dev/jurat/doctor"
)

// probed is a kernel with a line of each kind, and a text that would move the
// cursor.
func probed() *doctor.Capability {
	return &doctor.Capability{
		Kernel: "6.12.1-test", Machine: "amd64", BTF: true, LSMs: []string{"landlock", "apparmor"}, Ftrace: "on",
		ExecGateWhy: "fanotify_init: operation not permitted", Capabilities: []string{"CAP_LEASE", "CAP_SYS_ADMIN"}, Tier: "trampoline",
		Better: []doctor.NoTier{{Tier: "lsm", Reason: "no-lsm",
			Detail: "\"bpf\" is not among the active LSMs (landlock,apparmor\x1b[2J): boot with lsm=landlock,apparmor,bpf " + strings.Repeat("and so on ", 8)}},
		Signals: []doctor.Signal{{Name: "exec", By: "tp_btf/sched_process_exec fentry/security_bprm_committed_creds"}, {Name: "kernel-digest", Reason: "tier-trampoline"}},
	}
}

func TestProbeGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range []*doctor.Capability{probed(), {
		Kernel: "5.10.0", Machine: "amd64", Ftrace: "off", BPFFS: "/sys/fs/bpf", ExecGate: true, Tier: "",
		Problem: "kernel has no type information (BTF): reading /sys/kernel/btf/vmlinux: no such file", Hint: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y",
		Signals: []doctor.Signal{{Name: "exec", Reason: "no-sensor"}},
	}} {
		clean(c)
		showProbe(term.New(&b, false), c)
		b.WriteString("\n")
	}
	golden(t, "probe", b.String())
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n >= 110 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	b.Reset()
	showProbe(term.New(&b, true), probed())
	if !strings.Contains(b.String(), "\x1b[33munknown(tier-trampoline)\x1b[0m") || strings.Contains(b.String(), "\x1b[2J") {
		t.Errorf("colours: %q", b.String())
	}
}

func TestProbeExit(t *testing.T) {
	for tier, want := range map[string]int{"lsm": exitYes, "": exitEnvironment} {
		c := probed()
		c.Tier = tier
		var b strings.Builder
		a := &app{out: &b, json: true}
		code := exitYes
		if err := a.probe(c); err != nil {
			code = a.fail(err)
		}
		out := b.String()
		var got struct {
			Schema string
			doctor.Capability
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != want || got.Schema != "jurat.probe/v1" || got.Tier != tier || len(got.Signals) != 2 {
			t.Errorf("tier %q: exit %d, %v, %s", tier, code, err, out)
		}
		if strings.Contains(out, "\\u001b[2J") {
			t.Errorf("a control sequence is left: %s", out)
		}
	}
}
