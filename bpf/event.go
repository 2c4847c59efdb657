// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import (
	"bytes"
	"fmt"
)

// Kind says what an event is about.
type Kind uint8

// The kinds of events. Seen comes from Snapshot only, Lost from Read only.
const (
	KindExec   Kind = iota + 1 // a process began to run a program
	KindFork                   // a process was made
	KindExit                   // the last thread of a process ended
	KindCgroup                 // a process moved to another cgroup (v2)
	KindSeen                   // a process that ran before the sensor did
	KindTaint                  // something spoilt a process, or the host
	KindOpen                   // a process opened code, a model or a large file
	KindLost                   // records are missing
)

var kindNames = [...]string{"", "exec", "fork", "exit", "cgroup", "seen", "taint", "open", "lost"}

// String returns the name of the kind, or its number when it is unknown.
func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Event is one thing the kernel reported. Which fields are set follows from
// Kind; the others are zero. It holds no pointer, so a caller may keep a copy.
type Event struct {
	Kind    Kind
	CPU     uint32 // whose counter numbered the record
	Number  uint64 // of the record on that CPU, from 1; 0 for seen and lost
	Time    uint64 // nanoseconds since boot, suspend included; seen: of the exec, where a sensor saw it
	Flags   Flags
	Process Process // all but lost; taint: zero when it is the host that was spoilt

	Parent    Instance // exec, seen: the parent; fork: the process that forked
	ParentTID uint32   // the thread of it
	CgroupID  uint64   // exec, seen, fork, cgroup: inode number of the v2 cgroup
	Status    uint32   // exit: as wait(2) gives it
	Program   Program  // exec, seen
	Taint     Taints   // taint: what was set just now; Process.Taints has all
	By        Instance // taint: who did it; zero: nobody known
	Hook      Hook     // taint, open: what saw it
	Opened    Opened   // open
	Lost      Lost     // lost
}

// Instance is one program in one process of this boot. A pid is reused; with
// the start time it is not. Each exec raises the generation.
type Instance struct {
	PID        uint32 // thread group id in the initial pid namespace
	Start      uint64 // start_boottime of the group leader, in nanoseconds
	PidfdInode uint64 // inode of its pidfd; 0 on kernels before 6.9
	Generation uint32 // the kernel's self_exec_id: grows with exec, copied by fork
}

// Process is the process an event is about, and what the kernel holds
// against it.
type Process struct {
	Instance
	TID    uint32 // the thread that did it
	Seen   bool   // runs a program whose exec was before the sensor: its opens are not known
	Taints Taints

	// CredentialsChanged: ids or capabilities are no longer those the program
	// began with. Only tiers above tracepoint tell; an exec ends it.
	CredentialsChanged bool

	// OpensLost: at least one file this program opened was not told. An exec
	// ends it, a fork copies it.
	OpensLost bool
}

// Flags are yes/no facts of an event.
type Flags uint32

// The flags (record.h).
const (
	FlagThreadExec    Flags = 1 << iota // a thread that was not the leader called exec
	FlagSecureExec                      // AT_SECURE: the exec raised privileges
	FlagNoNewPrivs                      // no_new_privs is set
	FlagPreload                         // LD_PRELOAD in the environment at exec
	FlagAudit                           // LD_AUDIT in it
	FlagLibraryPath                     // LD_LIBRARY_PATH in it
	FlagEnvUnknown                      // the environment was not read to its end
	FlagFile                            // Program.File is set
	FlagBacking                         // Program.Backing is set
	FlagBackingMapped                   // Backing is what the text mapping maps, else a copy of File
	FlagNoState                         // the kernel could not keep state for the process
	FlagArgvUnknown                     // the arguments could not be read
	FlagFilenameCut                     // Filename is, or may be, longer than the record
	FlagInterpCut                       // Interp is, or may be, longer than the record
	FlagScript                          // Program.Script is set
	FlagPathCut                         // the path of an opened file is longer than the record
	FlagStale                           // seen: the kernel state speaks of another program; for a moment during exec
	FlagMeasured                        // seen: marked as measured

	flagsKnown = FlagMeasured<<1 - 1
)

// Has reports whether all flags of g are set.
func (f Flags) Has(g Flags) bool { return f&g == g }

// Program is what a process runs. Filename, Interp, Argv and Comm are hints
// for people and for finding a script: never an identity.
type Program struct {
	File    File // what /proc/PID/exe is; for a script, its interpreter
	Backing File // what the text is mapped from: on overlayfs, the file below
	Script  File // with FlagScript: the file the kernel read "#!" from
	KernelDigest
	Creds      Creds
	Namespaces Namespaces
	OldTID     uint32 // tid of the caller before exec made it the leader
	Argc       uint32
	ArgvLen    uint32 // bytes of all arguments with their NULs
	Comm       [16]byte
	Filename   Text // as given to exec; for a script, the script
	Interp     Text // the interpreter a script names, else as Filename
	Argv       Text // the first bytes of the arguments
}

// Memfd reports whether the program is an anonymous file in memory. An
// unlinked file on a mounted tmpfs is not one.
func (p *Program) Memfd() bool {
	const tmpfs, hugetlbfs = 0x01021994, 0x958458f6
	return (p.File.Magic == tmpfs || p.File.Magic == hugetlbfs) && p.File.Links == 0 && p.File.Mount == MountInternal
}

// CommString returns Comm up to its NUL.
func (p *Program) CommString() string {
	text, _, _ := bytes.Cut(p.Comm[:], []byte{0})
	return string(text)
}

// File is a file as the kernel held it at that moment. Device and Inode are
// those of the inode; stat(2) agrees on file systems that do not invent
// numbers of their own (btrfs subvolumes and some overlays do).
type File struct {
	Device       uint64 // as st_dev
	Inode        uint64
	Size         uint64
	Ctime        int64  // nanoseconds since 1970, as st_ctim
	Magic        uint64 // of the file system, as statfs gives it
	Links        uint32
	Generation   uint32 // i_generation
	Mode         uint32 // as st_mode
	Writers      int32  // i_writecount: below 0, nobody may open it for writing
	MmapWritable int32  // i_mmap_writable: above 0, mapped shared and writable
	Mount        Mount  // of File; not told for Backing
}

// Mount says on what sort of mount a file was opened.
type Mount uint8

// The sorts of mounts.
const (
	MountUnknown  Mount = iota
	MountAttached       // in some mount namespace
	MountDetached       // lazily unmounted
	MountInternal       // the kernel's own: no path leads there
)

// Creds are a process's credentials towards the kernel, in terms of the
// initial user namespace.
type Creds struct {
	UID, GID, SUID, SGID, EUID, EGID, FSUID, FSGID       uint32
	Inheritable, Permitted, Effective, Bounding, Ambient uint64
	Securebits                                           uint32
	SeccompMode                                          uint32 // 0 off, 1 strict, 2 filter
	SeccompFilters                                       uint32
}

// Namespaces are the inode numbers of a process's namespaces.
type Namespaces struct {
	PID, Mount, User, Net, Cgroup, UTS, IPC uint32
}

// Text is a bounded string of a record.
type Text struct {
	n uint8
	b [textMax]byte
}

// NewText returns s, cut to what a record carries.
func NewText(s string) Text {
	var t Text
	t.n = uint8(copy(t.b[:], s))
	return t
}

// String returns the text.
func (t *Text) String() string { return string(t.b[:t.n]) }

// Bytes returns the text without a copy; it is valid as long as t.
func (t *Text) Bytes() []byte { return t.b[:t.n] }

// Lost says that Count records of one CPU are missing.
type Lost struct {
	CPU   uint32
	Count uint64
	Cause Cause
}

// Cause is why records are missing.
type Cause uint8

// The causes.
const (
	CauseRingFull    Cause = iota + 1 // the kernel had no room and counted it
	CauseUnexplained                  // numbered by the kernel, and gone: somebody else read the ring
	CauseSkipped                      // the kernel skipped a program that was running already; CPU is not known
	CauseOpensFull                    // as CauseRingFull, of opens only: each process concerned is marked OpensLost
)

var causeNames = [...]string{"", "ring-full", "unexplained", "skipped", "opens-full"}

// String returns the name of the cause.
func (c Cause) String() string {
	if int(c) < len(causeNames) && c != 0 {
		return causeNames[c]
	}
	return fmt.Sprintf("cause-%d", uint8(c))
}
