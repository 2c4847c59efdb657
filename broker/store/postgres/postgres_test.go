// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"strconv"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

func TestStore(t *testing.T) {
	server := postgrestest.Start(t)
	urls := map[string]string{} // of a test's store
	storetest.Run(t, func(t testing.TB, name string, signer store.Signer) *store.Store {
		t.Helper()
		key := t.Name() + " " + name
		if urls[key] == "" {
			urls[key] = server.Schema(t, "s"+strconv.Itoa(len(urls)))
		}
		s, err := Open(t.Context(), urls[key], signer, storetest.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
