// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package stage

import (
	"os"
	"path/filepath"
	"strings"
)

// Unit stands for the systemd unit that a real workload runs in: a cgroup with
// the name that systemd would give it.
type Unit struct {
	Dir  string // "" where the machine has no writable cgroup v2
	name string
}

// NewUnit makes the cgroup below system.slice.
func NewUnit(name string) (*Unit, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") || fields[3] != "/" {
			continue
		}
		dir := filepath.Join(fields[4], "system.slice", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue // read-only, as in some containers
		}
		return &Unit{Dir: dir, name: name}, nil
	}
	return new(Unit), nil
}

// Name returns the name of the unit; "" where there is no cgroup v2 to make it in.
func (u *Unit) Name() string {
	if u.Dir == "" {
		return ""
	}
	return u.name
}

// Remove takes the cgroup away; no process may be left in it.
func (u *Unit) Remove() error {
	if u.Dir == "" {
		return nil
	}
	if err := os.Remove(u.Dir); err != nil && !os.IsNotExist(err) {
		return err
	}
	os.Remove(filepath.Dir(u.Dir)) // only if NewUnit made it: a slice in use stays
	return nil
}
