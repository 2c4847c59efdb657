// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// run runs path to its end and looks at the zombie before burying it.
func run(t testing.TB, path string, look func(pid, pidfd int)) {
	t.Helper()
	var pidfd int
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{PidFD: &pidfd}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if look != nil {
		if err := unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		look(pid, pidfd)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status != 0 {
		t.Fatalf("%s ended with %#x, %v", path, status, err)
	}
}

// makeRoom waits until the reader has made room in a ring that was full: what
// comes next is recorded again.
func makeRoom(t testing.TB, s *Sensor) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}

// fillRing runs programs until the kernel drops records.
func fillRing(t testing.TB, s *Sensor) {
	t.Helper()
	path := tiny(t)
	for range 10000 {
		losses, err := s.Losses()
		if err != nil {
			t.Fatal(err)
		}
		if losses.Fork > 0 { // the smallest but one: nothing fits
			return
		}
		run(t, path, nil)
	}
	t.Fatal("the ring does not fill")
}

// drain reads until nothing comes any more, twice: a loss at the end shows
// one poll later.
func drain(t testing.TB, s *Sensor, f func(*Event)) {
	t.Helper()
	var ev Event
	for empty := 0; empty < 3; {
		switch err := s.Read(&ev); {
		case err == nil:
			empty = 0
			f(&ev)
		case errors.Is(err, ErrNoEvent):
			empty++
			release(s)
		default:
			t.Fatal(err)
		}
	}
}

// release gives back all that was delivered.
func release(s *Sensor) {
	var m Mark
	if s.Mark(&m) {
		s.Release(&m)
	}
}

func total(t testing.TB, position []uint64, err error) (sum uint64) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range position {
		sum += n
	}
	return sum
}

// instance is a process, with its start in the ticks that /proc shows.
type instance struct {
	pid   uint32
	ticks uint64
}

// ledger is what arrived.
type ledger struct {
	records map[instance]int
	read    map[Kind]uint64
	lost    map[Cause]uint64
}

func (l *ledger) enter(ev *Event) {
	if ev.Kind == KindLost {
		l.lost[ev.Lost.Cause] += ev.Lost.Count
		return
	}
	l.read[ev.Kind]++
	l.records[instance{ev.Process.PID, ev.Process.Start / 1e7}]++
}

// 10,000 programs against a ring that is read now and then: every record is
// either read or counted, and every process that lost one is tainted.
func TestFullRingIsCountedAndTaints(t *testing.T) {
	s := open(t, Options{RingBytes: 1 << 16})
	programs := 10000
	if testing.Short() {
		programs = 1000
	}
	l := &ledger{make(map[instance]int), make(map[Kind]uint64), make(map[Cause]uint64)}
	tainted := make(map[instance]bool)
	path := tiny(t)
	for i := range programs {
		run(t, path, func(pid, pidfd int) {
			tainted[instance{uint32(pid), startTicks(t, pid)}] = stateOf(t, s, pidfd).Taints == TaintEventLoss
		})
		if i%500 == 499 {
			drain(t, s, l.enter)
		}
	}
	position, err := s.Position()
	issued := total(t, position, err)
	drain(t, s, l.enter)
	if !s.Consumed(position) {
		t.Error("drained, but not consumed")
	}

	var harmed int
	for id, is := range tainted {
		if (l.records[id] < 3) != is {
			t.Errorf("pid %d: %d of 3 records arrived, tainted %v", id.pid, l.records[id], is)
		}
		if is {
			harmed++
		}
	}
	if len(tainted) != programs || harmed == 0 || harmed == programs {
		t.Errorf("%d programs, %d processes, %d harmed", programs, len(tainted), harmed)
	}
	losses, err := s.Losses()
	if err != nil {
		t.Fatal(err)
	}
	counted := losses.Exec + losses.Fork + losses.Exit + losses.Cgroup + losses.Taint + losses.Open
	records := l.read[KindExec] + l.read[KindFork] + l.read[KindExit] + l.read[KindCgroup] + l.read[KindTaint] + l.read[KindOpen]
	if len(l.lost) != 1 || l.lost[CauseRingFull] != counted || losses.Unexplained != 0 {
		t.Errorf("reported lost %v, losses %+v", l.lost, losses)
	}
	// Other processes of the host may have made more since.
	if records+counted < issued || l.read[KindExec]+losses.Exec < uint64(programs) {
		t.Errorf("%d records and %d losses of %d; %d and %d of %d programs",
			records, counted, issued, l.read[KindExec], losses.Exec, programs)
	}
	t.Logf("%d programs: %d tainted; %d records read, %d lost", programs, harmed, records, counted)
}

// Records that somebody else takes from the ring are missed, also the last.
func TestSecondReaderIsNoticed(t *testing.T) {
	s := open(t, Options{})
	drain(t, s, func(*Event) {})
	thief, err := ringbuf.NewReader(s.objects.Events)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	steal := func(n int) (stolen uint64) {
		thief.SetDeadline(time.Now().Add(10 * time.Millisecond))
		for range n {
			if _, err := thief.Read(); err != nil {
				break
			}
			stolen++
		}
		return stolen
	}
	path := tiny(t)
	lost := make(map[Cause]uint64)
	count := func(ev *Event) {
		if ev.Kind == KindLost {
			lost[ev.Lost.Cause] += ev.Lost.Count
		}
	}
	for range 10 {
		run(t, path, nil)
	}
	stolen := steal(5)
	drain(t, s, count)
	if stolen != 5 || lost[CauseUnexplained] != stolen {
		t.Errorf("%d stolen before others, lost %v", stolen, lost)
	}
	run(t, path, nil)
	stolen += steal(1000)
	drain(t, s, count)
	if stolen < 8 || lost[CauseUnexplained] != stolen || lost[CauseRingFull] != 0 {
		t.Errorf("%d stolen in all, lost %v", stolen, lost)
	}
	if losses, err := s.Losses(); err != nil || losses.Unexplained != stolen {
		t.Errorf("losses %+v, %v", losses, err)
	}
}

// The reader's arithmetic, without a kernel.
func TestGapIsExplainedByDropsOnly(t *testing.T) {
	type want struct{ full, unexplained uint64 }
	for name, test := range map[string]struct {
		number, drops uint64
		want          want
	}{
		"no gap":              {4, 1, want{0, 0}},
		"all dropped":         {7, 4, want{3, 0}},
		"none dropped":        {7, 1, want{0, 3}},
		"some dropped":        {9, 3, want{2, 3}},
		"drops run backwards": {6, 0, want{0, 2}},
	} {
		s := &Sensor{possible: 1, cpus: []position{{next: 4, drops: 1}}}
		s.lose(0, test.number, test.drops)
		var have want
		for _, ev := range s.queue {
			switch ev.Lost.Cause {
			case CauseRingFull:
				have.full += ev.Lost.Count
			case CauseUnexplained:
				have.unexplained += ev.Lost.Count
			}
		}
		if have != test.want || s.cpus[0].next != test.number {
			t.Errorf("%s: %+v, want %+v; next %d", name, have, test.want, s.cpus[0].next)
		}
	}
}

func TestBarrierWaitsForTheReader(t *testing.T) {
	s := open(t, Options{Poll: time.Second})
	path := tiny(t)
	run(t, path, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("barrier with nobody reading: %v", err)
	}
	tp := record(t, s)
	for range 20 {
		var ran int
		run(t, path, func(pid, _ int) { ran = pid })
		began := time.Now()
		if err := s.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("barrier took %v: it waited for the poll", took)
		}
		for _, kind := range []Kind{KindFork, KindExec, KindExit} {
			if len(tp.find(is(kind, ran))) == 0 {
				t.Errorf("no %s of pid %d after the barrier", kind, ran)
			}
		}
	}
	s.Close()
	if s.Consumed(make([]uint64, len(s.consumed)+1)) {
		t.Error("a position of too many cpus is consumed")
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	s := open(t, Options{})
	drain(t, s, func(*Event) {})
	path := tiny(t)
	const reads = 300
	for range reads / 2 {
		run(t, path, nil)
	}
	var ev Event
	if err := s.Read(&ev); err != nil { // sizes the buffer
		t.Fatal(err)
	}
	for ev.Kind != KindExec {
		if err := s.Read(&ev); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(reads, func() {
		if err := s.Read(&ev); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per read", n)
	}
	drain(t, s, func(*Event) {})
	s.missed = time.Now().Add(time.Hour) // the look at skipped programs is once a second
	if n := testing.AllocsPerRun(20, func() { s.Read(&ev) }); n != 0 {
		t.Errorf("%v allocations per empty read", n)
	}
}

func TestReadAfterClose(t *testing.T) {
	s := open(t, Options{})
	done := make(chan error)
	go func() {
		var ev Event
		for {
			if err := s.Read(&ev); err != nil && !errors.Is(err, ErrNoEvent) {
				done <- err
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("read in progress: %v", err)
	}
	if err := s.Read(new(Event)); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := s.Barrier(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("barrier after close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
