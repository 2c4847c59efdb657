// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { actors["pinned-reader"] = readPinned }

// readPinned is an agent: it reads until its input ends, or it is killed, and
// says what it read before it comes back for more.
func readPinned(args []string) error {
	// Room for what happens while an agent starts, which the race detector and busy neighbours make slow.
	s, err := Open(Options{Pin: args[0], RingBytes: 64 << 20, OpenBytes: 32 << 20})
	if err != nil {
		return err
	}
	c := s.Continuity()
	fmt.Printf("open %v %s\n", c.Adopted, c.Reason)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	}()
	var ev Event
	for {
		switch err := s.Read(&ev); {
		case errors.Is(err, ErrClosed):
			return nil
		case errors.Is(err, ErrNoEvent):
		case err != nil:
			return err
		case ev.Kind == KindExec:
			fmt.Printf("exec %d %d\n", ev.Process.PID, ev.Process.Start)
		case ev.Kind == KindLost:
			fmt.Printf("lost %d %s\n", ev.Lost.Count, ev.Lost.Cause)
		}
		release(s)
	}
}

// 1,000 execs a second while agents come and go, every other one killed:
// every exec is read by one of them.
func TestRestartsLoseNothing(t *testing.T) {
	restarts := 50
	if testing.Short() {
		restarts = 4
	}
	pin := pinDir(t)
	path := tiny(t)
	reader := startReader(t, pin)
	reader.opened(t)
	stop, issued := make(chan struct{}), make(map[int]int)
	var storm sync.WaitGroup
	storm.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				run(t, path, func(pid, _ int) { issued[pid]++ })
			}
		}
	})
	read, lost := make(map[string]bool), 0
	gather := func(r *agentReader) {
		for _, line := range r.lines() {
			switch fields := strings.Fields(line); fields[0] {
			case "exec":
				read[line] = true
			case "lost":
				t.Error(line)
				lost++
			}
		}
	}
	for i := range restarts {
		time.Sleep(time.Duration(20+37*i%200) * time.Millisecond)
		reader.end(t, i%2 == 0)
		gather(reader)
		reader = startReader(t, pin)
		if line := reader.opened(t); line != "open true" {
			t.Fatalf("restart %d: %q", i, line)
		}
	}
	close(stop)
	storm.Wait()
	reader.settle()
	reader.end(t, false)
	gather(reader)
	got := make(map[int]int)
	for line := range read {
		var pid int
		var start uint64
		fmt.Sscanf(line, "exec %d %d", &pid, &start)
		got[pid]++
	}
	total, missing := 0, 0
	for pid, n := range issued {
		total += n
		missing += max(0, n-got[pid])
	}
	if missing > 0 || lost > 0 || total == 0 {
		t.Errorf("%d of %d execs missing, %d losses", missing, total, lost)
	}
	t.Logf("%d execs over %d restarts", total, restarts)
}

// agentReader is a process that reads the pinned sensor.
type agentReader struct {
	*child
	mu   sync.Mutex
	said []string
	done chan struct{}
}

func startReader(t *testing.T, pin string) *agentReader {
	t.Helper()
	cmd := actor("pinned-reader", pin)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	r := &agentReader{child: spawn(t, cmd), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return // a line without end was cut off by the kill
			}
			r.mu.Lock()
			r.said = append(r.said, strings.TrimSpace(line))
			r.mu.Unlock()
		}
	}()
	return r
}

func (r *agentReader) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}

// settle waits until the reader has had nothing to say for a second.
func (r *agentReader) settle() {
	for said := -1; said < len(r.lines()); time.Sleep(time.Second) {
		said = len(r.lines())
	}
}

// opened waits for the first line.
func (r *agentReader) opened(t *testing.T) string {
	t.Helper()
	for range 6000 {
		if lines := r.lines(); len(lines) > 0 {
			return lines[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the reader does not open")
	return ""
}

// end ends the reader, by force or by the end of its input.
func (r *agentReader) end(t *testing.T, kill bool) {
	t.Helper()
	if kill {
		if err := unix.PidfdSendSignal(r.pidfd, unix.SIGKILL, nil, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		r.in.Close()
	}
	<-r.done
	r.Wait()
}
