// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"reflect"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// kernelEvent is an exec with every field set to something of its own.
func kernelEvent() bpf.Event {
	ev := bpf.Event{
		Kind: bpf.KindExec, CPU: 1, Number: 2, Time: 3, CgroupID: 4,
		Flags:   bpf.FlagFile | bpf.FlagBacking | bpf.FlagBackingMapped,
		Process: bpf.Process{Instance: bpf.Instance{PID: 5, Start: 6, PidfdInode: 7, Generation: 8}, TID: 9},
		Parent:  bpf.Instance{PID: 10, Start: 11, PidfdInode: 12, Generation: 13},
	}
	p := &ev.Program
	p.File = bpf.File{Device: 20, Inode: 21, Size: 22, Ctime: 23, Magic: 24, Links: 25, Generation: 26, Mode: 27, Writers: -28, MmapWritable: 29}
	p.Backing = bpf.File{Device: 30, Inode: 31, Size: 32, Ctime: 33, Magic: 34, Links: 35, Generation: 36, Mode: 37, Writers: -38, MmapWritable: 39}
	p.Creds = bpf.Creds{UID: 40, GID: 41, SUID: 42, SGID: 43, EUID: 44, EGID: 45, FSUID: 46, FSGID: 47,
		Inheritable: 48, Permitted: 49, Effective: 50, Bounding: 51, Ambient: 52, SeccompMode: 2}
	p.Namespaces = bpf.Namespaces{PID: 60, Mount: 61, User: 62, Net: 63, Cgroup: 64, UTS: 65, IPC: 66}
	p.Argc, p.ArgvLen = 2, 70
	p.Filename, p.Interp, p.Argv = bpf.NewText("/x"), bpf.NewText("/bin/y"), bpf.NewText("y\x00-x\x00")
	return ev
}

func TestExecOf(t *testing.T) {
	ev := kernelEvent()
	want := measure.Exec{
		At: 3, CPU: 1, Record: 2,
		Instance: evidence.Instance{PID: 5, Start: 6, PidfdInode: 7, Generation: 8},
		Parent:   evidence.Instance{PID: 10, Start: 11, PidfdInode: 12, Generation: 13},
		Filename: "/x", Interpreter: "/bin/y",
		Exe:  measure.Inode{Device: 20, Inode: 21, Size: 22, Ctime: 23, Magic: 24, Links: 25, Generation: 26, Writers: -28, MapWritable: 29},
		Text: measure.Inode{Device: 30, Inode: 31, Size: 32, Ctime: 33, Magic: 34, Links: 35, Generation: 36, Writers: -38, MapWritable: 39},
		Credentials: evidence.Credentials{UID: 40, GID: 41, SUID: 42, SGID: 43, EUID: 44, EGID: 45, FSUID: 46, FSGID: 47,
			Inheritable: 48, Permitted: 49, Effective: 50, Bounding: 51, Ambient: 52, Seccomp: 2},
		Namespaces: evidence.Namespaces{PID: 60, Mount: 61, User: 62, Net: 63, Cgroup: 64, UTS: 65, IPC: 66},
		CgroupID:   4, Arguments: []byte("y\x00-x\x00"), ArgumentsSize: 70, VariablesRead: true, Taints: []string{},
	}
	if got := execOf(&ev); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestExecOfKeepsUntoldUntold: each flag that takes a fact away, or adds one,
// does so to that fact alone.
func TestExecOfKeepsUntoldUntold(t *testing.T) {
	base := kernelEvent()
	for name, c := range map[string]struct {
		change func(*bpf.Event)
		want   func(*measure.Exec)
	}{
		"no file":      {func(ev *bpf.Event) { ev.Flags &^= bpf.FlagFile }, func(e *measure.Exec) { e.Exe = measure.Inode{} }},
		"no backing":   {func(ev *bpf.Event) { ev.Flags &^= bpf.FlagBacking }, func(e *measure.Exec) { e.Text = measure.Inode{} }},
		"not mapped":   {func(ev *bpf.Event) { ev.Flags &^= bpf.FlagBackingMapped }, func(*measure.Exec) {}},
		"no arguments": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagArgvUnknown }, func(e *measure.Exec) { e.Arguments = nil }},
		"environment not read": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagEnvUnknown },
			func(e *measure.Exec) { e.VariablesRead = false }},
		"filename cut": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagFilenameCut }, func(e *measure.Exec) { e.Cut = true }},
		"interp cut":   {func(ev *bpf.Event) { ev.Flags |= bpf.FlagInterpCut }, func(e *measure.Exec) { e.Cut = true }},
		"variables": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagPreload | bpf.FlagAudit | bpf.FlagLibraryPath },
			func(e *measure.Exec) { e.Variables = []string{"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"} }},
		"one variable": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagAudit },
			func(e *measure.Exec) { e.Variables = []string{"LD_AUDIT"} }},
		"no new privileges": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagNoNewPrivs }, func(e *measure.Exec) { e.Credentials.NoNewPrivs = true }},
		"seen":              {func(ev *bpf.Event) { ev.Process.Seen = true }, func(e *measure.Exec) { e.Seen = true }},
		"tainted": {func(ev *bpf.Event) { ev.Process.Taints = bpf.TaintEventLoss | bpf.TaintStateLost },
			func(e *measure.Exec) { e.Taints = []string{"event-loss", "state-lost"} }},
		"no state": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagNoState }, func(e *measure.Exec) { e.Taints = []string{"no-state"} }},
		"memfd": {func(ev *bpf.Event) {
			ev.Program.File.Magic, ev.Program.File.Links, ev.Program.File.Mount = 0x01021994, 0, bpf.MountInternal
		}, func(e *measure.Exec) { e.Exe.Magic, e.Exe.Links, e.Exe.Memfd = 0x01021994, 0, true }},
		"privileged exec": {func(ev *bpf.Event) { ev.Flags |= bpf.FlagSecureExec | bpf.FlagThreadExec }, func(*measure.Exec) {}},
	} {
		ev := base
		c.change(&ev)
		want := execOf(&base)
		c.want(&want)
		if got := execOf(&ev); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
	// What the event is reused for must not show through.
	ev := kernelEvent()
	e := execOf(&ev)
	ev.Program.Argv = bpf.NewText("other")
	if !slices.Equal(e.Arguments, []byte("y\x00-x\x00")) {
		t.Error("the arguments are those of another event")
	}
}
