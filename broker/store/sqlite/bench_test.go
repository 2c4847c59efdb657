// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
)

func BenchmarkDecision_in_SQLite(b *testing.B) {
	storetest.BenchIssue(b, func(b testing.TB) store.Database {
		db, err := open(b.Context(), filepath.Join(b.TempDir(), "state", "broker.db"), storetest.Now)
		if err != nil {
			b.Fatal(err)
		}
		return db
	})
}
