// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package schema

import (
	"testing"
	"testing/fstest"
)

func TestSteps(t *testing.T) {
	steps, err := Steps()
	if err != nil || len(steps) == 0 {
		t.Fatal(steps, err)
	}
	for name, files := range map[string][]string{
		"gap": {"0001_a.sql", "0003_b.sql"}, "twice": {"0001_a.sql", "0001_b.sql"}, "no number": {"begin.sql"}, "from zero": {"0000_a.sql"}, "short": {"1.sql"},
	} {
		folder := fstest.MapFS{}
		for _, f := range files {
			folder["migrations/"+f] = &fstest.MapFile{}
		}
		if _, err := read(folder); err == nil {
			t.Errorf("%s: %v", name, files)
		}
	}
}
