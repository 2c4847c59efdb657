// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
)

// opener opens stores in folders of their own under a name with characters
// that mean something in a URL.
func opener(t *testing.T) storetest.Open {
	folder := t.TempDir()
	return func(t testing.TB, name string, signer store.Signer) *store.Store {
		t.Helper()
		s, err := Open(t.Context(), filepath.Join(folder, filepath.Base(t.Name())+" ?#%41", name, "broker.db"), signer, storetest.Now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestStore(t *testing.T) { storetest.Run(t, opener(t)) }
