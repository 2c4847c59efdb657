// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jurat-dev/jurat/verify/internal/testvectors"
)

// TestAttackTable holds spec/attacks.md to its word: each vector it names is
// there and expects a code of its row, each test it names is there, and no row
// is without a proof.
func TestAttackTable(t *testing.T) {
	text, err := os.ReadFile("../spec/attacks.md")
	if err != nil {
		t.Fatal(err)
	}
	vectors, err := testvectors.Read("../spec/vectors")
	if err != nil {
		t.Fatal(err)
	}
	expected := make(map[string]string)
	for _, v := range vectors {
		expected[v.Name] = v.Expect
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || strings.HasPrefix(cells[1], " attack") || strings.HasPrefix(cells[1], "-") {
			continue
		}
		rows++
		attack := strings.TrimSpace(cells[1])
		var codes []string
		for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
			codes = append(codes, m[1])
		}
		proofs := quoted.FindAllStringSubmatch(cells[4], -1)
		if len(proofs) == 0 {
			t.Errorf("%s: no proof", attack)
		}
		for _, m := range proofs {
			if room, test, isTest := strings.Cut(m[1], ": "); isTest {
				if !hasTest(t, room, test) {
					t.Errorf("%s: there is no %s in %s", attack, test, room)
				}
			} else if code, there := expected[m[1]]; !there || !slices.Contains(codes, code) {
				t.Errorf("%s: vector %s expects %q, want one of %v", attack, m[1], code, codes)
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d attacks in the table", rows)
	}
}

func hasTest(t *testing.T, room, test string) bool {
	t.Helper()
	files, err := filepath.Glob("../" + room + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+test+"(") {
			return true
		}
	}
	return false
}
