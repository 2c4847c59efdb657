// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/broker/store"
	"github.com/jurat-dev/jurat/broker/store/storetest"
)

// The test binary started with this in its environment is the victim.
const crashPath = "JURAT_TEST_CRASH_PATH"

const (
	crashFolders = 6
	crashRounds  = 10 // in each folder
)

// crash commits for ever, from eight callers, and says on standard output what
// was promised to be durable: one line "index txn" after each commit.
func crash(path string) {
	var t fatal
	s, err := Open(context.Background(), path, storetest.NewSigner(t), storetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	err = storetest.Issuable(s)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				txn := fmt.Sprintf("%016x", rand.Uint64())
				var index uint64
				err := s.Update(context.Background(), func(tx *store.Tx) (err error) { index, err = storetest.Issue(tx, txn); return err })
				if err != nil {
					failed <- err
				}
				fmt.Fprintf(os.Stdout, "%d %s\n", index, txn) // one write each
			}
		}()
	}
	t.Fatal(<-failed)
}

// fatal is a testing.TB outside a test.
type fatal struct{ testing.TB }

func (fatal) Helper() {}
func (fatal) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// TestKilled kills the process in the middle of its commits, again and again.
// What was promised must be there, whole, and nothing else by halves.
func TestKilled(t *testing.T) {
	kills, inFlight := 0, 0
	for range crashFolders {
		path := filepath.Join(t.TempDir(), "state", "broker.db")
		promised := map[string]string{} // txn to index
		for round := range crashRounds {
			extra := kill(t, path, promised, round%5 == 4)
			kills++
			if extra > 0 {
				inFlight++
			}
		}
	}
	t.Logf("%d kills, after %d of them the log held commits nobody had heard of yet", kills, inFlight)
	if kills < 50 {
		t.Errorf("%d kills, want at least 50", kills)
	}
}

// kill runs one victim for a moment. It adds to promised, and returns how many
// entries the log has beyond that.
func kill(t *testing.T, path string, promised map[string]string, early bool) int {
	t.Helper()
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), crashPath+"="+path)
	var stderr strings.Builder
	victim.Stderr = &stderr
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	moment := time.Duration(rand.IntN(30_000)) * time.Microsecond
	if early { // in the middle of opening, perhaps of creating
		time.AfterFunc(2*moment, func() { victim.Process.Kill() })
	}
	for first := true; lines.Scan(); first = false {
		if index, txn, ok := strings.Cut(lines.Text(), " "); ok && len(txn) == 16 {
			promised[txn] = index
		}
		if first && !early {
			time.AfterFunc(moment, func() { victim.Process.Kill() })
		}
	}
	if err := victim.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the victim ended by itself: %v %s", err, &stderr)
	}
	s := opened(t, path)
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries := 0
	err = s.View(t.Context(), func(r *store.Reader) (err error) {
		entries, err = storetest.Whole(t, r, promised)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries - len(promised)
}
