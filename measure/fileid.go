// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Why a digest is unknown (spec/evidence.md section 3.1).
const (
	reasonExited       = "exited"
	reasonRaced        = "raced"
	reasonUnreadable   = "unreadable"
	reasonTruncated    = "truncated"
	reasonTooLarge     = "too-large"
	reasonTooMany      = "too-many"
	reasonDeadline     = "deadline"
	reasonNotRegular   = "not-regular"
	reasonRemote       = "remote-file-system"
	reasonUnbound      = "overlay-unbound"
	reasonForeign      = "foreign-overlay"
	reasonNotKernel    = "no-kernel-record"
	reasonNotYet       = "not-collected"
	reasonInline       = "inline-code"
	reasonOption       = "interpreter-option"
	reasonArguments    = "interpreter-arguments"
	reasonDeclaration  = "declaration-not-trusted"
	reasonAmbiguous    = "ambiguous"
	reasonNotFound     = "not-found"
	reasonReplaced     = "replaced"
	reasonIncomplete   = "incomplete"
	reasonUnresolvable = "unresolvable"
)

// What spoils a digest.
const (
	taintMemfd     = "memfd"
	taintDeleted   = "deleted"
	taintWriters   = "open-for-write"
	taintUnsure    = "writers-unknown"
	taintCopiedUp  = "overlay-copied-up"
	taintChanged   = "changed-since-exec"
	taintOpened    = "changed-since-open"
	taintNamespace = "namespace-changed"
	taintAnonymous = "anonymous-exec"
	taintSelf      = "self-reported"
	taintArguments = "arguments-changed"
	taintEnviron   = "environment-changed"
	taintNotMapped = "not-mapped"
	taintNotText   = "not-text"
	taintThreads   = "threads-differ"
	taintCtime     = "unreliable-ctime"
)

// Magic numbers of file systems (linux/magic.h) that answer differently.
const (
	magicOverlay = 0x794c7630
	magicBtrfs   = 0x9123683e
	magicProc    = 0x9fa0
)

// info is what fstat says of an open file.
type info struct {
	id    evidence.FileID
	mode  uint32
	links uint64
}

func (i info) regular() bool { return i.mode&unix.S_IFMT == unix.S_IFREG }

func fstat(fd int) (info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return info{}, err
	}
	return info{
		id: evidence.FileID{
			Device: uint64(st.Dev), Inode: st.Ino, Size: uint64(max(st.Size, 0)),
			Ctime: st.Ctim.Nano(),
		},
		mode: st.Mode, links: uint64(st.Nlink),
	}, nil
}

// fileSystem returns the magic number of the file system fd is on. A FUSE
// mount made by an unprivileged user answers without asking that user.
func fileSystem(fd int) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	return uint64(st.Type) & 0xffffffff, nil
}

// remote reports whether somebody else decides what a read returns: the same
// file may then show the hash one content and the processor another.
func remote(magic uint64) bool {
	switch magic {
	case 0x65735546, // FUSE, virtiofs
		0x6969,             // NFS
		0x517b, 0xff534d42, // SMB
		0xfe534d42, // SMB2
		0x01021997, // 9P
		0x00c36400, // Ceph
		0x5346414f, // AFS
		0x73757245, // Coda
		0x564c:     // NCP
		return true
	}
	return false
}

// settles reports whether a file system changes the ctime with every change of
// content, and to better than a second. On tmpfs a write through a shared
// mapping changes no time at all.
func settles(magic uint64) bool {
	switch magic {
	case 0xef53, // ext2, ext3, ext4
		0x58465342, // XFS
		magicBtrfs,
		0xf2f52010,   // F2FS
		0x2fc12fc1,   // ZFS
		0xca451a4e,   // bcachefs
		0x73717368,   // squashfs
		0xe0f5e1e2,   // EROFS
		0x9660,       // ISO 9660
		magicOverlay: // once its dirty pages are written, see readOnce
		return true
	}
	return false
}

// settleAfter is how long after a change the ctime of a file proves that no
// other followed. ext file systems with small inodes keep whole seconds.
func settleAfter(ctime int64) time.Duration {
	if ctime%int64(time.Second) == 0 {
		return 2 * time.Second
	}
	return settleTime
}

// matches reports whether the file seen as got is the one the kernel reported:
// same is about which file it is, unchanged about what is in it. Some file
// systems show stat(2) other device numbers than the kernel uses, overlayfs
// other inodes too: there exe is the file seen, text the one below, whose
// change time and size the overlay passes on.
func matches(exe, text *Inode, got evidence.FileID) (same, unchanged bool) {
	same = got.Inode == exe.Inode && (got.Device == exe.Device || exe.Magic == magicBtrfs || exe.Magic == magicOverlay)
	return same, got.Ctime == text.Ctime && got.Size == text.Size
}

// taint adds a taint to a value that was measured.
func taint[T any](v evidence.Value[T], name string) evidence.Value[T] {
	seen, ok := v.Observed()
	taints := v.Taints()
	if !ok || slices.Contains(taints, name) {
		return v
	}
	return evidence.Tainted(seen, append(taints, name)...)
}

// hint makes a name that a process chose fit for the wire and for a reader's
// eyes: valid UTF-8, no longer than limit.
func hint(s string, limit int) string {
	if !utf8.ValidString(s) {
		s = strings.Trim(strconv.QuoteToASCII(s), `"`)
	}
	if len(s) > limit {
		s = s[:limit]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// exact is s as a value that may be held against a reference. What had to be
// changed to be shown is tainted, so that it equals nothing.
func exact(s string) evidence.Value[string] {
	if shown := hint(s, evidence.MaxText); shown != s {
		return evidence.Tainted(shown, taintNotText)
	}
	return evidence.Known(s)
}

// gone reports whether err means that the process has ended.
func gone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT)
}
