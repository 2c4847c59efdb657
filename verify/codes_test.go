// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify"
)

// TestCodesAreDocumented holds the table in spec/vectors/README.md against the
// code: same rows, same order.
func TestCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(vectorDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| code | check | attestor | retry | meaning |\n|---|---|---|---|---|\n")
	if !found {
		t.Fatal("README.md has no table of codes")
	}
	var want strings.Builder
	for _, info := range verify.Codes() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", info.Code, info.Check, info.Attestor, info.Retry, info.Meaning)
	}
	if table != want.String() {
		t.Errorf("README.md and Codes differ; want\n%s", want.String())
	}
}

// TestCodesAreWhole: each code once, with all that an answer needs.
func TestCodesAreWhole(t *testing.T) {
	seen := make(map[verify.Code]bool)
	form := regexp.MustCompile(`^E_[A-Z_]+$`)
	for _, info := range verify.Codes() {
		if seen[info.Code] || !form.MatchString(string(info.Code)) || !regexp.MustCompile(`^V\d+$`).MatchString(info.Check) ||
			info.Attestor == "" || info.Retry == "" || info.Meaning == "" {
			t.Errorf("code %q is there twice or not whole: %+v", info.Code, info)
		}
		seen[info.Code] = true
	}
	codes := verify.Codes()
	codes[0].Code = "E_CHANGED"
	if verify.Codes()[0].Code == "E_CHANGED" {
		t.Error("the table can be changed from outside")
	}
}

func TestMalformed(t *testing.T) {
	_, err := evidence.Parse([]byte{0xff})
	r := verify.Malformed(err)
	if r.Code != "E_FORMAT" || r.Place != "bundle" || r.Retry != verify.RetryNever {
		t.Errorf("%+v", r)
	}
	_, err = evidence.Parse(make([]byte, evidence.MaxBundle+1))
	if r = verify.Malformed(fmt.Errorf("reading: %w", err)); !strings.HasPrefix(r.Observed, "4194305 bytes") {
		t.Errorf("%+v", r)
	}
	if r = verify.Malformed(errors.New("a\x1b[31mb")); strings.ContainsRune(r.Error(), 0x1b) {
		t.Errorf("control characters in %q", r.Error())
	}
	var zero *verify.Rejection
	if errors.As(err, &zero) {
		t.Error("a format error is no rejection by itself")
	}
}
