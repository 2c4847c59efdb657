// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
)

// undisturbed is what Check finds, but for programs of other tests and tools
// on a host that is shared.
func undisturbed(s *Sensor) []Finding {
	return slices.DeleteFunc(s.Check(), func(f Finding) bool { return f.Name == "foreign-program" })
}

// Each is an attack that root can carry out; that the kernel allows it is part
// of the test.
func TestCheckFindsWhoWorksAgainstUs(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, s *Sensor){
		"map-written": func(t *testing.T, s *Sensor) {
			strange := s.control
			strange.Agent = 1 // nobody is a stranger any more
			put(t, s.objects.Control, uint32(0), &strange)
		},
		"map-written, positions": func(t *testing.T, s *Sensor) {
			put(t, s.maps[mapPositions], uint32(0), [2]uint64{1 << 40, 0})
		},
		"map-written, counters": func(t *testing.T, s *Sensor) {
			for cpu := range s.possible {
				put(t, s.objects.Counters, uint32(cpu), make([]byte, counterSize))
			}
		},
		"foreign-reader": func(t *testing.T, s *Sensor) {
			thief, err := ringbuf.NewReader(s.objects.Events)
			if err != nil {
				t.Fatal(err)
			}
			defer thief.Close()
			run(t, tiny(t), nil)
			thief.SetDeadline(time.Now())
			if _, err := thief.Read(); err != nil {
				t.Fatal(err)
			}
		},
		"state-written": func(t *testing.T, s *Sensor) {
			c := spawn(t, actor("wait"))
			waitForExec(t, s, c)
			st, err := s.kernelState(c.pidfd)
			if err != nil {
				t.Fatal(err)
			}
			st.Generation-- // as a program that was measured had
			put(t, s.objects.States, int32(c.pidfd), &st)
		},
		"mark-forged": func(t *testing.T, s *Sensor) {
			if !kernelFrom(t, 6, 9) {
				t.Skip("no pidfd inodes")
			}
			c := spawn(t, actor("wait"))
			waitForExec(t, s, c)
			st, err := s.kernelState(c.pidfd)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s.objects.Measured, int32(c.pidfd), st.Generation)
		},
		"hooks-silent": func(t *testing.T, s *Sensor) {
			if s.Tier() == TierTracepoint { // as if there were hooks
				s.control.Hooks = 1
				put(t, s.objects.Control, uint32(0), &s.control)
				run(t, tiny(t), nil)
				return
			}
			requireGuest(t)
			write := func(text string) {
				if err := os.WriteFile(ftraceSwitch, []byte(text), 0); err != nil {
					t.Fatal(err)
				}
			}
			write("0")
			run(t, tiny(t), nil)
			write("1")
		},
		"hooks-crowded": func(t *testing.T, s *Sensor) {
			if err := s.watching.Variables[lsmVarCrowded].Set(uint64(1)); err != nil {
				t.Fatal(err)
			}
		},
		"pin-replaced": func(t *testing.T, s *Sensor) {
			if err := os.Remove(filepath.Join(s.pins.dir(), pinLink+"on_exec")); err != nil {
				t.Fatal(err)
			}
		},
		"foreign-program": func(t *testing.T, s *Sensor) {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "stranger", Type: ebpf.RawTracepoint, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Pin: pinDir(t)})
			if name == "hooks-crowded" && s.Tier() == TierTracepoint {
				t.Log("no hooks in this tier")
				return
			}
			if err := s.Snapshot(func(*Event) error { return nil }); err != nil {
				t.Fatal(err)
			}
			drain(t, s, func(*Event) {})
			if found := undisturbed(s); len(found) != 0 {
				t.Fatalf("before: %+v", found)
			}
			attack(t, s)
			want, _, _ := strings.Cut(name, ",")
			found := s.Check()
			if !slices.ContainsFunc(found, func(f Finding) bool { return f.Name == want }) {
				t.Errorf("found %+v", found)
			}
			for _, f := range found {
				if f.Name != want && f.Name != "foreign-program" {
					t.Errorf("found also %+v", f)
				}
			}
			t.Log(found)
		})
	}
}

func put(t *testing.T, m *ebpf.Map, key, value any) {
	t.Helper()
	if err := m.Put(key, value); err != nil {
		t.Fatal(err)
	}
}

// waitForExec waits until the actor runs, as the kernel's state has it.
func waitForExec(t *testing.T, s *Sensor, c *child) {
	t.Helper()
	for range 2000 {
		if st, err := s.State(c.pidfd); err == nil && !st.Seen {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the actor does not run")
}

// What the sensor does itself is no attack.
func TestCheckBelievesOwnMarks(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	c := spawn(t, actor("wait"))
	ran := tp.await(t, "exec", is(KindExec, c.Process.Pid))
	if marked, err := s.MarkMeasured(c.pidfd, ran.Process.Generation); err != nil || !marked {
		t.Fatalf("marked %v, %v", marked, err)
	}
	if found := undisturbed(s); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
