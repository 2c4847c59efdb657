// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package local

import "github.com/jurat-dev/jurat/evidence"

// What the host itself thinks of a process. It judges nothing: only a broker
// knows the reference values. The words order what an operator looks at first.
const (
	StandingTainted  = "tainted"  // something spoilt it: no broker will believe it
	StandingUnknown  = "unknown"  // its program has no digest, for the reason given
	StandingSeen     = "seen"     // it ran before the sensor did
	StandingKnown    = "known"    // its program's digest is known
	StandingMeasured = "measured" // it was measured in full for a credential
)

// Spoilt is one taint: what, when, how it was seen and who did it.
type Spoilt struct {
	Name string             `json:"name"`
	At   uint64             `json:"at_ns"` // nanoseconds since boot
	How  string             `json:"how"`   // the hook that saw it
	By   *evidence.Instance `json:"by,omitempty"`
}

// Process is one line of the answer to OpProcesses. What is not known is
// empty. Command is what the process calls itself: a hint.
type Process struct {
	Instance  evidence.Instance               `json:"instance"`
	Parent    evidence.Instance               `json:"parent"`
	Origin    string                          `json:"origin"` // evidence.OriginExec and the like
	At        int64                           `json:"at"`     // of its exec, seconds since 1970
	Path      string                          `json:"path"`
	Digest    evidence.Value[evidence.Digest] `json:"digest"`
	Script    string                          `json:"script,omitempty"` // as given to exec, where it names an interpreter
	Command   string                          `json:"command"`
	Arguments []string                        `json:"arguments,omitempty"` // as the kernel recorded them at the exec, cut where they are long
	UID       uint32                          `json:"uid"`
	Cgroup    string                          `json:"cgroup"`
	Unit      string                          `json:"unit,omitempty"`
	Container string                          `json:"container,omitempty"` // id
	Taints    []Spoilt                        `json:"taints"`
	Code      *evidence.Hash                  `json:"code,omitempty"` // root of the manifest, once measured in full
	Holds     int                             `json:"holds"`          // credentials
	Standing  string                          `json:"standing"`
}

// Processes is the answer to OpProcesses, by pid. More says that there are
// others that did not fit, with higher pids.
type Processes struct {
	Processes []Process `json:"processes"`
	More      bool      `json:"more"`
}

// Event is one line of the answer to OpEvents: an entry of the log as it is
// written, and names for people.
type Event struct {
	Time  int64           `json:"time_ns"` // nanoseconds since 1970
	Entry *evidence.Entry `json:"entry,omitempty"`
	// Whom it is about, as far as the agent knows: names as in Process.
	Instance  *evidence.Instance `json:"instance,omitempty"` // nil: the host
	Path      string             `json:"path,omitempty"`
	Command   string             `json:"command,omitempty"`
	UID       *uint32            `json:"uid,omitempty"` // nil: not known
	Unit      string             `json:"unit,omitempty"`
	Container string             `json:"container,omitempty"`
	// What Entry has no room for. A credential is no entry of its own.
	Note   string `json:"note,omitempty"`   // in words, such as "credential issued, txn …"
	Missed uint64 `json:"missed,omitempty"` // events this client was too slow for
}

// Measured is one line of the answer to OpMeasurements.
type Measured struct {
	Path      string                          `json:"path"`
	ID        evidence.FileID                 `json:"id"`
	Digest    evidence.Value[evidence.Digest] `json:"digest"`
	FirstSeen int64                           `json:"first_seen"` // seconds since 1970
	LastUsed  int64                           `json:"last_used"`
	Uses      uint64                          `json:"uses"`
}

// Measurements is the answer to OpMeasurements, by path.
type Measurements struct {
	Files []Measured `json:"files"`
	More  bool       `json:"more"`
}

// Explanation is the answer to OpExplain: the process as evidence would have
// it now. Nothing is logged and no quote is made.
type Explanation struct {
	Summary Process           `json:"summary"`
	Process *evidence.Process `json:"process"`
	State   evidence.State    `json:"state"`
	Signals []evidence.Signal `json:"signals"` // what this host can see
	Tier    string            `json:"tier"`
	Models  []string          `json:"models_in_progress,omitempty"` // being hashed: path and percent, in words
}
