// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Continuity says whether the kernel was watched all the time since an
// earlier agent.
type Continuity struct {
	Adopted bool   // the programs of an earlier agent went on; no record was missed
	Reason  string // with Adopted false: why not
	Pinned  bool   // the next agent can go on with this sensor

	// Next, when Adopted, is per ring and CPU the number of the first record
	// that this sensor delivers: see Sensor.Released.
	Next []uint64
}

// Reasons for which a sensor began anew.
const (
	ReasonNotPinned = "not-pinned"     // Options.Pin is empty
	ReasonNoBPFFS   = "no-bpffs"       // there is no bpf file system to pin in, and none can be mounted
	ReasonInUse     = "in-use"         // another agent holds the pins: nothing of this sensor is pinned
	ReasonFirst     = "nothing-pinned" // no earlier agent left anything
	ReasonStrange   = "not-ours"       // what is pinned is not what this sensor would have pinned
	ReasonVersion   = "other-version"  // an agent of another build or with other options left it
	ReasonUnpinned  = "pinning-failed" // this sensor works, and ends with the agent
)

// Continuity returns what Open found of an earlier agent.
func (s *Sensor) Continuity() Continuity { return s.continuity }

// Unpin removes what is pinned below dir, so that the programs end with the
// last agent that holds them. It refuses a directory of another file system.
// A directory that does not exist has nothing pinned.
func Unpin(dir string) error {
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("asking for the file system of %s: %w", dir, err)
	case st.Type != unix.BPF_FS_MAGIC:
		return fmt.Errorf("%s is not on a bpf file system: nothing is removed", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the pins: %w", err)
	}
	return nil
}
