// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// pinDir returns a directory to pin in, on a bpf file system of the test's own.
func pinDir(t testing.TB) string {
	t.Helper()
	needKernel(t)
	dir := t.TempDir()
	mount(t, "bpf", dir, "mode=700")
	pin := filepath.Join(dir, "jurat")
	t.Cleanup(func() {
		if err := Unpin(pin); err != nil {
			t.Error(err)
		}
	})
	return pin
}

// What happens while no agent runs is delivered to the next one, and the
// numbers go on.
func TestNextAgentAdopts(t *testing.T) {
	pin := pinDir(t)
	s := open(t, Options{Pin: pin})
	if c := s.Continuity(); c.Adopted || c.Reason != ReasonFirst || c.Next != nil {
		t.Errorf("first agent: %+v, %v", c, s.notes)
	}
	if err := s.Snapshot(func(*Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	since := s.Since()
	drain(t, s, func(*Event) {})
	delivered := s.Released()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path, ran := tiny(t), make(map[int]bool)
	for range 50 {
		run(t, path, func(pid, _ int) { ran[pid] = true })
	}
	s = open(t, Options{Pin: pin})
	c := s.Continuity()
	if !c.Adopted || s.Since() != since {
		t.Fatalf("second agent: %+v, since %d and %d, %v", c, s.Since(), since, s.notes)
	}
	for at := range delivered {
		if c.Next[at] != delivered[at]+1 {
			t.Errorf("ring and cpu %d: delivered %d, goes on at %d", at, delivered[at], c.Next[at])
		}
	}
	execs := 0
	drain(t, s, func(ev *Event) {
		if ev.Kind == KindLost {
			t.Errorf("lost: %+v", ev.Lost)
		}
		if ev.Kind == KindExec && ran[int(ev.Process.PID)] && ev.Program.Filename.String() == path {
			execs++
		}
	})
	if execs != len(ran) {
		t.Errorf("%d of %d execs arrived", execs, len(ran))
	}
	if found := undisturbed(s); len(found) != 0 {
		t.Errorf("an undisturbed sensor: %+v", found)
	}
}

// What was read and not released the next agent is delivered again.
func TestNextAgentHasWhatWasNotReleased(t *testing.T) {
	pin := pinDir(t)
	s := open(t, Options{Pin: pin})
	drain(t, s, func(*Event) {})
	var m Mark
	if !s.Mark(&m) {
		t.Fatal("no mark after all was read")
	}
	path := tiny(t)
	first, second := 0, 0
	run(t, path, func(pid, _ int) { first = pid })
	seen := func(s *Sensor, pid int) (n int) {
		var ev Event
		for empty := 0; empty < 3; {
			switch err := s.Read(&ev); {
			case errors.Is(err, ErrNoEvent):
				empty++
			case err != nil:
				t.Fatal(err)
			case ev.Kind == KindExec && ev.Process.PID == uint32(pid):
				n++
			}
		}
		return n
	}
	if n := seen(s, first); n != 1 {
		t.Fatalf("read %d times", n)
	}
	s.Release(&m) // what was read before
	s.Close()
	run(t, path, func(pid, _ int) { second = pid })
	s = open(t, Options{Pin: pin})
	again, news := 0, 0
	drain(t, s, func(ev *Event) {
		switch {
		case ev.Kind == KindLost:
			t.Errorf("lost: %+v", ev.Lost)
		case ev.Kind == KindExec && ev.Process.PID == uint32(first):
			again++
		case ev.Kind == KindExec && ev.Process.PID == uint32(second):
			news++
		}
	})
	if again != 1 || news != 1 {
		t.Errorf("delivered %d times what was not released, %d times what came after", again, news)
	}
}

// A process that the first agent saw exec keeps what is known of it.
func TestAdoptionKeepsStateAndTime(t *testing.T) {
	pin := pinDir(t)
	s := open(t, Options{Pin: pin})
	tp := record(t, s)
	c := spawn(t, actor("wait"))
	ran := tp.await(t, "exec", is(KindExec, c.Process.Pid))
	if marked, err := s.MarkMeasured(c.pidfd, ran.Process.Generation); err != nil || !marked {
		t.Fatalf("marked %v, %v", marked, err)
	}
	s.Close()
	s = open(t, Options{Pin: pin})
	if st := stateOf(t, s, c.pidfd); st.Seen || !st.Measured || st.Generation != ran.Process.Generation {
		t.Errorf("state %+v", st)
	}
	found := false
	err := s.Snapshot(func(ev *Event) error {
		if ev.Process.PID == uint32(c.Process.Pid) {
			found = true
			if ev.Process.Seen || ev.Time == 0 || ev.Time > ran.Time || ran.Time-ev.Time > 1e9 {
				t.Errorf("seen at %d, exec at %d: %+v", ev.Time, ran.Time, ev.Process)
			}
		}
		return nil
	})
	if err != nil || !found {
		t.Errorf("not in the snapshot: %v", err)
	}
}

// Two agents do not share one ring.
func TestPinsHaveOneHolder(t *testing.T) {
	pin := pinDir(t)
	open(t, Options{Pin: pin})
	second := open(t, Options{Pin: pin})
	if c := second.Continuity(); c.Adopted || c.Reason != ReasonInUse {
		t.Errorf("second agent beside the first: %+v", c)
	}
}

func TestPinOutsideOfBPFFS(t *testing.T) {
	s := open(t, Options{Pin: filepath.Join(t.TempDir(), "jurat")})
	if c := s.Continuity(); c.Adopted || c.Reason != ReasonNoBPFFS {
		t.Errorf("%+v", c)
	}
	if err := Unpin(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not on a bpf file system") {
		t.Errorf("unpinning a directory of another file system: %v", err)
	}
}

// What is pinned must be what we would have pinned.
func TestStrangePinsAreNotAdopted(t *testing.T) {
	for name, disturb := range map[string]func(t *testing.T, set string, s *Sensor) error{
		"a link is gone": func(_ *testing.T, set string, _ *Sensor) error {
			return os.Remove(filepath.Join(set, pinLink+"on_fork"))
		},
		"a link runs another program": func(_ *testing.T, set string, s *Sensor) error {
			a, b := filepath.Join(set, pinLink+"on_fork"), filepath.Join(set, pinLink+"on_exit")
			return errors.Join(os.Remove(a), os.Rename(b, a))
		},
		"a map is another": func(t *testing.T, set string, s *Sensor) error {
			other := open(t, Options{})
			path := filepath.Join(set, pinMap+"host")
			return errors.Join(os.Remove(path), other.objects.Host.Pin(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			pin := pinDir(t)
			s := open(t, Options{Pin: pin})
			set := s.pins.dir()
			s.Close()
			if err := disturb(t, set, s); err != nil {
				t.Fatal(err)
			}
			s = open(t, Options{Pin: pin})
			if c := s.Continuity(); c.Adopted || c.Reason != ReasonStrange {
				t.Errorf("%+v", c)
			}
			s.Close()
			s = open(t, Options{Pin: pin})
			if c := s.Continuity(); !c.Adopted {
				t.Errorf("the set made in its stead: %+v, %v", c, s.notes)
			}
		})
	}
}

// An agent of another build begins anew, and removes what it cannot use.
func TestOtherBuildBeginsAnew(t *testing.T) {
	pin := pinDir(t)
	s := open(t, Options{Pin: pin})
	set := s.pins.dir()
	s.Close()
	if err := os.Mkdir(filepath.Join(pin, unfinished+"x"), 0o700); err != nil {
		t.Fatal(err)
	}
	layoutSalt = "another build"
	t.Cleanup(func() { layoutSalt = "" })
	s = open(t, Options{Pin: pin})
	if c := s.Continuity(); c.Adopted || c.Reason != ReasonVersion || !c.Pinned {
		t.Errorf("%+v, %v", c, s.notes)
	}
	if others, err := s.pins.others(); err != nil || len(others) != 0 {
		t.Errorf("%s is there beside %q, %v", set, others, err)
	}
}

func TestUnpinRemovesAll(t *testing.T) {
	pin := pinDir(t)
	s := open(t, Options{Pin: pin})
	id := mapID(s.objects.Events)
	if err := Unpin(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there: %v", pin, err)
	}
	s.Close()
	for range 200 { // the kernel frees later
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		m.Close()
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the event ring outlives agent and pins")
}
