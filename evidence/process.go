// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

// Where a digest came from (spec/evidence.md section 3.3).
const (
	SourceRead     = "read"     // read through a descriptor of the running image, identity checked before and after
	SourceCache    = "cache"    // read so earlier; device, inode, ctime and size unchanged, inode pinned since
	SourceIMA      = "ima"      // the kernel's own measurement
	SourceFSVerity = "fsverity" // the file system's own measurement
)

// Digest is a digest, its algorithm, and how it was obtained (spec/evidence.md
// section 3.3).
type Digest struct {
	_         struct{} `cbor:",toarray"`
	Algorithm string   `json:"algorithm"` // "sha-256" or "fsverity-sha-256"
	Value     Bytes    `json:"value"`
	Source    string   `json:"source"`
}

// String returns "sha-256:…".
func (d Digest) String() string { return d.Algorithm + ":" + d.Value.String() }

// FileID is a file as the kernel knows it (spec/evidence.md section 3.2).
type FileID struct {
	_      struct{} `cbor:",toarray"`
	Device uint64   `json:"dev"`
	Inode  uint64   `json:"ino"`
	Ctime  int64    `json:"ctime_ns"`
	Size   uint64   `json:"size"`
}

// File is one file that runs or feeds a process (spec/evidence.md section
// 3.2). Path is where it was seen: a hint for people, never an identity.
type File struct {
	_      struct{}      `cbor:",toarray"`
	Path   string        `json:"path"`
	ID     FileID        `json:"id"`
	Digest Value[Digest] `json:"digest"`
}

// Script is what an interpreter was told to run (spec/evidence.md section 4.4).
type Script struct {
	_     struct{} `cbor:",toarray"`
	File  File     `json:"file"`
	Bound string   `json:"bound"` // how we know: one of the Bound constants
}

// How a script is bound to the process that runs it, strongest first
// (spec/evidence.md section 4.4).
const (
	BoundKernel   = "kernel"   // the kernel's own record of the file whose first line names the interpreter
	BoundGate     = "gate"     // the file was held and hashed before the exec went on
	BoundExec     = "exec"     // found by the name the kernel ran, after the fact
	BoundArgument = "argument" // found by the name the interpreter was given
	BoundModule   = "module"   // the file that the interpreter opened for the module it was told to run
	BoundInline   = "inline"   // the text itself, an argument
)

// Credentials are a process's identity towards the kernel (spec/evidence.md
// section 4.4).
type Credentials struct {
	_           struct{} `cbor:",toarray"`
	UID         uint32   `json:"uid"`
	EUID        uint32   `json:"euid"`
	SUID        uint32   `json:"suid"`
	FSUID       uint32   `json:"fsuid"`
	GID         uint32   `json:"gid"`
	EGID        uint32   `json:"egid"`
	SGID        uint32   `json:"sgid"`
	FSGID       uint32   `json:"fsgid"`
	Inheritable uint64   `json:"cap_inheritable"`
	Permitted   uint64   `json:"cap_permitted"`
	Effective   uint64   `json:"cap_effective"`
	Bounding    uint64   `json:"cap_bounding"`
	Ambient     uint64   `json:"cap_ambient"`
	NoNewPrivs  bool     `json:"no_new_privs"`
	Seccomp     uint32   `json:"seccomp"` // 0 off, 1 strict, 2 filter
}

// Namespaces are the inode numbers of a process's namespaces.
type Namespaces struct {
	_      struct{} `cbor:",toarray"`
	PID    uint32   `json:"pid"`
	Mount  uint32   `json:"mnt"`
	User   uint32   `json:"user"`
	Net    uint32   `json:"net"`
	Cgroup uint32   `json:"cgroup"`
	UTS    uint32   `json:"uts"`
	IPC    uint32   `json:"ipc"`
}

// Ancestor is a parent process, and what it runs.
type Ancestor struct {
	_        struct{}      `cbor:",toarray"`
	Instance Instance      `json:"instance"`
	Path     string        `json:"path"`
	Digest   Value[Digest] `json:"digest"`
}

// Container is the container a process runs in; nil where it runs in none.
type Container struct {
	_       struct{}      `cbor:",toarray"`
	Runtime string        `json:"runtime"`
	ID      string        `json:"id"`
	Image   Value[string] `json:"image"`
	Pod     Value[string] `json:"pod"`
}

// Origin says how a process came to run what it runs.
const (
	OriginExec = "exec" // its exec was seen
	OriginFork = "fork" // it was forked and has not called exec since
	OriginSeen = "seen" // it already ran when the agent began to watch
)

// Process is the body of a KindProcess entry (spec/evidence.md section 4.4):
// one process measured in full. A field that was not measured says why.
type Process struct {
	_            struct{}                 `cbor:",toarray"`
	Origin       string                   `json:"origin"`
	ExecAt       uint64                   `json:"exec_at_ns"` // nanoseconds since boot; 0 when Origin is "seen"
	Measured     uint64                   `json:"measured_at_ns"`
	Exe          Value[File]              `json:"exe"`
	Loader       Value[*File]             `json:"loader"`    // ELF interpreter; null: statically linked
	Script       Value[*Script]           `json:"script"`    // null: not an interpreter with a script
	Maps         Value[[]File]            `json:"maps"`      // every file mapped executable, the executable first
	Arguments    Value[Hash]              `json:"arguments"` // SHA-256 of argv, NUL after each
	Code         Value[Manifest]          `json:"code"`
	Models       Value[[]File]            `json:"models"`
	Inputs       Value[[]File]            `json:"inputs"`
	Credentials  Value[Credentials]       `json:"credentials"`
	Groups       Value[[]uint32]          `json:"groups"`
	Namespaces   Value[Namespaces]        `json:"namespaces"`
	Cgroup       Value[string]            `json:"cgroup"`
	Unit         Value[string]            `json:"unit"` // systemd unit; "" where the cgroup is no unit
	Container    Value[*Container]        `json:"container"`
	Ancestors    Value[[]Ancestor]        `json:"ancestors"` // parent first, up to process 1
	Label        Value[string]            `json:"lsm_label"`
	Session      Value[uint32]            `json:"session"`
	TTY          Value[string]            `json:"tty"`
	Directory    Value[string]            `json:"directory"`
	Environment  Value[map[string]string] `json:"environment"`  // selected names only
	Devices      Value[[]string]          `json:"devices"`      // accelerator nodes held open
	Interference Value[[]string]          `json:"interference"` // LD_PRELOAD and the like in the environment
}
