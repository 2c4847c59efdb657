// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Blind is a file system the gate does not hold the files of: an exec from it
// has no verdict.
type Blind struct {
	Path   string // where it is mounted
	Type   string // "fuse.sshfs", "nfs4"
	Reason string // BlindRemote, BlindBehind, BlindHidden, or the kernel's word
}

// Why a file system is not marked.
const (
	BlindRemote = "remote-file-system"        // somebody else decides what a read returns, and when: it could hold the gate itself
	BlindBehind = "behind-remote-file-system" // on the way to it one would have to ask such a file system
	BlindHidden = "hidden"                    // another one is mounted over it
)

// mount is one line of /proc/PID/mountinfo.
type mount struct {
	id, parent int
	device     string // major:minor of the superblock
	point      string
	kind       string
	options    string // of the superblock
}

// parseMounts reads mountinfo; a line it cannot read is an error.
func parseMounts(data []byte) ([]mount, error) {
	var all []mount
	for line := range bytes.Lines(data) {
		left, right, ok := strings.Cut(string(line), " - ")
		fields := strings.Fields(left)
		super := strings.Fields(right)
		if !ok || len(fields) < 6 || len(super) == 0 {
			return nil, fmt.Errorf("malformed mountinfo line %q", line)
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("malformed mountinfo line %q: %w", line, err)
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("malformed mountinfo line %q: %w", line, err)
		}
		all = append(all, mount{id: id, parent: parent, device: fields[2], point: unescape(fields[4]), kind: super[0], options: super[len(super)-1]})
	}
	return all, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// remote reports whether another machine, or a process of anybody's, stands
// behind files of that kind. Even opening one may then take for ever.
func remote(kind string) bool {
	kind, _, _ = strings.Cut(kind, ".")
	switch kind {
	case "fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "ncpfs", "orangefs", "lustre", "gfs2", "ocfs2", "glusterfs":
		return true
	}
	return false
}

// inert reports whether no file of that kind can be executed: the kernel
// forbids it, and mostly forbids the mark too. Touching an autofs would mount.
func inert(kind string) bool {
	switch kind {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "binfmt_misc", "autofs", "securityfs", "debugfs", "tracefs",
		"bpf", "pstore", "configfs", "fusectl", "selinuxfs", "efivarfs", "nsfs", "rpc_pipefs":
		return true
	}
	return false
}

// markMounts marks every file system seen from the process directory proc
// ("/proc/self"), and returns those it could not mark. A mark that is there
// already is made again: the number of a superblock is used again once it is
// gone, and its mark went with it.
func (h *holder) markMounts(proc string) ([]Blind, error) {
	data, err := os.ReadFile(proc + "/mountinfo")
	if err != nil {
		return nil, err
	}
	all, err := parseMounts(data)
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s/root: %w", proc, err)
	}
	defer unix.Close(root)
	byID := make(map[int]*mount, len(all))
	for i := range all {
		byID[all[i].id] = &all[i]
	}
	marked := make(map[string]bool)
	blind := make(map[string]Blind)
	for i := range all {
		m := &all[i]
		if marked[m.device] || inert(m.kind) {
			continue
		}
		reason := h.markMount(root, m, byID)
		if reason == "" {
			marked[m.device] = true
			delete(blind, m.device)
		} else if _, known := blind[m.device]; !known {
			blind[m.device] = Blind{Path: m.point, Type: m.kind, Reason: reason}
		}
	}
	var out []Blind
	for i := range all {
		if b, ok := blind[all[i].device]; ok {
			out = append(out, b)
			delete(blind, all[i].device)
		}
	}
	return out, nil
}

// markMount marks the file system of one mount. It returns why not.
func (h *holder) markMount(root int, m *mount, byID map[int]*mount) string {
	if remote(m.kind) {
		return BlindRemote
	}
	for up, n := byID[m.parent], 0; up != nil && n < len(byID); up, n = byID[up.parent], n+1 {
		if remote(up.kind) || up.kind == "autofs" {
			return BlindBehind
		}
	}
	for _, dir := range layers(m) {
		if below := mountOf(dir, byID); below != nil && remote(below.kind) {
			return BlindBehind
		}
	}
	fd, err := openMount(root, m)
	if err != nil {
		return err.Error()
	}
	if fd < 0 {
		return BlindHidden
	}
	defer unix.Close(fd)
	if err := h.mark(fd); err != nil {
		return err.Error()
	}
	return ""
}

// layers returns the directories an overlayfs is made of, as it was told them.
func layers(m *mount) []string {
	if m.kind != "overlay" {
		return nil
	}
	var dirs []string
	for option := range strings.SplitSeq(unescape(m.options), ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "lowerdir", "upperdir", "lowerdir+", "datadir+":
			dirs = append(dirs, strings.FieldsFunc(value, func(r rune) bool { return r == ':' })...)
		}
	}
	return dirs
}

// mountOf returns the mount a path is on, going by its name.
func mountOf(path string, byID map[int]*mount) *mount {
	var best *mount
	for _, m := range byID {
		if rest, ok := strings.CutPrefix(path, m.point); ok && (rest == "" || rest[0] == '/' || m.point == "/") &&
			(best == nil || len(m.point) > len(best.point) || len(m.point) == len(best.point) && m.id > best.id) {
			best = m
		}
	}
	return best
}

// openMount opens the root of a mount; -1 where its path leads elsewhere.
func openMount(root int, m *mount) (int, error) {
	path := strings.TrimPrefix(m.point, "/")
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(root, path, &how)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
		return -1, nil
	default:
		return -1, fmt.Errorf("opening it: %w", err)
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	if err != nil || st.Mnt_id != uint64(m.id) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// mark has every exec of a file on the file system of fd held.
func (h *holder) mark(fd int) error {
	err := unix.FanotifyMark(h.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		return fmt.Errorf("marking it: %w", err)
	}
	return nil
}
