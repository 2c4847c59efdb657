// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"regexp"
	"strings"
	"testing"
)

// TestManPage: every flag that a command has is in the page, and nothing in it
// is taken for a request of roff.
func TestManPage(t *testing.T) {
	code, page, errs := juratd(t, "man")
	if code != exitYes || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	flags := 0
	for _, args := range [][]string{{"-help"}, {"enrol", "-help"}, {"uninstall", "-help"}} {
		_, _, help := juratd(t, args...)
		for _, flag := range regexp.MustCompile(`(?m)^  -[a-z-]+`).FindAllString(help, -1) {
			if flags++; !strings.Contains(page, "\n"+roff(flag)) {
				t.Errorf("juratd %s: the page has no %q", strings.Join(args, " "), flag)
			}
		}
	}
	if flags < 15 {
		t.Errorf("%d flags in all the help there is", flags)
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !strings.Contains(" .TH .SH .nf .fi .B .BR ", " "+strings.Fields(line)[0]+" ") {
			t.Errorf("a line of text that is a request: %s", line)
		}
	}
	if code, _, errs := juratd(t, "man", "here"); code != exitUsage || !strings.Contains(errs, "usage: juratd man") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
