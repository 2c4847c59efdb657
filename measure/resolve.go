// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// resolved is a file found by a name a process was given.
type resolved struct {
	fd    int   // O_PATH
	ctime int64 // the youngest of the file and the symbolic links on the way
}

var errUnresolvable = errors.New("leads where names mean something else to each reader")

// resolve finds the file the name means to the process: below its root, from
// its working directory. It walks by itself to see each symbolic link, and
// goes into no file system where a name means something else to each reader
// (/proc) or where somebody else answers (FUSE, network, a user's overlay).
func (t *target) resolve(name string, o *overlays) (resolved, error) {
	root, err := t.link("root")
	if err != nil {
		return resolved{}, err
	}
	defer unix.Close(root)
	at, err := t.link("cwd")
	if err != nil {
		return resolved{}, err
	}
	w := walker{root: root, at: at, overlays: o}
	if w.rootID, err = fstat(root); err == nil {
		err = w.walk(name)
	}
	if err != nil {
		unix.Close(w.at)
		return resolved{}, fmt.Errorf("resolving %q: %w", name, err)
	}
	return resolved{fd: w.at, ctime: w.ctime}, nil
}

type walker struct {
	overlays *overlays
	root     int
	rootID   info
	at       int
	ctime    int64
	links    int
}

const (
	maxLinks = 40 // as in the kernel
	maxSteps = 4096
)

// walk replaces w.at by what name leads to from there.
func (w *walker) walk(name string) error {
	if name == "" || len(name) > unix.PathMax {
		return unix.ENOENT
	}
	rest := name
	for steps := 0; rest != ""; steps++ {
		if steps > maxSteps {
			return unix.ELOOP
		}
		if rest[0] == '/' {
			if err := w.enter(w.root, "."); err != nil {
				return err
			}
			rest = strings.TrimLeft(rest, "/")
			continue
		}
		var part string
		part, rest = cutPath(rest)
		target, err := w.step(part)
		if err != nil {
			return err
		}
		if target != "" {
			rest = join(target, rest)
		}
	}
	st, err := fstat(w.at)
	w.ctime = max(w.ctime, st.id.Ctime)
	return err
}

// cutPath takes the first component. The slash that says "a directory" stays.
func cutPath(s string) (part, rest string) {
	i := strings.IndexByte(s, '/')
	if i < 0 {
		return s, ""
	}
	if rest = strings.TrimLeft(s[i:], "/"); rest == "" {
		rest = "."
	}
	return s[:i], rest
}

func join(target, rest string) string {
	if rest == "" {
		return target
	}
	return strings.TrimRight(target, "/") + "/" + rest
}

// step goes to one component; of a symbolic link it returns where it leads.
func (w *walker) step(part string) (target string, err error) {
	if err := w.passable(w.at); err != nil {
		return "", err
	}
	if part == ".." {
		here, err := fstat(w.at)
		if err != nil || here.id.Device == w.rootID.id.Device && here.id.Inode == w.rootID.id.Inode {
			return "", err // the root is its own parent
		}
	}
	fd, err := unix.Openat(w.at, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	if err := w.passable(fd); err != nil {
		unix.Close(fd)
		return "", err
	}
	st, err := fstat(fd)
	if err != nil || st.mode&unix.S_IFMT != unix.S_IFLNK {
		unix.Close(w.at)
		w.at = fd
		return "", err
	}
	defer unix.Close(fd)
	if w.links++; w.links > maxLinks {
		return "", unix.ELOOP
	}
	w.ctime = max(w.ctime, st.id.Ctime)
	target, err = readlinkAt(fd, "")
	if err == nil && target == "" {
		err = unix.ENOENT
	}
	return target, err
}

// passable returns nil where names may be looked up, and files looked at.
func (w *walker) passable(fd int) error {
	magic, refused, err := w.overlays.check(fd)
	if err == nil && (refused != "" || magic == magicProc) {
		err = errUnresolvable
	}
	return err
}

func (w *walker) enter(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(w.at)
	w.at = fd
	return nil
}
