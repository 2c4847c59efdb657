// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
	"github.com/jurat-dev/jurat/internal/postgrestest"
)

func opened(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := Open(t.Context(), url, storetest.NewSigner(t), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestServer is everything that is true of this database alone.
func TestServer(t *testing.T) {
	server := postgrestest.Start(t)
	for name, test := range map[string]func(*testing.T, *postgrestest.Server, string){
		"several": testSeveral, "together": testOpenedTogether, "lock": testLock, "hung": testHung, "restart": testRestart, "hidden": testHiddenFailure,
		"settings": testSettings, "standby": testStandby, "foreign": testForeign, "readers": testReaders, "tampering": testTampering, "text": testText,
	} {
		t.Run(name, func(t *testing.T) { test(t, server, name) })
	}
}

// testSeveral: all that several programs decide at the same time is committed,
// in one order.
func testSeveral(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	stores := []*store.Store{opened(t, url), opened(t, url), opened(t, url)}
	if err := storetest.Issuable(stores[0]); err != nil {
		t.Fatal(err)
	}
	const callers, each = 6, 10
	var all sync.WaitGroup
	var mu sync.Mutex
	promised := map[string]string{}
	for i, s := range stores {
		for j := range callers {
			all.Go(func() {
				for n := range each {
					txn := fmt.Sprintf("p%d-%d-%d", i, j, n)
					var index uint64
					err := s.Update(context.Background(), func(tx *store.Tx) (err error) { index, err = storetest.Issue(tx, txn); return err })
					if err != nil {
						t.Errorf("%s: %v", txn, err)
					}
					mu.Lock()
					promised[txn] = fmt.Sprint(index)
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	for _, s := range stores {
		if err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	err := stores[1].View(t.Context(), func(r *store.Reader) error {
		n, err := storetest.Whole(t, r, promised)
		if n != len(stores)*callers*each {
			t.Errorf("%d entries, want %d", n, len(stores)*callers*each)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// testOpenedTogether: of several programs that start on an empty database, one
// makes the tables.
func testOpenedTogether(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	errs := make([]error, 6)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			s, err := Open(context.Background(), url, storetest.NewSigner(t), storetest.Now)
			if err == nil {
				err = s.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// testLock: two writers are never in at the same time.
func testLock(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	one, two := openedDatabase(t, url), openedDatabase(t, url)
	inside, leave, second := make(chan bool), make(chan bool), make(chan error, 1)
	first := make(chan error, 1)
	go func() {
		first <- one.Write(context.Background(), func(c store.Conn) error {
			close(inside)
			<-leave
			_, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('a', '')`)
			return err
		})
	}()
	<-inside
	go func() {
		second <- two.Write(context.Background(), func(c store.Conn) error {
			n, err := c.Exec(`UPDATE setting SET value = 'x' WHERE name = 'a'`)
			if n != 1 {
				t.Errorf("the second does not see what the first did")
			}
			return err
		})
	}()
	for server.SQL(t, schema, `SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`) != "1" {
		select {
		case err := <-second:
			t.Fatalf("both are in: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	close(leave)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

func openedDatabase(t testing.TB, url string) *database {
	t.Helper()
	db, err := open(t.Context(), url, storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// testHung: a writer that hangs with the lock loses it, and what it did.
func testHung(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	one, two := openedDatabase(t, url), openedDatabase(t, url)
	inside, leave, first := make(chan bool), make(chan bool), make(chan error, 1)
	go func() {
		first <- one.Write(context.Background(), func(c store.Conn) error {
			_, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('hung', '')`)
			close(inside)
			<-leave
			return err
		})
	}()
	<-inside
	if err := two.Write(t.Context(), func(c store.Conn) error {
		_, err := c.Exec(`INSERT INTO setting (name, value) VALUES ('hung', '')`)
		return err
	}); err != nil {
		t.Errorf("nobody can write any more: %v", err)
	}
	close(leave)
	if err := <-first; err == nil {
		t.Error("the one that hung says it committed")
	}
	if err := one.Write(t.Context(), func(store.Conn) error { return nil }); err != nil {
		t.Errorf("it does not come back: %v", err)
	}
}

// testRestart: after the server was killed, the next reader and writer get
// through, and what was committed is there.
func testRestart(t *testing.T, server *postgrestest.Server, schema string) {
	url := server.Schema(t, schema)
	s := opened(t, url)
	grow(t, s, "a")
	server.Kill()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return nil }); err == nil {
		t.Error("committed without a server")
	}
	server.Restart(t)
	grow(t, s, "b")
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	server.SQL(t, schema, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
	grow(t, s, "c") // at once: nothing was done on the broken connection
	err := s.View(t.Context(), func(r *store.Reader) error {
		leaves, err := r.Leaves(0, 9)
		if len(leaves) != 3 {
			t.Errorf("%d entries", len(leaves))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func grow(t testing.TB, s *store.Store, txns ...string) {
	t.Helper()
	for _, txn := range txns {
		err := s.Update(context.Background(), func(tx *store.Tx) error { _, err := tx.Append(storetest.Entry(txn), []byte("{}")); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}
