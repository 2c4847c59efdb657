// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// execOf turns the kernel's word on a program into what measure works from.
// It is a trust boundary: below it are facts of the kernel, above it claims in
// a log, and every fact that was not told must stay untold. ev is of kind exec
// or seen.
func execOf(ev *bpf.Event) measure.Exec {
	p := &ev.Program
	e := measure.Exec{
		At: ev.Time, CPU: ev.CPU, Record: ev.Number, Seen: ev.Process.Seen,
		Instance: instanceOf(ev.Process.Instance), Parent: instanceOf(ev.Parent),
		Filename: p.Filename.String(), Interpreter: p.Interp.String(),
		Cut:         ev.Flags&(bpf.FlagFilenameCut|bpf.FlagInterpCut) != 0,
		Credentials: credentialsOf(&p.Creds, ev.Flags),
		Namespaces: evidence.Namespaces{
			PID: p.Namespaces.PID, Mount: p.Namespaces.Mount, User: p.Namespaces.User, Net: p.Namespaces.Net,
			Cgroup: p.Namespaces.Cgroup, UTS: p.Namespaces.UTS, IPC: p.Namespaces.IPC,
		},
		CgroupID:      ev.CgroupID,
		ArgumentsSize: uint64(p.ArgvLen),
		VariablesRead: !ev.Flags.Has(bpf.FlagEnvUnknown),
		Taints:        taintsOf(ev.Process.Taints, ev.Flags),
	}
	if ev.Flags.Has(bpf.FlagFile) {
		e.Exe = inodeOf(&p.File, p.Memfd())
	}
	if ev.Flags.Has(bpf.FlagScript) {
		e.Script = inodeOf(&p.Script, false)
	}
	if d := p.KernelDigest; d.DigestSource != 0 {
		e.Kernel = measure.KernelDigest{Source: d.DigestSource.String(), Sum: d.Digest}
	}
	if ev.Flags.Has(bpf.FlagBacking) {
		// Without FlagBackingMapped it is a copy of File: right everywhere but on
		// stacked file systems, and there measure sees from Magic that it is not.
		e.Text = inodeOf(&p.Backing, false)
	}
	if !ev.Flags.Has(bpf.FlagArgvUnknown) {
		e.Arguments = append([]byte{}, p.Argv.Bytes()...)
	}
	for _, v := range [...]struct {
		flag bpf.Flags
		name string
	}{{bpf.FlagPreload, "LD_PRELOAD"}, {bpf.FlagAudit, "LD_AUDIT"}, {bpf.FlagLibraryPath, "LD_LIBRARY_PATH"}} {
		if ev.Flags.Has(v.flag) {
			e.Variables = append(e.Variables, v.name)
		}
	}
	return e
}

func instanceOf(i bpf.Instance) evidence.Instance {
	return evidence.Instance{PID: i.PID, Start: i.Start, PidfdInode: i.PidfdInode, Generation: i.Generation}
}

func inodeOf(f *bpf.File, memfd bool) measure.Inode {
	return measure.Inode{
		Device: f.Device, Inode: f.Inode, Generation: f.Generation, Ctime: f.Ctime, Size: f.Size,
		Links: f.Links, Magic: f.Magic, Writers: f.Writers, MapWritable: f.MmapWritable, Memfd: memfd,
	}
}

func credentialsOf(c *bpf.Creds, flags bpf.Flags) evidence.Credentials {
	return evidence.Credentials{
		UID: c.UID, EUID: c.EUID, SUID: c.SUID, FSUID: c.FSUID, GID: c.GID, EGID: c.EGID, SGID: c.SGID, FSGID: c.FSGID,
		Inheritable: c.Inheritable, Permitted: c.Permitted, Effective: c.Effective, Bounding: c.Bounding, Ambient: c.Ambient,
		NoNewPrivs: flags.Has(bpf.FlagNoNewPrivs), Seccomp: c.SeccompMode,
	}
}

// taintNoState is the taint of a process for which the kernel could keep no
// state: nothing recorded about it can be relied on.
const taintNoState = "no-state"

// taintsOf returns never nil: a log entry lists taints, be it none.
func taintsOf(t bpf.Taints, flags bpf.Flags) []string {
	names := append([]string{}, t.Names()...)
	if flags.Has(bpf.FlagNoState) {
		names = append(names, taintNoState)
	}
	return names
}

// openedOf turns the kernel's word on a file that was opened into what the
// table keeps of it.
func openedOf(o *bpf.Opened) openedFile {
	return openedFile{file: inodeOf(&o.File, false), path: o.Path.String(), cut: o.Path.Cut, class: o.Class.String()}
}
