// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

import (
	"fmt"
	"slices"
)

// EntryVersion is the only version of log entries there is.
const EntryVersion = 1

// Kind says what a log entry records (spec/evidence.md section 4).
type Kind uint8

// The kinds of entries. Each has the body of the same name.
const (
	KindStart   Kind = iota + 1 // the agent began to watch: a new epoch
	KindExec                    // the kernel ran a new program
	KindProcess                 // a process was measured in full
	KindExit                    // a process ended
	KindLoss                    // records of the kernel were lost
	KindTaint                   // something happened that spoils a process or the host
	KindRelease                 // evidence left the host, and what was seen right after
)

var kindNames = [...]string{"", "start", "exec", "process", "exit", "loss", "taint", "release"}

// String returns the name of the kind, or its number when it is unknown.
func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// MarshalText returns the name of the kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name of a kind.
func (k *Kind) UnmarshalText(text []byte) error {
	at := slices.Index(kindNames[:], string(text))
	if at <= 0 {
		return fmt.Errorf("unknown entry kind %q", text)
	}
	*k = Kind(at)
	return nil
}

// Entry is one record of the log (spec/evidence.md section 4). Exactly the
// body that Kind names is set.
type Entry struct {
	_        struct{}  `cbor:",toarray"`
	Version  uint64    `json:"version"`
	Kind     Kind      `json:"kind"`
	At       uint64    `json:"at_ns"`              // nanoseconds since boot, suspend included
	Instance *Instance `json:"instance,omitempty"` // whom it is about; nil: the host
	Start    *Start    `json:"start,omitempty"`
	Exec     *Exec     `json:"exec,omitempty"`
	Process  *Process  `json:"process,omitempty"`
	Exit     *Exit     `json:"exit,omitempty"`
	Loss     *Loss     `json:"loss,omitempty"`
	Taint    *Taint    `json:"taint,omitempty"`
	Release  *Release  `json:"release,omitempty"`
}

// Marshal returns the canonical bytes of e: what the log's leaf hashes.
func (e *Entry) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	b, err := encode(e, (*Entry).wire)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("entry of %d bytes, at most %d", len(b), MaxEntry)
	}
	return b, nil
}

// ParseEntry decodes one entry in canonical form.
func ParseEntry(data []byte) (*Entry, error) {
	if len(data) > MaxEntry {
		return nil, fmt.Errorf("entry of %d bytes, at most %d", len(data), MaxEntry)
	}
	e := new(Entry)
	if err := decode(data, e, (*Entry).wire); err != nil {
		return nil, fmt.Errorf("malformed entry: %v", err)
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entry) check() error {
	if e.Version != EntryVersion {
		return fmt.Errorf("entry version %d, want %d", e.Version, EntryVersion)
	}
	set := [...]bool{
		KindStart: e.Start != nil, KindExec: e.Exec != nil, KindProcess: e.Process != nil, KindExit: e.Exit != nil,
		KindLoss: e.Loss != nil, KindTaint: e.Taint != nil, KindRelease: e.Release != nil,
	}
	if e.Kind == 0 || int(e.Kind) >= len(set) {
		return fmt.Errorf("unknown entry kind %d", e.Kind)
	}
	for kind := KindStart; int(kind) < len(set); kind++ {
		if set[kind] != (kind == e.Kind) {
			return fmt.Errorf("entry of kind %s has the wrong body: %s set=%v", e.Kind, kind, set[kind])
		}
	}
	if e.Instance == nil && (e.Kind == KindExec || e.Kind == KindProcess || e.Kind == KindExit || e.Kind == KindRelease) {
		return fmt.Errorf("entry of kind %s names no process instance", e.Kind)
	}
	if e.Kind == KindProcess {
		if m, ok := e.Process.Code.Observed(); ok {
			return m.check()
		}
	}
	return nil
}

// Instance is one program image in one process of this boot (spec/evidence.md
// section 4.1). The pid alone is reused; with the start time it is not. The
// generation is the kernel's own count of execs: each exec raises it, a fork
// copies it.
type Instance struct {
	_          struct{} `cbor:",toarray"`
	PID        uint32   `json:"pid"`       // thread group id in the initial namespace
	Start      uint64   `json:"start_ns"`  // start_boottime of the group leader
	PidfdInode uint64   `json:"pidfd_ino"` // inode of its pidfd (kernel 6.9 and newer), else 0
	Generation uint32   `json:"generation"`
}

// String returns "pid:start:generation", the short form for people.
func (i Instance) String() string {
	return fmt.Sprintf("%d:%d:%d", i.PID, i.Start, i.Generation)
}

// SameProcess reports whether i and o are the same process, whatever it runs.
func (i Instance) SameProcess(o Instance) bool {
	return i.PID == o.PID && i.Start == o.Start && i.PidfdInode == o.PidfdInode
}

// Start is the body of the entry that opens an epoch (spec/evidence.md
// section 4.2): what watches, since when, and what it cannot see.
type Start struct {
	_            struct{}      `cbor:",toarray"`
	Reason       string        `json:"reason"` // "first", "restart", "boot", "discontinuity"
	Epoch        uint64        `json:"epoch"`
	BootID       Bytes         `json:"boot_id"` // 16 bytes
	Previous     Hash          `json:"previous_checkpoint"`
	Agent        string        `json:"agent_version"`
	AgentDigest  Value[Digest] `json:"agent_digest"`
	Kernel       string        `json:"kernel"`
	Tier         string        `json:"tier"`
	Sensor       Hash          `json:"sensor_object"` // SHA-256 of the BPF object
	Programs     []Program     `json:"programs"`
	Capabilities uint64        `json:"capabilities"` // effective set of the agent
	Modules      Value[string] `json:"lsm"`          // active Linux security modules
	Lockdown     Value[string] `json:"lockdown"`
	Signals      []Signal      `json:"signals"` // what this epoch can see, and what it cannot
}

// Signal is one sort of thing that happens on a host, and which hook of the
// sensor sees it (spec/evidence.md section 4.2). A signal that nothing sees is
// unknown for a reason; it is never left out.
type Signal struct {
	_    struct{}      `cbor:",toarray"`
	Name string        `json:"name"`
	By   Value[string] `json:"by"`
}

// Program is one kernel program of the sensor as loaded.
type Program struct {
	_     struct{} `cbor:",toarray"`
	Name  string   `json:"name"`
	Tag   string   `json:"tag"`   // the kernel's hash over its instructions
	Fired bool     `json:"fired"` // seen to fire when the agent started
}

// Exec is the body of a KindExec entry (spec/evidence.md section 4.3): what
// the kernel said at the moment of exec, and the digest of what it ran.
type Exec struct {
	_        struct{}      `cbor:",toarray"`
	CPU      uint32        `json:"cpu"`    // which CPU's counter
	Record   uint64        `json:"record"` // number of the kernel's record on it
	Seen     bool          `json:"seen_after_start"`
	Parent   Instance      `json:"parent"`
	Hint     string        `json:"filename_hint"` // as given to exec: a hint, never an identity
	Exe      Value[File]   `json:"exe"`
	Creds    Credentials   `json:"credentials"`
	CgroupID uint64        `json:"cgroup_id"`
	Cgroup   Value[string] `json:"cgroup"`
	Taints   []string      `json:"taints"`
}

// Exit is the body of a KindExit entry (spec/evidence.md section 4.5).
type Exit struct {
	_    struct{} `cbor:",toarray"`
	Code uint32   `json:"code"` // wait status
}

// Loss is the body of a KindLoss entry (spec/evidence.md section 4.6).
type Loss struct {
	_     struct{} `cbor:",toarray"`
	Cause string   `json:"cause"` // "ring-full", "unexplained", "skipped", "queue-full"
	CPU   uint32   `json:"cpu"`
	Count uint64   `json:"count"`
}

// Taint is the body of a KindTaint entry (spec/evidence.md section 4.7).
type Taint struct {
	_    struct{}  `cbor:",toarray"`
	Name string    `json:"name"`
	How  string    `json:"how"`
	By   *Instance `json:"by,omitempty"`
}

// Release is the body of a KindRelease entry (spec/evidence.md section 4.8):
// the second half of the issuance sandwich, written after the quote, so that
// the next checkpoint commits to it.
type Release struct {
	_      struct{} `cbor:",toarray"`
	Quote  Hash     `json:"quote"` // SHA-256 of the quote's TPMS_ATTEST
	Leaf   Hash     `json:"leaf"`  // leaf hash of the request
	Window uint64   `json:"window_ns"`
	After  State    `json:"after"`
}
