// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// cgroups turns the kernel's number of a cgroup (v2) into its path. A number
// is never used twice and a cgroup is never renamed, so an answer stays true.
type cgroups struct {
	root  int    // the mount's directory, -1: there is none
	mount string // where it is mounted

	mu    sync.RWMutex // guards paths
	paths map[uint64]evidence.Value[string]
}

// kernfsHandle is FILEID_KERNFS: a file handle that is a cgroup's number.
const kernfsHandle = 0xfe

// openCgroups finds the cgroup2 mount that shows the whole tree, also where
// it stands beside version 1 hierarchies.
func openCgroups() (*cgroups, error) {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	c := &cgroups{root: -1, paths: make(map[uint64]evidence.Value[string])}
	for _, mount := range mounts {
		if mount.FSType != "cgroup2" || mount.Root != "/" {
			continue
		}
		c.mount = mount.MountPoint
		c.root, err = unix.Open(c.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", c.mount, err)
		}
		return c, nil
	}
	return c, nil
}

func (c *cgroups) close() {
	if c.root >= 0 {
		unix.Close(c.root)
	}
}

// path returns the path of a cgroup below the root of the tree.
func (c *cgroups) path(id uint64) evidence.Value[string] {
	c.mu.RLock()
	v, ok := c.paths[id]
	c.mu.RUnlock()
	if ok {
		return v
	}
	if id == 0 {
		return evidence.Unknown[string](reasonNotKernel)
	}
	if c.root < 0 {
		return evidence.Unknown[string]("no-cgroup2")
	}
	path, err := c.resolve(id)
	if errors.Is(err, unix.ESTALE) {
		return evidence.Unknown[string]("removed")
	}
	if err != nil {
		return evidence.Unknown[string](reasonUnreadable)
	}
	v = exact(path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.paths) >= maxCgroups {
		clear(c.paths)
	}
	c.paths[id] = v
	return v
}

func (c *cgroups) resolve(id uint64) (string, error) {
	handle := unix.NewFileHandle(kernfsHandle, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(c.root, handle, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	full := pathOf(fd)
	path, ok := strings.CutPrefix(full, c.mount)
	if !ok || path != "" && path[0] != '/' {
		return "", fmt.Errorf("cgroup %d is at %q, not below %q", id, full, c.mount)
	}
	if path == "" {
		path = "/"
	}
	return path, nil
}

// rootOnly reports whether nobody but root can make a cgroup in that one.
func (c *cgroups) rootOnly(path string) bool {
	fd, err := unix.Open(c.mount+path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if c.root < 0 || err != nil {
		return false
	}
	defer unix.Close(fd)
	return rootOnly(fd, path) == nil
}

// cgroup returns the path of the process's cgroup (v2).
func (t *target) cgroup() evidence.Value[string] {
	all, err := t.proc.Cgroups()
	if err != nil {
		return unread[string](err)
	}
	for _, g := range all {
		if g.HierarchyID != 0 || len(g.Controllers) != 0 {
			continue
		}
		if !strings.HasPrefix(g.Path, "/") || strings.HasPrefix(g.Path, "/..") {
			return evidence.Unknown[string]("outside-cgroup-namespace")
		}
		return exact(g.Path)
	}
	return evidence.Unknown[string]("no-cgroup2")
}

// unitOf returns the systemd unit a cgroup belongs to, "" where it belongs to
// none. As systemd does, it takes the first name below the slices: what comes
// after it is made by the unit itself, which could otherwise take any name. A
// unit of a user's own manager is named with that manager,
// "user@1000.service/task.service", and is never mistaken for a system unit.
//
// Root can make a cgroup of any name. The path proves a unit against everybody
// else.
func unitOf(path string) string {
	unit, rest := firstUnit(strings.TrimPrefix(path, "/"), true)
	if !strings.HasPrefix(unit, "user@") || !strings.HasSuffix(unit, ".service") {
		return unit
	}
	if own, _ := firstUnit(rest, false); own != "" && own != "init.scope" {
		return unit + "/" + own
	}
	return unit
}

// firstUnit skips slices, each inside the one its name continues, and takes
// the service or scope that follows.
func firstUnit(path string, sliced bool) (unit, rest string) {
	parent, depth := "", 0
	for {
		name, rest, _ := strings.Cut(path, "/")
		name = strings.TrimPrefix(name, "_") // how systemd escapes names the kernel uses
		if !unitName(name) {
			return "", ""
		}
		stem, slice := strings.CutSuffix(name, ".slice")
		switch {
		case slice && stem != "" && strings.LastIndexByte(stem, '-') == len(parent)-1:
			if !strings.HasPrefix(stem, parent) {
				return "", ""
			}
			parent, path, depth = stem+"-", rest, depth+1
		case slice || sliced && depth == 0:
			return "", ""
		case strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope"):
			return name, rest
		default:
			return "", ""
		}
	}
}

// unitName reports whether name could be a unit's: systemd.unit(5).
func unitName(name string) bool {
	if name == "" || len(name) > 255 || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(`:-_.\@`, c) >= 0:
		default:
			return false
		}
	}
	return true
}
