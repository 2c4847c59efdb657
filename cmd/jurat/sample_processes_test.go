// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
)

// hostile is a name that a process may give itself: it turns the direction of
// writing, colours the terminal, with seven bits and with eight, and ends the line.
const hostile = "ls\u202e\x1b[32mmeasured\u009b0m\x7f\n"

func sampleDigest(b byte) evidence.Value[evidence.Digest] {
	return evidence.Known(evidence.Digest{Algorithm: "sha-256", Value: bytes.Repeat([]byte{b}, 32), Source: evidence.SourceCache})
}

// sampleProcesses is a small host: one honest agent, what started it, one
// process that was traced, one without a digest.
func sampleProcesses() *local.Processes {
	instance := func(pid uint32) evidence.Instance {
		return evidence.Instance{PID: pid, Start: uint64(pid) * 1e9, PidfdInode: uint64(pid) + 7, Generation: 1}
	}
	at := noon.Unix()
	root := evidence.Hash(bytes.Repeat([]byte{0xc0}, 32))
	tracer := instance(4720)
	return &local.Processes{Processes: []local.Process{
		{Instance: instance(1), Origin: "seen", At: at - 3*86400, Path: "/usr/lib/systemd/systemd", Digest: sampleDigest(1),
			Command: "systemd", Cgroup: "/init.scope", Taints: []local.Spoilt{}, Standing: local.StandingSeen},
		{Instance: instance(4711), Parent: instance(1), Origin: "exec", At: at - 4000, Path: "/usr/bin/python3.11", Digest: sampleDigest(0x9f),
			Script: "/opt/invoice/agent.py", Command: "python3", UID: 0, Cgroup: "/system.slice/invoice.service", Unit: "invoice.service",
			Taints: []local.Spoilt{}, Code: &root, Holds: 1, Standing: local.StandingMeasured},
		{Instance: instance(4712), Parent: instance(4711), Origin: "fork", At: at - 3999, Path: "/usr/bin/python3.11", Digest: sampleDigest(0x9f),
			Command: hostile, Cgroup: "/system.slice/invoice.service", Unit: "invoice.service",
			Taints:   []local.Spoilt{{Name: "traced", At: 5_123_456_789, How: "tracepoint/syscalls/sys_exit_ptrace", By: &tracer}},
			Standing: local.StandingTainted},
		{Instance: tracer, Parent: instance(1), Origin: "exec", At: at - 70, Path: "/usr/bin/" + hostile, Digest: evidence.Unknown[evidence.Digest]("exited"),
			Command: "ls", UID: 4004, Cgroup: "/docker/8f", Container: "8f2c1e0d9b7a", Taints: []local.Spoilt{}, Standing: local.StandingUnknown},
	}}
}

// sampleAnswer is what a juratd says to operators.
func sampleAnswer(t testing.TB, r local.Request) any {
	t.Helper()
	all := sampleProcesses().Processes
	switch r.Op {
	case local.OpProcesses: // in two parts
		out := sampleProcesses()
		out.Processes = slices.DeleteFunc(out.Processes, func(p local.Process) bool { return p.Instance.PID < r.PID })
		if r.PID == 0 {
			out.Processes, out.More = out.Processes[:2], true
		}
		return out
	case local.OpMeasurements:
		return &local.Measurements{Files: []local.Measured{
			{Path: "/opt/invoice/agent.py", ID: evidence.FileID{Device: 1, Inode: 2, Size: 812}, Digest: sampleDigest(0xaa), FirstSeen: noon.Unix() - 4000, LastUsed: noon.Unix() - 5, Uses: 3},
			{Path: "/usr/bin/python3.11", ID: evidence.FileID{Device: 1, Inode: 3, Size: 6831736}, Digest: sampleDigest(0x9f), FirstSeen: noon.Unix() - 90000, LastUsed: noon.Unix() - 5, Uses: 41},
		}}
	case local.OpEvents:
		who := all[2].Instance
		return &local.Event{Time: noon.UnixNano() + 123_000_000, Missed: 7, Instance: &who, Path: all[2].Path, Command: all[2].Command, UID: &all[2].UID,
			Unit: all[2].Unit, Entry: &evidence.Entry{
				Version: 1, Kind: evidence.KindTaint, At: 5_123_456_789, Instance: &who,
				Taint: &evidence.Taint{Name: "traced", How: "tracepoint/syscalls/sys_exit_ptrace", By: &all[3].Instance},
			}}
	case local.OpExplain:
		bundle, err := evidence.Parse(sampleBundle(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range bundle.Entries {
			if p := e.Value.Process; p != nil {
				state := bundle.Requests[0].Value.Before
				state.Taints, state.Changed = []string{"traced"}, evidence.Known([]string{"credentials"})
				return &local.Explanation{Summary: all[2], Process: p, State: state, Tier: "tracepoint", Signals: []evidence.Signal{
					{Name: "exec", By: evidence.Known("tp_btf/sched_process_exec")}, {Name: "script", By: evidence.Unknown[string]("tier-tracepoint")},
				}}
			}
		}
	}
	return sampleStatus()
}
