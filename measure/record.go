// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import "github.com/jurat-dev/jurat/evidence"

// Exec is what the kernel said about a program that a process runs: at its
// exec, or, for a process older than the sensor, when it was first seen. The
// agent translates the sensor's event into it.
type Exec struct {
	At       uint64 // nanoseconds since boot, suspend included
	CPU      uint32
	Record   uint64 // number of the record on that CPU
	Seen     bool   // its exec was before the sensor
	Instance evidence.Instance
	Parent   evidence.Instance

	Filename    string // as given to exec: of a script, the script
	Interpreter string // what a script names, else as Filename; "" when not known
	Cut         bool   // Filename or Interpreter may be longer than told

	Exe  Inode // of the executable; zero where the kernel did not say
	Text Inode // of what its text is mapped from: on overlayfs, the file below

	Credentials evidence.Credentials
	Namespaces  evidence.Namespaces
	CgroupID    uint64

	Arguments     []byte // first bytes of argv, NUL after each; nil when not read
	ArgumentsSize uint64 // bytes of the whole argv
	// Variables are those of the loader (LD_PRELOAD, LD_AUDIT,
	// LD_LIBRARY_PATH) that the environment held at exec.
	Variables     []string
	VariablesRead bool // the environment was read to its end
	Taints        []string
}

// Inode is a file as the kernel held it at that moment.
type Inode struct {
	Device      uint64 // as st_dev
	Inode       uint64
	Generation  uint32 // i_generation
	Ctime       int64  // nanoseconds since 1970
	Size        uint64
	Links       uint32
	Magic       uint64 // of the file system, as statfs gives it
	Writers     int32  // i_writecount: negative while nobody may open it for writing
	MapWritable int32  // i_mmap_writable: positive while mapped shared and writable
	Memfd       bool   // an anonymous file in memory
}

func (i *Inode) id() evidence.FileID {
	return evidence.FileID{Device: i.Device, Inode: i.Inode, Ctime: i.Ctime, Size: i.Size}
}

// Facts are what the agent knows of a process before it is measured in full.
type Facts struct {
	Instance evidence.Instance
	Origin   string // evidence.OriginExec and the like
	Exec     Exec   // of the program it runs: its own exec, or that of the parent it was forked from
}

// State is what the kernel holds of a process now.
type State struct {
	Generation uint32
	Taints     []string
}

// Kernel is what measure asks the sensor. The agent implements it over the
// state that the kernel programs keep.
type Kernel interface {
	// State returns what the kernel holds of the process behind pidfd.
	State(pidfd int) (State, error)
}

// Table is what the agent remembers of the processes on this host.
type Table interface {
	// Find returns what the live process i runs. Its Start may be rounded down
	// to 10 ms; its PidfdInode is 0 on kernels before 6.9.
	Find(i evidence.Instance) (evidence.Ancestor, bool)
}
