// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package require lets a test say what it needs of the machine (root, a kernel
// that takes BPF, a software TPM, PostgreSQL, the corpus of recorded data).
//
// It is no station of the flow and ships in no program. It refuses to let a
// skip go unnoticed: what JURAT_REQUIRE names must be there.
package require

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Need goes on when err is nil. Otherwise the machine lacks what, and the test
// is skipped with err as the reason, unless JURAT_REQUIRE (a comma-separated
// list such as "root,bpf,tpm,corpus,ssh,timens,postgres") names what: then the test fails.
func Need(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("JURAT_REQUIRE"), ","), what) {
		t.Fatalf("%s is required here: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}
