// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"math/rand/v2"
	"testing"

	"github.com/jurat-dev/jurat/evidence"
)

var (
	proc    = Process{PID: 7, PidfdInode: 70}
	script1 = File{ID: id(1), Digest: digest(1), Form: FormScript, Interpreter: "/bin/sh"}
	script2 = File{ID: id(2), Digest: digest(2), Form: FormScript, Interpreter: "/bin/sh"}
	outer   = File{ID: id(3), Digest: digest(3), Form: FormScript, Interpreter: "/x/script1"}
	data    = File{ID: id(4), Digest: digest(4), Form: FormOther}
	shell   = File{ID: id(5), Digest: digest(5), Form: FormDynamic}
	ld      = File{ID: id(6), Digest: digest(6), Form: FormDynamic}
	static  = File{ID: id(8), Digest: digest(8), Form: FormStatic}
	unread  = File{}
)

func id(n uint64) evidence.FileID {
	return evidence.FileID{Device: 1, Inode: n, Ctime: int64(n), Size: n}
}

func digest(n byte) evidence.Value[evidence.Digest] {
	return evidence.Known(evidence.Digest{Algorithm: "sha-256", Value: []byte{n}, Source: evidence.SourceRead})
}

// tape plays events into a pairing, each a nanosecond after the one before.
type tape struct {
	*pairing
	now    uint64
	asks   bool // the file before asks for an interpreter
	thread uint32
}

func newTape() *tape { return &tape{pairing: newPairing(64), thread: 7} }

func (p *tape) hold(f File) *tape { return p.holdFor(proc, f) }

func (p *tape) holdFor(who Process, f File) *tape {
	p.now++
	h := held{process: who, at: p.now, file: f}
	h.watched = !f.Form.program() && f.Form != FormUnread
	if h.watched || p.asks {
		h.thread = p.thread
	}
	p.asks = h.watched
	p.say(&h)
	return p
}

// say has the pairing read what a holder would say.
func (p *tape) say(h *held) {
	if err := p.message(h.append(nil)); err != nil {
		panic(err)
	}
}

func (p *tape) by(thread uint32) *tape { p.thread = thread; return p }

func (p *tape) closes(f File) *tape {
	p.now++
	if err := p.message(appendClosed(nil, proc, inode{f.ID.Device, f.ID.Inode})); err != nil {
		panic(err)
	}
	return p
}

func (p *tape) loses() *tape {
	p.now++
	if err := p.message(appendLost(nil, p.now)); err != nil {
		panic(err)
	}
	return p
}

func ran(f File, interpreter string) Record {
	return Record{Process: proc, Exe: f.ID, Text: f.ID, Scripted: interpreter != "", Interpreter: interpreter}
}

func (p *tape) exec(r Record) evidence.Value[Verdict] {
	p.now++
	r.At = p.now
	return p.pairing.exec(&r)
}

// want describes a verdict: the inodes of executable, script and loader, 0 for
// none, or a reason.
type want struct {
	reason         string
	exe            uint64
	script, loader any
}

func (w want) check(t *testing.T, v evidence.Value[Verdict]) {
	t.Helper()
	got, ok := v.Get()
	if !ok || w.reason != "" {
		if v.Reason() != w.reason || w.reason == "" {
			t.Fatalf("verdict %v, want %+v", v, w)
		}
		return
	}
	part := func(name string, v evidence.Value[*File], want any) {
		f, ok := v.Get()
		switch want := want.(type) {
		case string:
			if v.Reason() != want {
				t.Errorf("%s %v, want unknown (%s)", name, v, want)
			}
		case int:
			if !ok || (f == nil) != (want == 0) || f != nil && f.ID.Inode != uint64(want) {
				t.Errorf("%s %v %+v, want inode %d", name, v, f, want)
			}
		}
	}
	if got.Executable.ID.Inode != w.exe {
		t.Errorf("executable %+v, want inode %d", got.Executable, w.exe)
	}
	part("script", got.Script, w.script)
	part("loader", got.Loader, w.loader)
}

func TestExecFindsItsFiles(t *testing.T) {
	sh := ran(shell, "/bin/sh")
	for name, c := range map[string]struct {
		play func(*tape)
		of   Record
		want want
	}{
		"static":                         {func(p *tape) { p.hold(static) }, ran(static, ""), want{exe: 8, script: 0, loader: 0}},
		"dynamic":                        {func(p *tape) { p.hold(shell).hold(ld) }, ran(shell, ""), want{exe: 5, script: 0, loader: 6}},
		"script":                         {func(p *tape) { p.hold(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: 1, loader: 6}},
		"script closed after":            {func(p *tape) { p.hold(script1).hold(shell).closes(script1).hold(ld) }, sh, want{exe: 5, script: 1, loader: 6}},
		"nested":                         {func(p *tape) { p.hold(outer).hold(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: 3, loader: 6}},
		"handler":                        {func(p *tape) { p.hold(data).hold(shell).hold(ld) }, ran(shell, "/any"), want{exe: 5, script: 4, loader: 6}},
		"the loader itself":              {func(p *tape) { p.hold(static) }, ran(static, ""), want{exe: 8, script: 0, loader: 0}},
		"nothing held":                   {func(p *tape) {}, ran(static, ""), want{reason: ReasonNoVerdict}},
		"another file":                   {func(p *tape) { p.hold(shell).hold(ld) }, ran(static, ""), want{reason: ReasonNoVerdict}},
		"another process":                {func(p *tape) { p.holdFor(Process{PID: 7, PidfdInode: 71}, static) }, ran(static, ""), want{reason: ReasonNoVerdict}},
		"held after":                     {func(p *tape) { p.now = 100; p.hold(static); p.now = 99 }, ran(static, ""), want{reason: ReasonNoVerdict}},
		"not told what runs":             {func(p *tape) { p.hold(unread) }, Record{Process: proc}, want{reason: ReasonNoVerdict}},
		"let go unread":                  {func(p *tape) { p.hold(unread) }, ran(static, ""), want{reason: ReasonNoVerdict}},
		"failed before":                  {func(p *tape) { p.hold(data).closes(data).hold(shell).hold(ld) }, ran(shell, ""), want{exe: 5, script: 0, loader: 6}},
		"failed script, then unseen one": {func(p *tape) { p.hold(script1).closes(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonNoVerdict, loader: 6}},
		"unseen script":                  {func(p *tape) { p.hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonNoVerdict, loader: 6}},
		"script, failed interpreter, unseen one": {func(p *tape) { p.hold(script1).hold(shell).hold(shell).hold(ld) }, sh,
			want{exe: 5, script: ReasonNoVerdict, loader: 6}},
		"unseen between": {func(p *tape) { p.hold(outer).hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"no script says the kernel": {func(p *tape) { p.hold(script1).hold(shell).hold(ld) }, ran(shell, ""),
			want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"two threads":            {func(p *tape) { p.by(8).hold(script1).by(9).hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"thread not known":       {func(p *tape) { p.by(0).hold(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"one of several threads": {func(p *tape) { p.by(8).hold(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: 1, loader: 6}},
		"loss between":           {func(p *tape) { p.hold(script1).loses().hold(shell).hold(ld) }, sh, want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"loss before":            {func(p *tape) { p.loses().hold(script1).hold(shell).hold(ld) }, sh, want{exe: 5, script: 1, loader: 6}},
		"handler, no handler says the kernel": {func(p *tape) { p.hold(data).hold(shell).hold(ld) }, ran(shell, ""),
			want{exe: 5, script: ReasonAmbiguous, loader: 6}},
		"loader not held": {func(p *tape) { p.hold(shell) }, ran(shell, ""), want{exe: 5, script: 0, loader: ReasonNoVerdict}},
		"too many after":  {func(p *tape) { p.hold(shell).hold(ld).hold(ld) }, ran(shell, ""), want{exe: 5, script: 0, loader: ReasonAmbiguous}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTape()
			c.play(p)
			c.want.check(t, p.exec(c.of))
		})
	}
}

// TestNothingUnwatchedCounts: a script whose being closed would go unnoticed
// proves nothing.
func TestNothingUnwatchedCounts(t *testing.T) {
	p := newTape()
	p.say(&held{process: proc, at: 1, file: script1, thread: 7})
	p.now, p.asks = 1, true
	p.hold(shell).hold(ld)
	want{exe: 5, script: ReasonNoVerdict, loader: 6}.check(t, p.exec(ran(shell, "/bin/sh")))
}

// TestOnlyItsOwnCloseCounts: who else has the script open does not matter.
func TestOnlyItsOwnCloseCounts(t *testing.T) {
	p := newTape().hold(script1)
	p.close(Process{PID: 7, PidfdInode: 71}, 1, 1)
	p.close(proc, 1, 2)
	p.close(proc, 2, 1)
	want{exe: 5, script: 1, loader: 6}.check(t, p.hold(shell).hold(ld).exec(ran(shell, "/bin/sh")))
}

// TestUnreadScript: what could not be read asks for nothing, be it watched.
func TestUnreadScript(t *testing.T) {
	p := newTape()
	p.say(&held{process: proc, at: 1, file: File{ID: id(1)}, thread: 7, watched: true})
	p.now, p.asks = 1, true
	want{exe: 5, script: ReasonNoVerdict, loader: 6}.check(t, p.hold(shell).hold(ld).exec(ran(shell, "/bin/sh")))
}

func TestEveryChangeOfTheFileCounts(t *testing.T) {
	for name, change := range map[string]func(*evidence.FileID){
		"device": func(f *evidence.FileID) { f.Device++ },
		"inode":  func(f *evidence.FileID) { f.Inode++ },
		"ctime":  func(f *evidence.FileID) { f.Ctime++ },
		"size":   func(f *evidence.FileID) { f.Size++ },
	} {
		r := ran(static, "")
		change(&r.Exe)
		change(&r.Text)
		if got := newTape().hold(static).exec(r); got.Reason() != ReasonNoVerdict {
			t.Errorf("another %s: %v", name, got)
		}
	}
}

// TestCutInterpreter: of a long name the kernel's record holds the beginning.
func TestCutInterpreter(t *testing.T) {
	r := ran(shell, "/bin")
	want{exe: 5, script: ReasonAmbiguous, loader: 6}.check(t, newTape().hold(script1).hold(shell).hold(ld).exec(r))
	r.Cut = true
	want{exe: 5, script: 1, loader: 6}.check(t, newTape().hold(script1).hold(shell).hold(ld).exec(r))
	r.Interpreter = ""
	want{exe: 5, script: ReasonAmbiguous, loader: 6}.check(t, newTape().hold(script1).hold(shell).hold(ld).exec(r))
}

// TestOverlay: the file below decides, where it was held.
func TestOverlay(t *testing.T) {
	top := shell
	top.Stacked, top.ID.Device = true, 9
	top.Digest = evidence.Unknown[evidence.Digest](ReasonDeadline)
	text := script1
	text.Stacked, text.ID.Device = true, 9
	r := ran(shell, "/bin/sh")
	r.Exe.Device, r.Stacked = 9, true

	p := newTape().hold(text).hold(script1).hold(top).hold(shell).hold(ld)
	v := p.exec(r)
	want{exe: 5, script: 1, loader: 6}.check(t, v)
	got, _ := v.Get()
	if s, _ := got.Script.Get(); s.ID.Device != 9 {
		t.Errorf("script %+v, want as the process sees it", s.ID)
	}
	if got.Executable.Digest.String() != shell.Digest.String() {
		t.Errorf("digest %v, want that of the file below", got.Executable.Digest)
	}

	// Overlay on overlay: the lowest decides.
	middle := top
	middle.ID.Device = 10
	v = newTape().hold(text).hold(script1).hold(top).hold(middle).hold(shell).hold(ld).exec(r)
	want{exe: 5, script: 1, loader: 6}.check(t, v)
	if got, _ := v.Get(); got.Executable.Digest.String() != shell.Digest.String() {
		t.Errorf("digest %v, want that of the lowest file", got.Executable.Digest)
	}

	// Closed below is closed.
	want{exe: 5, script: ReasonNoVerdict, loader: 6}.check(t, newTape().hold(text).hold(script1).closes(script1).hold(top).hold(shell).hold(ld).exec(r))
	want{exe: 5, script: ReasonNoVerdict, loader: 6}.check(t, newTape().hold(text).hold(script1).closes(text).hold(top).hold(shell).hold(ld).exec(r))

	// Copied up between the two: what is mapped is not what was held.
	r.Text.Inode++
	if v := newTape().hold(top).hold(shell).hold(ld).exec(r); v.Reason() != ReasonNoVerdict {
		t.Errorf("another file below: %v", v)
	}
	// The file below was not held: its time and size have to agree.
	want{exe: 5, script: 0, loader: 6}.check(t, newTape().hold(top).hold(ld).exec(Record{Process: proc, Exe: r.Exe, Text: shell.ID, Stacked: true}))
	r.Text = shell.ID
	r.Text.Ctime++
	if v := newTape().hold(top).hold(ld).exec(r); v.Reason() != ReasonNoVerdict {
		t.Errorf("changed below: %v", v)
	}
}

// TestLateRecords: several execs of one process are paired although their
// records are read when all is over.
func TestLateRecords(t *testing.T) {
	p := newTape()
	var records []Record
	commit := func(r Record) {
		p.now++
		r.At = p.now
		records = append(records, r)
	}
	p.hold(script1).hold(shell).hold(ld)
	commit(ran(shell, "/bin/sh"))
	p.closes(script1).hold(static)
	commit(ran(static, ""))
	p.hold(script2).hold(shell).hold(ld)
	commit(ran(shell, "/bin/sh"))
	wants := []want{{exe: 5, script: 1, loader: 6}, {exe: 8, script: 0, loader: 0}, {exe: 5, script: 2, loader: 6}}
	for i := range records {
		wants[i].check(t, p.pairing.exec(&records[i]))
	}
	if v := p.pairing.exec(&records[0]); v.Reason() != ReasonNoVerdict {
		t.Errorf("the same record again: %v", v)
	}
}

// TestOldKernels: without inodes of pidfds the start time tells processes apart.
func TestOldKernels(t *testing.T) {
	old := Process{PID: 7, Start: 3 * clockTick}
	r := ran(static, "")
	r.Process = Process{PID: 7, PidfdInode: 0, Start: 3*clockTick + 5}
	want{exe: 8, script: 0, loader: 0}.check(t, newTape().holdFor(old, static).exec(r))
	r.Process.Start += clockTick
	if v := newTape().holdFor(old, static).exec(r); v.Reason() != ReasonNoVerdict {
		t.Errorf("another process: %v", v)
	}
}

func TestForget(t *testing.T) {
	p := newTape().hold(script1)
	p.forget(Process{PID: 7, PidfdInode: 71})
	if p.count != 1 {
		t.Errorf("another process's end took it: %d files left", p.count)
	}
	p.forget(proc)
	if p.count != 0 || len(p.lines) != 0 {
		t.Errorf("left: %d files of %d processes", p.count, len(p.lines))
	}
	if v := p.exec(ran(shell, "/bin/sh")); v.Reason() != ReasonNoVerdict {
		t.Errorf("after the end: %v", v)
	}
}

// TestPairingIsBounded: the oldest make room, and have no verdict then.
func TestPairingIsBounded(t *testing.T) {
	p := newTape()
	for n := range uint32(1000) {
		p.holdFor(Process{PID: n, PidfdInode: uint64(n)}, script1)
		if p.count > 64 || len(p.lines) > 64 {
			t.Fatalf("%d files of %d processes", p.count, len(p.lines))
		}
	}
	r := ran(script1, "")
	for n, want := range map[uint32]bool{0: false, 1000 - 65: false, 1000 - 64: true, 999: true} {
		r.Process = Process{PID: n, PidfdInode: uint64(n)}
		if v := p.exec(r); (v.Reason() == "") != want {
			t.Errorf("process %d of 1000: %v", n, v)
		}
	}
}

// TestScriptsAreNeverMixedUp plays random events of a process with several
// threads, some of which the gate does not see, and holds the verdict against
// what really ran.
func TestScriptsAreNeverMixedUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 50_000
	known := 0
	for range rounds {
		p := newTape()
		truth, r := play(p, random)
		v, ok := p.exec(r).Get()
		if !ok {
			continue
		}
		f, ok := v.Script.Get()
		if !ok {
			continue
		}
		known++
		if f == nil || f.ID.Inode != truth {
			t.Fatalf("script %+v, ran %d", f, truth)
		}
	}
	if known < rounds/100 {
		t.Errorf("only %d of %d scripts known: this shows nothing", known, rounds)
	}
}

// attempt is one exec of a script by one thread.
type attempt struct {
	thread uint32
	script File // inode 0: one that the gate does not see
	state  int  // 0 nothing opened, 1 script opened, 2 interpreter opened
}

// play has up to three threads of a process exec scripts of one interpreter
// until one of them gets there. It returns which script that was, 0 for one
// out of sight, and the kernel's record.
func play(p *tape, random *rand.Rand) (uint64, Record) {
	threads := make([]*attempt, 1+random.IntN(3))
	begin := func(i int) { // a thread begins an exec
		scripts := []File{script1, script2, {}}
		threads[i] = &attempt{thread: uint32(10 + i), script: scripts[random.IntN(len(scripts))]}
	}
	for {
		i := random.IntN(len(threads))
		if threads[i] == nil {
			begin(i)
			continue
		}
		a := threads[i]
		inExec := 0
		for _, other := range threads {
			if other != nil {
				inExec++
			}
		}
		p.thread = a.thread
		if inExec > 1 {
			p.thread = 0 // what opener says
		}
		switch a.state {
		case 0:
			if a.state = 1; a.script.ID.Inode != 0 {
				p.hold(a.script)
			}
		case 1:
			if random.IntN(2) == 0 { // it fails
				if a.script.ID.Inode != 0 {
					p.closes(a.script)
				}
				threads[i] = nil
				continue
			}
			a.state = 2
			p.hold(shell)
		case 2:
			if random.IntN(3) == 0 { // it fails; its script may be watched for another process
				if a.script.ID.Inode != 0 && random.IntN(2) == 0 {
					p.closes(a.script)
				}
				threads[i] = nil
				continue
			}
			p.hold(ld)
			return a.script.ID.Inode, ran(shell, "/bin/sh")
		}
	}
}

// TestOrder: what was measured first is said first, and is put where the kernel
// held it.
func TestOrder(t *testing.T) {
	p := newTape()
	p.say(&held{process: proc, at: 3, file: ld})
	p.say(&held{process: proc, at: 2, file: shell, thread: 7})
	p.say(&held{process: proc, at: 1, file: script1, thread: 7, watched: true})
	p.now = 3
	want{exe: 5, script: 1, loader: 6}.check(t, p.exec(ran(shell, "/bin/sh")))
}

// TestMessages: what a holder says is what the agent reads, and half of it is
// nothing.
func TestMessages(t *testing.T) {
	for _, f := range []File{script1, outer, data, static, unread, {Digest: evidence.Unknown[evidence.Digest](ReasonDeadline), Stacked: true},
		{Digest: evidence.Tainted(evidence.Digest{Algorithm: "sha-256", Value: []byte{1}, Source: evidence.SourceRead}, "deleted", "memfd")}} {
		h := held{process: Process{PID: 1, PidfdInode: 2, Start: 3}, at: 4, thread: 5, watched: f.Stacked, file: f}
		whole := h.append(nil)
		r := body{data: whole[1:]}
		got := r.held()
		if r.whole() != nil || got.process != h.process || got.at != 4 || got.thread != 5 || got.watched != h.watched {
			t.Errorf("%+v became %+v", h, got)
		}
		if g := got.file; g.ID != f.ID || g.Form != f.Form || g.Interpreter != f.Interpreter || g.Stacked != f.Stacked || f.Digest.Reason() != "" && g.Digest.String() != f.Digest.String() {
			t.Errorf("%+v became %+v", f, g)
		}
		for n := range whole {
			if newPairing(1).message(whole[:n]) == nil {
				t.Errorf("%d bytes of %d were taken", n, len(whole))
			}
		}
		if newPairing(1).message(append(whole, 0)) == nil {
			t.Error("a byte too much was taken")
		}
	}
}
