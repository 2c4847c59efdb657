// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"bytes"

	"github.com/jurat-dev/jurat/evidence"
)

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

	Exe    Inode // of the executable; zero where the kernel did not say
	Text   Inode // of what its text is mapped from: on overlayfs, the file below
	Script Inode // whose first line named the interpreter, the outermost of several; zero where the kernel did not say

	Kernel KernelDigest // what the kernel itself says Exe holds
	Held   []Held       // files that the exec gate held for this very exec, in the order in which the kernel opened them

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

// KernelDigest is a digest that the kernel made of an executable, at its exec.
// The zero value: it made none.
type KernelDigest struct {
	Source string // evidence.SourceIMA: SHA-256 over the bytes; evidence.SourceFSVerity: over the descriptor of the file's Merkle tree
	Sum    [32]byte
}

// confirm holds a digest against the kernel's own, which is of the bytes that
// were executed. Where the file could not be read any more, the kernel's stands
// for it; where the two differ, something else was read. That of fs-verity is
// over the tree of the file's blocks, and compares with nothing that was read.
func (k *KernelDigest) confirm(d evidence.Value[evidence.Digest]) evidence.Value[evidence.Digest] {
	algorithm := Algorithm
	switch k.Source {
	case evidence.SourceIMA:
	case evidence.SourceFSVerity:
		algorithm = "fsverity-sha-256"
	default:
		return d
	}
	own, seen := d.Observed()
	switch reason := d.Reason(); {
	case reason == reasonExited || reason == reasonDeadline || reason == reasonTooLarge:
		return evidence.Known(evidence.Digest{Algorithm: algorithm, Value: bytes.Clone(k.Sum[:]), Source: k.Source})
	case !seen || k.Source == evidence.SourceFSVerity:
		return d
	case own.Algorithm != Algorithm || !bytes.Equal(own.Value, k.Sum[:]):
		return evidence.Unknown[evidence.Digest](reasonRaced)
	}
	if _, clean := d.Get(); clean {
		own.Source = evidence.SourceIMA
		return evidence.Known(own)
	}
	return d
}

// Held is a file that was held and hashed before the exec of it went on.
type Held struct {
	ID     evidence.FileID
	Digest evidence.Value[evidence.Digest]
	Script bool // its first line names an interpreter, or a handler of binfmt_misc takes it
	Runs   bool // it is the executable
}

// confirm holds the digest of the executable against what the kernel, and the
// exec gate, made of it before it ran.
func (e *Exec) confirm(d evidence.Value[evidence.Digest]) evidence.Value[evidence.Digest] {
	d = e.Kernel.confirm(d)
	for k := range e.Held {
		if e.Held[k].Runs {
			return e.Held[k].confirm(d)
		}
	}
	return d
}

// confirm is for the executable. Where that could not be read any more, what
// was read before it ran stands for it; where the two differ though nothing
// shows that the file was changed, it was changed by stealth.
func (h *Held) confirm(d evidence.Value[evidence.Digest]) evidence.Value[evidence.Digest] {
	held, ok := h.Digest.Observed()
	if !ok {
		return d
	}
	switch d.Reason() {
	case reasonExited, reasonDeadline, reasonTooLarge, reasonUnbound:
		return h.Digest
	}
	if own, clean := d.Get(); clean && own.Algorithm == held.Algorithm && !bytes.Equal(own.Value, held.Value) {
		return evidence.Unknown[evidence.Digest](reasonRaced)
	}
	return d
}

// OpenedFile is a file that a process opened for reading, one for each version
// of it: with another ctime or size it is another one.
type OpenedFile struct {
	At    uint64 // nanoseconds since boot, of the first open; 0 when not told
	File  Inode  // as the kernel held it then: on overlayfs not the file below
	Path  string // from the opener's root; where to look for it, never an identity
	Cut   bool   // Path lacks its beginning
	Class string // one of the Class constants
}

// Classes of opened files.
const (
	ClassCode  = "code"  // source, bytecode, library
	ClassModel = "model" // weights
	ClassLarge = "large" // 64 MiB or more of anything else
)

func (i *Inode) id() evidence.FileID {
	return evidence.FileID{Device: i.Device, Inode: i.Inode, Ctime: i.Ctime, Size: i.Size}
}

// Facts are what the agent knows of a process before it is measured in full.
type Facts struct {
	Instance evidence.Instance
	Origin   string // evidence.OriginExec and the like
	Exec     Exec   // of the program it runs: its own exec, or that of the parent it was forked from

	// Opened is what the program has opened since that exec, in this process
	// or, before the fork, in the one it was forked from. The caller does not
	// change it any more.
	Opened        []OpenedFile
	OpenedUnknown string // why Opened may lack something; "": it is complete

	// Lineage is who made the process: its maker first, up to process 1 or what
	// the kernel made, each as it was when it forked, those that ended since too.
	// A digest that nobody measured yet is unknown, "not-collected".
	Lineage        []evidence.Ancestor
	LineageUnknown string // why some of them are not known; "": Lineage is whole
}

// State is what the kernel holds of a process now.
type State struct {
	Generation uint32
	Taints     []string

	CredentialsChanged bool   // ids or capabilities are not those the program began with; false says nothing
	Opened             int    // files it has opened, as Facts.Opened counts them
	OpenedUnknown      string // as in Facts
}

// Kernel is what measure asks the sensor. The agent implements it over the
// state that the kernel programs keep.
type Kernel interface {
	// State returns what the kernel holds of the process behind pidfd.
	State(pidfd int) (State, error)
}
