// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/agent": "/usr/bin/agent", "": "", "grüße 你好": "grüße 你好", "a\nb": `a\nb`, "\x1b[31m": `\x1b[31m`, "\u202e": `\u202e`, "\xff": `\ufffd`,
		strings.Repeat("x", 201): strings.Repeat("x", 200) + "…", strings.Repeat("x", 200): strings.Repeat("x", 200), strings.Repeat("\n", 300): strings.Repeat(`\n`, 100) + "…",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func TestPCRList(t *testing.T) {
	for in, want := range map[uint32]string{0: "none", 1: "0", 3: "0-1", 0xffff: "0-15", 0x0483ff: "0-9, 15, 18", 1 << 23: "23"} {
		if got := pcrList(in); got != want {
			t.Errorf("%x is shown as %q, want %q", in, got, want)
		}
	}
}
