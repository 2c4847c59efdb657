// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/require"
	"github.com/jurat-dev/jurat/measure"
)

// pinDir is a directory to pin in, on a bpf file system of the test's own.
func pinDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.Need(t, "root", unix.Mount("bpf", dir, "bpf", 0, "mode=700"))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "jurat")
}

// next is an agent that comes after one with this state and these pins.
func next(t *testing.T, before *rig, pin string) *rig {
	r := newRig(t)
	if before != nil {
		r.state, r.double = before.state, before.double
	}
	r.watchWith(pin)
	return r.start()
}

// epochsOf lists reasons and losses of what the log says. Losses of opens are
// left out: other tests compile meanwhile, which opens thousands of files while
// no agent reads.
func epochsOf(es []*evidence.Entry) (reasons []string, lost uint64) {
	for _, e := range es {
		if e.Start != nil {
			reasons = append(reasons, e.Start.Reason)
		}
		if e.Loss != nil && e.Loss.Cause != bpf.CauseOpensFull.String() {
			lost += e.Loss.Count
		}
	}
	return reasons, lost
}

// TestAgentThatEndsInGoodOrder: a workload goes on across a restart, with all
// that it opened before, while no agent ran, and after.
func TestAgentThatEndsInGoodOrder(t *testing.T) {
	require.Undisturbed(t)
	pin := pinDir(t)
	dir := t.TempDir()
	open := func(o *other, name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("print("+name+")"), 0o644); err != nil {
			t.Fatal(err)
		}
		if said := o.do(t, "open "+path); said != "opened" {
			t.Fatal(said)
		}
	}
	opened := func(r *rig, o *other) (names []string, unknown string) {
		r.agent.sensor.Barrier(t.Context())
		f, _ := r.agent.table.facts(o.pid())
		for _, file := range f.Opened {
			names = append(names, filepath.Base(file.Path))
		}
		return names, f.OpenedUnknown
	}
	first := next(t, nil, pin)
	o := startOther(t, nil, nil, "ask", first.socket)
	open(o, "before.py")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	first.realSensor.Close()
	open(o, "between.py")
	second := next(t, first, pin)
	open(o, "after.py")
	if names, unknown := opened(second, o); !slices.Equal(names, []string{"before.py", "between.py", "after.py"}) || unknown != "" {
		t.Errorf("opened %q, unknown %q", names, unknown)
	}
	if reasons, lost := epochsOf(second.entries()); !slices.Equal(reasons, []string{reasonFirst, reasonRestart}) || lost != 0 {
		t.Errorf("epochs %q, %d lost", reasons, lost)
	}
	f, _ := second.agent.table.facts(o.pid())
	if len(f.Exec.Arguments) == 0 || f.Origin != evidence.OriginExec {
		t.Errorf("what is known of its exec: %+v", f)
	}
	// One that is killed leaves nothing: what was opened before is unknown.
	second.stop()
	if err := os.Remove(filepath.Join(second.state, tableName)); err != nil {
		t.Fatal(err)
	}
	second.realSensor.Close()
	third := next(t, second, pin)
	open(o, "last.py")
	if _, unknown := opened(third, o); unknown != reasonTakeover {
		t.Errorf("unknown %q, want %q", unknown, reasonTakeover)
	}
	if reasons, lost := epochsOf(third.entries()); reasons[2] != reasonRestart || lost != 0 {
		t.Errorf("epochs %q, %d lost", reasons, lost)
	}
}

// TestStaleTable: a table is believed only if the sensor goes on with the very
// next record, in the same boot, and is whole.
func TestStaleTable(t *testing.T) {
	require.Undisturbed(t)
	pin := pinDir(t)
	r := next(t, nil, pin)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.realSensor.Close()
	good, err := os.ReadFile(filepath.Join(r.state, tableName))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(s *savedTable){
		"another boot":             func(s *savedTable) { s.BootID[0] ^= 1 },
		"records are missing":      func(s *savedTable) { s.Next[0]++ },
		"a set that is not there":  func(s *savedTable) { s.Processes[0].Set = len(s.Sets) },
		"a maker after its child":  func(s *savedTable) { s.Ancestors[0].Maker = 0 },
		"no such program":          func(s *savedTable) { s.Processes[0].Program = -1 },
		"more times than files":    func(s *savedTable) { s.Sets = append(s.Sets, savedSet{At: []uint64{1}}) },
		"a set that is nobody's":   func(s *savedTable) { s.Sets = append(s.Sets, savedSet{}) },
		"a file that is not there": func(s *savedTable) { s.Sets[0] = savedSet{Files: []int{1 << 20}, At: []uint64{1}} },
	} {
		var s savedTable
		if err := json.Unmarshal(good, &s); err != nil {
			t.Fatal(err)
		}
		next := slices.Clone(s.Next)
		boot := bytes.Clone(s.BootID)
		change(&s)
		data, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(r.state, tableName, data); err != nil {
			t.Fatal(err)
		}
		a := &Agent{state: r.state, table: newTable(), logger: r.agent.logger, facts: SensorFacts{Next: next}, host: hostFacts{bootID: boot}}
		if err := a.takeOver(); err != nil || len(a.table.processes) != 0 {
			t.Errorf("%s: %d processes, %v", name, len(a.table.processes), err)
		}
		if exists(filepath.Join(r.state, tableName)) {
			t.Errorf("%s: the table is there for a second time", name)
		}
	}
	if err := writeFile(r.state, tableName, good); err != nil {
		t.Fatal(err)
	}
	var s savedTable
	if err := json.Unmarshal(good, &s); err != nil {
		t.Fatal(err)
	}
	a := &Agent{state: r.state, table: newTable(), logger: r.agent.logger, facts: SensorFacts{Next: s.Next}, host: hostFacts{bootID: s.BootID}}
	if err := a.takeOver(); err != nil || len(a.table.processes) != len(s.Processes) || len(s.Processes) == 0 {
		t.Errorf("a good one: %d of %d processes, %v", len(a.table.processes), len(s.Processes), err)
	}
}

// TestSavedTable: what is restored is what was saved.
func TestSavedTable(t *testing.T) {
	tb := newTable()
	parent, child := instance(100, 2), instance(101, 2)
	tb.exec(running(parent, instance(1, 1), "a"))
	for k := range indexFrom + 10 {
		tb.open(parent, code1(string(rune('a'+k%26))+strings.Repeat("x", k)), uint64(k))
	}
	tb.fork(child, parent, 7)
	tb.open(child, code1("own"), 99)
	tb.overlook(child, reasonOpensLost)
	tb.alter(child)
	tb.exec(running(instance(102, 3), child, "b"))
	saved := tb.save()
	data, err := json.Marshal(saved)
	if err != nil {
		t.Fatal(err)
	}
	var read savedTable
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	back := newTable()
	if err := back.restore(&read); err != nil {
		t.Fatal(err)
	}
	if back.opens != tb.opens || len(back.processes) != len(tb.processes) {
		t.Errorf("%d opens of %d processes, were %d of %d", back.opens, len(back.processes), tb.opens, len(tb.processes))
	}
	for pid, was := range tb.processes {
		is := back.processes[pid]
		x, xUnknown := was.opened.files()
		y, yUnknown := is.opened.files()
		a, aUnknown := was.lineage()
		b, bUnknown := is.lineage()
		if is.instance != was.instance || is.altered != was.altered || !slices.Equal(x, y) || xUnknown != yUnknown ||
			len(a) != len(b) || aUnknown != bUnknown || is.program.image != was.program.image || is.program.arguments != was.program.arguments {
			t.Errorf("%d is %+v, was %+v", pid, is, was)
		}
		for k := range a {
			if a[k].Instance != b[k].Instance || a[k].Path != b[k].Path {
				t.Errorf("maker %d of %d is %+v, was %+v", k, pid, b[k], a[k])
			}
		}
	}
	for pid := range tb.processes { // the sets are counted as before
		tb.exit(tb.processes[pid].instance)
		back.exit(back.processes[pid].instance)
		if back.opens != tb.opens {
			t.Errorf("after %d ended: %d opens, want %d", pid, back.opens, tb.opens)
		}
	}
}

// TestHostTaintsOutliveTheAgent, but not the machine.
func TestHostTaintsOutliveTheAgent(t *testing.T) {
	r := newRig(t).start()
	if err := r.agent.noteHostTaint("module-loaded"); err != nil {
		t.Fatal(err)
	}
	r.end()
	r.again()
	if got := r.agent.spoilt.names(); !slices.Equal(got, []string{"module-loaded"}) {
		t.Errorf("after a restart: %q", got)
	}
	r.end()
	r.boot = []byte("another boot id.")
	r.again()
	if got := r.agent.spoilt.names(); len(got) != 0 {
		t.Errorf("after a boot: %q", got)
	}
	r.end()
	if err := writeFile(r.state, taintsName, []byte("{")); err != nil {
		t.Fatal(err)
	}
	r.endsEarly = true
	r.again()
	if r.ended == nil || !strings.Contains(r.ended.Error(), taintsName) {
		t.Errorf("a malformed file: %v", r.ended)
	}
}

// watchWith gives the rig a real sensor that is pinned.
func (r *rig) watchWith(pin string) {
	r.t.Helper()
	var err error
	r.realSensor, err = bpf.Open(bpf.Options{Pin: pin})
	require.Need(r.t, "bpf", err)
	r.t.Cleanup(func() { r.realSensor.Close() })
	r.realTable = newTable()
	r.realMeter, err = measure.Open(measure.Config{Kernel: kernel{r.realSensor, r.realTable}, Environment: Environment})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.realMeter.Close)
}
