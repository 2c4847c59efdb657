// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// pins is the directory of one set of programs, links and maps. Below
// Options.Pin there is one for each layout: a set is adopted by a sensor that
// would make the very same, and by no other.
type pins struct {
	root   string // Options.Pin
	layout string
	lock   *os.File // of root; held while the sensor is open
}

// DefaultPin is where an agent pins its sensor.
const DefaultPin = bpffs + "/jurat"

const (
	bpffs      = "/sys/fs/bpf"
	pinMap     = "map_"
	pinLink    = "link_"
	pinProgram = "prog_"
	unfinished = "new-" // what was not pinned to its end
)

// layoutSalt makes a set of another build, in tests.
var layoutSalt string

// layoutOf names what a sensor with these options would load.
func layoutName(o Options, slots int) string {
	h := sha256.New()
	for _, object := range embedded {
		digest := sha256.Sum256(object.bytes)
		h.Write(digest[:])
	}
	fmt.Fprint(h, recordFormat, o.RingBytes, o.OpenBytes, slots, layoutSalt)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// openPins takes the directory root for this sensor alone. Where it cannot be
// had, pins is nil and reason says why: the sensor then ends with the agent.
func openPins(root, layout string) (p *pins, reason string, err error) {
	if root == "" {
		return nil, ReasonNotPinned, nil
	}
	if err := mountBPF(filepath.Dir(root)); err != nil {
		return nil, ReasonNoBPFFS, err
	}
	if err := os.Mkdir(root, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, ReasonNoBPFFS, err
	}
	lock, err := os.Open(root)
	if err != nil {
		return nil, ReasonNoBPFFS, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, ReasonInUse, fmt.Errorf("locking %s: %w", root, err)
	}
	return &pins{root: root, layout: layout, lock: lock}, "", nil
}

// mountBPF sees to it that dir is on a bpf file system; the usual place is
// mounted when nobody did.
func mountBPF(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("asking for the file system of %s: %w", dir, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if dir != bpffs {
		return fmt.Errorf("%s is not on a bpf file system", dir)
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mounting a bpf file system at %s: %w", dir, err)
	}
	return nil
}

func (p *pins) dir() string { return filepath.Join(p.root, p.layout) }

// exists reports whether there is a whole set of our layout.
func (p *pins) exists() bool {
	_, err := os.Stat(p.dir())
	return err == nil
}

// existsOther reports whether there is a whole set of another layout.
func (p *pins) existsOther() bool {
	others, _ := p.others()
	return slices.ContainsFunc(others, func(path string) bool { return !strings.HasPrefix(filepath.Base(path), unfinished) })
}

// others are the sets of other layouts, and what was left unfinished.
func (p *pins) others() ([]string, error) {
	entries, err := os.ReadDir(p.root)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if e.Name() != p.layout {
			paths = append(paths, filepath.Join(p.root, e.Name()))
		}
	}
	return paths, nil
}

// The file system does not look up names with a dot, which sections have.
var (
	pinned   = strings.NewReplacer(".", "%")
	unpinned = strings.NewReplacer("%", ".")
)

// pinnedMaps opens the pinned maps of a set, by name.
func pinnedMaps(dir string) (map[string]*ebpf.Map, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	maps := make(map[string]*ebpf.Map)
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), pinMap)
		if !ok {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			closeMaps(maps)
			return nil, fmt.Errorf("opening the pinned map %s: %w", name, err)
		}
		maps[unpinned.Replace(name)] = m
	}
	return maps, nil
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// keep pins a whole set, and removes all others. Until the last step nothing
// of it counts: a set that was cut off is no set.
func (p *pins) keep(maps map[string]*ebpf.Map, attached []attachment, iterator *ebpf.Program) error {
	others, err := p.others()
	if err != nil {
		return err
	}
	staging := filepath.Join(p.root, unfinished+p.layout)
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return err
	}
	for name, m := range maps {
		if err := m.Pin(filepath.Join(staging, pinMap+pinned.Replace(name))); err != nil {
			return fmt.Errorf("pinning the map %s: %w", name, err)
		}
	}
	for _, a := range attached {
		if err := a.link.Pin(filepath.Join(staging, pinLink+a.name)); err != nil {
			return fmt.Errorf("pinning the link of %s: %w", a.name, err)
		}
		if err := a.program.program.Pin(filepath.Join(staging, pinProgram+a.name)); err != nil {
			return fmt.Errorf("pinning the program %s: %w", a.name, err)
		}
	}
	if err := iterator.Pin(filepath.Join(staging, pinProgram+coreProgOnTask)); err != nil {
		return fmt.Errorf("pinning the task iterator: %w", err)
	}
	if err := os.Rename(staging, p.dir()); err != nil {
		return err
	}
	for _, path := range others {
		if path != staging {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// discard removes our set.
func (p *pins) discard() error { return os.RemoveAll(p.dir()) }

// missing names the pins of a set that are gone, or lead elsewhere now.
func (p *pins) missing(maps map[string]*ebpf.Map, attached []attachment) (names []string) {
	for name, m := range maps {
		now, err := ebpf.LoadPinnedMap(filepath.Join(p.dir(), pinMap+pinned.Replace(name)), nil)
		if err != nil || mapID(now) != mapID(m) {
			names = append(names, pinMap+pinned.Replace(name))
		}
		if err == nil {
			now.Close()
		}
	}
	for _, a := range attached {
		now, err := link.LoadPinnedLink(filepath.Join(p.dir(), pinLink+a.name), nil)
		if err != nil || linkID(now) != linkID(a.link) {
			names = append(names, pinLink+a.name)
		}
		if err == nil {
			now.Close()
		}
	}
	slices.Sort(names)
	return names
}

func mapID(m *ebpf.Map) ebpf.MapID {
	info, err := m.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return id
}

func linkID(l link.Link) link.ID {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	return info.ID
}
