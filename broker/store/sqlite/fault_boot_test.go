// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"crypto/sha256"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/evidence"
)

// keepAll does everything there is to be done about boot logs and IMA lists,
// and stops at the first error.
func keepAll(tx *store.Tx, host string) error {
	one, two := []byte("one"), []byte("two")
	digest := func(b []byte) evidence.Hash { return sha256.Sum256(b) }
	for _, step := range []func() error{
		func() error { return tx.KeepBootLog(host, digest(one), one) },
		func() error { return tx.KeepBootLog(host, digest(two), two) },
		func() error { _, err := tx.BootLog(digest(two)); return err },
		func() error { return tx.AddIMAFiles(host, []evidence.Hash{{1}}) },
		func() error { return tx.AddIMAFiles(host, []evidence.Hash{{2}}) },
		func() error { return tx.ForgetIMAFiles(host) },
		func() error { return tx.AddIMAFiles(host, []evidence.Hash{{3}}) },
		func() error { _, err := tx.IMAFiles(host); return err },
		func() error { _, err := tx.LiveTokens(host, 2, storetest.Now); return err },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
