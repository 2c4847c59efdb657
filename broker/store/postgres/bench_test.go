// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"fmt"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

func BenchmarkDecision_in_PostgreSQL(b *testing.B) {
	server := postgrestest.Start(b)
	n := 0
	storetest.BenchIssue(b, func(b testing.TB) store.Database {
		n++
		db, err := open(b.Context(), server.Schema(b, fmt.Sprintf("s%d", n)), storetest.Now)
		if err != nil {
			b.Fatal(err)
		}
		return db
	})
}
