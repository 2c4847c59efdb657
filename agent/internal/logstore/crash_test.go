// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package logstore

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// victim is set in the process that is killed: it writes a log until then.
const victim = "JURAT_LOGSTORE_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		if err := write(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// write appends and commits for ever, and says each checkpoint and mark only
// after it was told that they are durable.
func write(dir string) error {
	l, _, err := Open(dir)
	if err != nil {
		return err
	}
	t := &testing.T{}
	for {
		for range rand.IntN(40) {
			if _, _, err := l.Append(entry(t, int(l.Size()))); err != nil {
				return err
			}
		}
		c, raw, err := l.Commit(fill)
		if err != nil {
			return err
		}
		fmt.Printf("checkpoint %d %d %s %s\n", c.Number, c.Size, c.Root, evidence.CheckpointDigest(raw))
		m := Mark{Sequence: l.Quoted().Sequence + 1, Number: c.Number}
		if err := l.Mark(m); err != nil {
			return err
		}
		fmt.Printf("quote %d\n", m.Sequence)
	}
}

// TestKills kills a writing process again and again. Whatever it said was
// durable has to be there afterwards, and every log has to begin with the one
// before it.
func TestKills(t *testing.T) {
	const kills = 60
	dir := filepath.Join(t.TempDir(), "log")
	before := new(evidence.Checkpoint)
	for round := range kills {
		said, sequence := kill(t, dir)
		l, _, err := Open(dir)
		if err != nil {
			t.Fatalf("after kill %d: %v", round, err)
		}
		last, raw := l.Last()
		if last == nil {
			if said.Number != 0 {
				t.Fatalf("after kill %d: checkpoint %d is gone", round, said.Number)
			}
			l.Close()
			continue
		}
		if last.Number < said.Number || last.Number == said.Number && evidence.CheckpointDigest(raw) != said.Previous {
			t.Fatalf("after kill %d: last checkpoint is %d, it said %d", round, last.Number, said.Number)
		}
		if l.Quoted().Sequence < sequence {
			t.Fatalf("after kill %d: last quote is %d, it said %d", round, l.Quoted().Sequence, sequence)
		}
		root, err := l.tree.Root(last.Size)
		if err != nil || root != last.Root {
			t.Fatalf("after kill %d: root %s, %v, checkpoint says %s", round, root, err, last.Root)
		}
		if before.Size > 0 {
			p, err := l.Consistency(last.Size, before.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := evidence.CheckConsistency(p, last.Size, last.Root, before.Size, before.Root); err != nil {
				t.Fatalf("after kill %d: not a continuation: %v", round, err)
			}
		}
		for i := before.Size; i < l.Size(); i++ {
			if _, err := l.Entry(i); err != nil {
				t.Fatalf("after kill %d: %v", round, err)
			}
		}
		before = last
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if before.Size == 0 || before.Number < kills/2 {
		t.Fatalf("the killed processes wrote %d checkpoints of %d entries: nothing was tested", before.Number, before.Size)
	}
	t.Logf("%d kills, %d checkpoints, %d entries", kills, before.Number, before.Size)
}

// kill runs a victim for a moment and returns the last checkpoint (its digest
// as Previous) and quote that it called durable.
func kill(t *testing.T, dir string) (evidence.Checkpoint, uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// From the first checkpoint on, however long the machine took to get there;
	// some victims are killed on their way to it.
	soon := func() { _ = cmd.Process.Signal(syscall.SIGKILL) }
	early := time.AfterFunc(5*time.Second, soon)
	if rand.IntN(8) == 0 {
		early.Reset(rand.N(60 * time.Millisecond))
	}
	var once sync.Once
	var said evidence.Checkpoint
	var sequence uint64
	for in := bufio.NewScanner(out); in.Scan(); {
		once.Do(func() { time.AfterFunc(rand.N(120*time.Millisecond), soon) })
		var c evidence.Checkpoint
		var root, digest string
		if _, err := fmt.Sscanf(in.Text(), "checkpoint %d %d %s %s", &c.Number, &c.Size, &root, &digest); err == nil {
			if c.Root.UnmarshalText([]byte(root)) == nil && c.Previous.UnmarshalText([]byte(digest)) == nil {
				said = c
			}
			continue
		}
		var n uint64
		if _, err := fmt.Sscanf(in.Text(), "quote %d", &n); err == nil {
			sequence = n
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the victim ended by itself: %v", err)
	}
	return said, sequence
}
