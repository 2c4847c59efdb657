// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

func instance(pid, generation uint32) evidence.Instance {
	return evidence.Instance{PID: pid, Start: uint64(pid) * 10, PidfdInode: uint64(pid), Generation: generation}
}

func running(i, parent evidence.Instance, name string) *program {
	return newProgram(&measure.Exec{Instance: i, Parent: parent, Filename: name, At: 1}, name)
}

// TestProgramKeepsTheExec: what goes into the table comes out of it.
func TestProgramKeepsTheExec(t *testing.T) {
	ev := kernelEvent()
	ev.Flags |= bpf.FlagScript | bpf.FlagPreload | bpf.FlagLibraryPath
	ev.Program.Script = bpf.File{Device: 50, Inode: 51}
	ev.Program.KernelDigest = bpf.KernelDigest{DigestSource: bpf.DigestIMA, Digest: [32]byte{1}}
	ev.Program.File.Writers, ev.Program.Backing.Writers = -1, 1
	for _, change := range []func(){
		func() {},
		func() { ev.Flags |= bpf.FlagEnvUnknown | bpf.FlagArgvUnknown | bpf.FlagInterpCut },
		func() { ev.Process.Taints, ev.Process.Seen = bpf.TaintEventLoss, true },
	} {
		change()
		want := execOf(&ev)
		want.Held = []measure.Held{{ID: evidence.FileID{Inode: 3}, Script: true}}
		if got := newProgram(&want, "x").exec(); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func code1(name string) openedFile {
	return openedFile{file: measure.Inode{Inode: uint64(len(name)), Ctime: 1, Size: 1}, path: name, class: measure.ClassCode}
}

// TestOpenedFiles: a fork has what its parent had opened and goes its own way,
// an exec begins anew, a file counts once for each version.
func TestOpenedFiles(t *testing.T) {
	tb := newTable()
	parent, child := instance(10, 1), instance(11, 1)
	names := func(pid uint32) (out []string) {
		f, _ := tb.facts(pid)
		for _, o := range f.Opened {
			out = append(out, o.Path)
		}
		return out
	}
	tb.exec(running(parent, instance(1, 1), "python"))
	tb.open(parent, code1("a"), 5)
	tb.open(parent, code1("a"), 6)
	changed := code1("a")
	changed.file.Ctime = 2
	tb.open(parent, changed, 7)
	tb.fork(child, parent, 0)
	tb.open(child, code1("bb"), 8)
	tb.open(parent, code1("ccc"), 9)
	if got := fmt.Sprint(names(10), names(11)); got != "[a a ccc] [a a bb]" {
		t.Errorf("opened %s", got)
	}
	if f, _ := tb.facts(10); f.Opened[0].At != 5 || f.OpenedUnknown != "" {
		t.Errorf("%+v", f.Opened[0])
	}
	old := child
	child.Generation = 2
	tb.exec(running(child, parent, "node"))
	tb.open(old, code1("late"), 9)
	if got := names(11); len(got) != 0 {
		t.Errorf("after its exec it has %q", got)
	}
	if n, unknown := tb.openings(10, 1); n != 3 || unknown != "" {
		t.Errorf("%d opened, %s", n, unknown)
	}
	if _, unknown := tb.openings(10, 2); unknown == "" {
		t.Error("the openings of a program that the table does not know are known")
	}
	tb.exit(parent)
	tb.exit(child)
	if tb.opens != 0 {
		t.Errorf("%d references left of processes that ended", tb.opens)
	}
}

// TestOpenedFilesAreBounded and never quietly incomplete.
func TestOpenedFilesAreBounded(t *testing.T) {
	tb := newTable()
	i := instance(10, 1)
	tb.exec(running(i, instance(1, 1), "node"))
	for n := range uint64(maxOpened + 5) {
		tb.open(i, openedFile{file: measure.Inode{Inode: n + 1}}, n)
	}
	if f, _ := tb.facts(10); len(f.Opened) != maxOpened || f.OpenedUnknown != reasonTooMany {
		t.Errorf("%d opened, %q", len(f.Opened), f.OpenedUnknown)
	}
	other, child := instance(12, 1), instance(13, 1)
	tb.exec(running(other, instance(1, 1), "sh"))
	tb.overlook(other, reasonOpensLost)
	tb.fork(child, other, 0)
	if f, _ := tb.facts(13); f.OpenedUnknown != reasonOpensLost {
		t.Errorf("a fork of a process with a lost open: %q", f.OpenedUnknown)
	}
	tb.seen(running(instance(14, 1), instance(1, 1), "old"), reasonOlder)
	if f, _ := tb.facts(14); f.OpenedUnknown != reasonOlder {
		t.Errorf("a process older than the sensor: %q", f.OpenedUnknown)
	}
}

// TestLineage: who made a process stays known when it runs another program or
// ends, whoever the kernel calls the parent then.
func TestLineage(t *testing.T) {
	tb := newTable()
	root, shell, tool := instance(1, 1), instance(20, 2), instance(21, 2)
	tb.seen(running(tool, shell, "tool"), "") // a snapshot does not come in order
	tb.seen(running(shell, root, "sh"), "")
	tb.seen(running(root, evidence.Instance{}, "init"), "")
	tb.retain(map[uint32]uint64{1: 10, 20: 200, 21: 210})
	child, agent := instance(22, 2), instance(22, 3)
	tb.fork(child, tool, 0)
	tb.exec(running(agent, tool, "agent"))
	if next := instance(21, 3); true {
		tb.exec(running(next, shell, "other"))
		tb.exit(next)
	}
	tb.exit(shell)
	lineage := func(i evidence.Instance) string {
		f, ok := tb.facts(i.PID)
		if !ok || f.Instance != i {
			t.Fatalf("no facts of %s", i)
		}
		names := []string{f.LineageUnknown}
		for _, a := range f.Lineage {
			names = append(names, fmt.Sprintf("%s/%d", a.Path, a.Instance.Generation))
		}
		return strings.Join(names, " ")
	}
	if got := lineage(agent); got != " tool/2 sh/2 init/1" {
		t.Errorf("lineage %q", got)
	}
	lost := instance(30, 1)
	tb.exec(running(lost, instance(29, 1), "stray")) // its fork was lost, and its parent's too
	if got := lineage(lost); got != reasonNoRecord {
		t.Errorf("lineage of a stray: %q", got)
	}
	at := root
	for depth := range uint32(3 * maxDepth) {
		next := instance(100+depth, 1)
		tb.fork(next, at, 0)
		at = next
	}
	if got := lineage(at); got != reasonTooMany {
		t.Errorf("lineage of who is too deep: %q", got)
	}
}

// TestForkKnowsBetter: a snapshot names the parent of that moment, the record
// of the fork who made the process, and what it was then.
func TestForkKnowsBetter(t *testing.T) {
	tb := newTable()
	root, shell, maker, child := instance(1, 1), instance(20, 2), instance(21, 2), instance(22, 2)
	now := maker
	now.Generation++ // it called exec after the fork, before the snapshot
	tb.seen(running(root, evidence.Instance{}, "init"), "")
	tb.seen(running(shell, root, "sh"), "")
	tb.seen(running(now, shell, "other"), "")
	tb.seen(running(child, shell, "agent"), "") // given to the shell meanwhile
	tb.retain(map[uint32]uint64{1: 10, 20: 200, 21: 210, 22: 220})
	made := func() string {
		f, _ := tb.facts(child.PID)
		return fmt.Sprint(f.LineageUnknown, len(f.Lineage), f.Lineage[0].Instance, f.Lineage[0].Path)
	}
	if got := made(); got != fmt.Sprint("", 2, shell, "sh") {
		t.Errorf("as the snapshot has it: %s", got)
	}
	tb.fork(child, maker, 0)
	if got := made(); got != fmt.Sprint("", 3, maker, "") {
		t.Errorf("as the fork has it: %s", got)
	}
	tb.seen(running(instance(22, 3), root, "agent"), "") // its exec was not told
	tb.retain(map[uint32]uint64{1: 10, 20: 200, 21: 210, 22: 220})
	if got := made(); got != fmt.Sprint("", 3, maker, "") {
		t.Errorf("after another snapshot: %s", got)
	}
}

// TestChangedFileSpoilsEveryoneWhoUsesIt, by running it or by having opened it.
func TestChangedFileSpoilsEveryoneWhoUsesIt(t *testing.T) {
	tb := newTable()
	lib := measure.Inode{Device: 1, Inode: 77, Ctime: 3, Size: 4}
	e := measure.Exec{Instance: instance(10, 1), Exe: lib}
	tb.exec(newProgram(&e, "x"))
	tb.exec(running(instance(11, 1), instance(1, 1), "python"))
	tb.open(instance(11, 1), openedFile{file: lib, path: "m.py"}, 1)
	tb.exec(running(instance(12, 1), instance(1, 1), "bystander"))
	newer := lib
	newer.Ctime = 9
	tb.open(instance(12, 1), openedFile{file: newer, path: "m.py"}, 1)
	for _, pid := range []uint32{10, 12} {
		if _, err := tb.hold(instance(pid, 1), zeroReader{}); err != nil {
			t.Fatal(err)
		}
	}
	tb.altered(fileID(&lib), 5)
	tb.altered(fileID(&lib), 6) // no news
	for pid, want := range map[uint32]int{10: 1, 11: 1, 12: 0} {
		if got := tb.taints(instance(pid, 1)); len(got) != want || want == 1 && got[0] != taintWritten {
			t.Errorf("process %d: %q", pid, got)
		}
	}
	if tb.holderOf(instance(10, 1)) != nil || tb.holderOf(instance(12, 1)) == nil || len(tb.unlogged) != 2 {
		t.Errorf("credentials %v and %v, %d to be logged", tb.holderOf(instance(10, 1)), tb.holderOf(instance(12, 1)), len(tb.unlogged))
	}
}

// TestTaintsOfTheProgramEndWithIt, those of the process stay; a fork has both.
func TestTaintsOfTheProgramEndWithIt(t *testing.T) {
	tb := newTable()
	i := instance(10, 1)
	tb.exec(running(i, instance(1, 1), "x"))
	tb.spoil(i, []local.Spoilt{{Name: "traced"}, {Name: "event-loss", How: "first"}})
	tb.fork(instance(11, 1), i, 0)
	next := running(instance(10, 2), instance(1, 1), "y")
	next.taints = []string{"event-loss"}
	tb.exec(next)
	if got := fmt.Sprint(tb.taints(i), tb.taints(instance(11, 1))); got != "[event-loss] [traced event-loss]" {
		t.Errorf("taints %s", got)
	}
	if news := tb.spoil(i, []local.Spoilt{{Name: "event-loss", How: "again"}}); news != nil {
		t.Errorf("logged again: %+v", news)
	}
}

// TestCredentialsGoWithTheirContext: another cgroup, other ids.
func TestCredentialsGoWithTheirContext(t *testing.T) {
	for name, change := range map[string]func(*table, evidence.Instance){
		"cgroup":      func(tb *table, i evidence.Instance) { tb.moved(i, 9) },
		"credentials": (*table).alter,
		"taint":       func(tb *table, i evidence.Instance) { tb.spoil(i, []local.Spoilt{{Name: "namespace-changed"}}) },
	} {
		tb := newTable()
		i := instance(10, 1)
		tb.exec(running(i, instance(1, 1), "x"))
		if _, err := tb.hold(i, zeroReader{}); err != nil {
			t.Fatal(err)
		}
		change(tb, i)
		if tb.holderOf(i) != nil {
			t.Errorf("%s: it still holds what it was given", name)
		}
	}
}

// TestKernelTellsChangedCredentials: what the kernel keeps of a process reaches
// the looks at it.
func TestKernelTellsChangedCredentials(t *testing.T) {
	s := newFakeSensor()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, changed := range []bool{false, true} {
		s.states[uint32(os.Getpid())] = &bpf.State{Generation: 3, CredentialsChanged: changed}
		if got, err := (kernel{s, newTable()}).State(fd); err != nil || got.CredentialsChanged != changed {
			t.Errorf("%+v, %v; want %v", got, err, changed)
		}
	}
}

// TestTableIsSmall: 20,000 processes, each from an exec of its own with its
// own arguments, a tenth of them with a hundred opened files.
func TestTableIsSmall(t *testing.T) {
	const processes, limit = 20_000, 24 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tb := newTable()
	ev := kernelEvent()
	for n := range uint32(processes) {
		ev.Process.PID, ev.Process.Start = 1000+n, uint64(n)
		ev.Number, ev.Time = uint64(n), uint64(n)
		ev.Program.File.Inode, ev.Program.Backing.Inode = uint64(n%500), uint64(n%500)
		ev.Program.Argv = bpf.NewText(fmt.Sprintf("%0127d\x00", n))
		tb.exec(programOf(&ev))
		if n%10 == 0 {
			for k := range uint64(100) {
				tb.open(instanceOf(ev.Process.Instance), openedFile{file: measure.Inode{Inode: k}, path: fmt.Sprintf("/usr/lib/python3/%d.pyc", k)}, k)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := after.HeapAlloc - before.HeapAlloc
	t.Logf("%d bytes for each of %d processes", used/processes, processes)
	if used > limit {
		t.Errorf("%d processes take %d bytes, at most %d", processes, used, limit)
	}
	runtime.KeepAlive(tb)
}

// TestOnlyItsOwnProgramIsNoStranger: whoever loads a sensor is excused only if
// he runs the very file that this agent does, and nothing spoilt him.
func TestOnlyItsOwnProgramIsNoStranger(t *testing.T) {
	own, other := instance(10, 1), instance(20, 1)
	text := measure.Inode{Device: 1, Inode: 2, Generation: 3, Ctime: 4, Size: 5}
	try := func(text measure.Inode, who evidence.Instance, taints ...local.Spoilt) bool {
		tb := newTable()
		for i, file := range map[evidence.Instance]measure.Inode{own: {Device: 1, Inode: 2, Generation: 3, Ctime: 4, Size: 5}, other: text} {
			tb.exec(newProgram(&measure.Exec{Instance: i, Filename: "juratd", Text: file}, "juratd"))
		}
		tb.spoil(other, taints)
		return tb.runs(who, own.PID)
	}
	if !try(text, other) {
		t.Error("the same program is a stranger")
	}
	for name, change := range map[string]func(*measure.Inode){
		"device": func(i *measure.Inode) { i.Device++ }, "inode": func(i *measure.Inode) { i.Inode++ }, "nothing": func(i *measure.Inode) { *i = measure.Inode{} },
		"change time": func(i *measure.Inode) { i.Ctime++ }, "size": func(i *measure.Inode) { i.Size++ }, "generation": func(i *measure.Inode) { i.Generation++ },
	} {
		file := text
		change(&file)
		if try(file, other) {
			t.Errorf("another %s is no stranger", name)
		}
	}
	if try(text, other, local.Spoilt{Name: "traced"}) || try(text, instance(20, 2)) || try(text, instance(30, 1)) {
		t.Error("one that is tainted, over or not known is no stranger")
	}
}
