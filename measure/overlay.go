// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"encoding/binary"
	"os"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// pages is what a comparison of a mapping with a file found.
type pages int

const (
	pagesUnknown  pages = iota // no page could be compared
	pagesSame                  // the mapping shows the file's pages
	pagesDiffer                // it shows another file's
	pagesInMemory              // the file's, but it lives in memory only (tmpfs below the overlay)
)

// Bits of an entry of /proc/PID/pagemap, and of /proc/kpageflags.
const (
	pagePresent    = 1 << 63
	pageSwapped    = 1 << 62
	pageOfFile     = 1 << 61
	pageFrame      = 1<<55 - 1
	flagSwapBacked = 1 << 14
)

// samePages reports whether a mapping of the process shows the file behind fd.
//
// An overlay file opened now may be the copy made for a writer, while the
// process still runs the one below; device and inode do not tell. Memory does:
// two mappings of one file share the page. The kernel tells page frames only
// to CAP_SYS_ADMIN; without it nothing can be compared.
func (m *Meter) samePages(t *target, mp *mapping, fd int) pages {
	content, err := reopen(fd)
	if err != nil {
		return pagesUnknown
	}
	defer unix.Close(content)
	theirs, err := unix.Openat(t.dir, "pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pagesUnknown
	}
	defer unix.Close(theirs)
	size := uint64(os.Getpagesize())
	result := pagesUnknown
	for _, address := range []uint64{mp.start, (mp.start + (mp.end-mp.start)/2) &^ (size - 1), mp.end - size} {
		if !t.touch(address) {
			continue
		}
		switch m.samePage(theirs, address, content, mp.offset+address-mp.start) {
		case pagesSame:
			return pagesSame
		case pagesInMemory:
			return pagesInMemory
		case pagesDiffer:
			result = pagesDiffer
		}
	}
	return result
}

// touch has the kernel bring in a page of the process that it never used.
func (t *target) touch(address uint64) bool {
	mem, err := unix.Openat(t.dir, "mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(mem)
	n, err := unix.Pread(mem, make([]byte, 1), int64(address))
	return n == 1 && err == nil
}

// samePage maps one page of the file and compares its frame with that of the
// process, twice, so that neither moved in between.
func (m *Meter) samePage(theirs int, address uint64, content int, offset uint64) pages {
	page, err := unix.Mmap(content, int64(offset), os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return pagesUnknown
	}
	defer unix.Munmap(page)
	ours := addressOf(page)
	frame := pageEntry(theirs, address)
	own := pageEntry(m.pagemap, ours)
	if frame&pagePresent == 0 || frame&pageOfFile == 0 || frame&pageFrame == 0 ||
		own&pagePresent == 0 || own&pageFrame == 0 ||
		frame != pageEntry(theirs, address) || own != pageEntry(m.pagemap, ours) {
		return pagesUnknown
	}
	if frame&pageFrame != own&pageFrame {
		return pagesDiffer
	}
	flags := pageEntry(m.pageFlags, (frame&pageFrame)*uint64(os.Getpagesize()))
	switch {
	case flags == 0:
		return pagesUnknown
	case flags&flagSwapBacked != 0:
		return pagesInMemory
	}
	return pagesSame
}

// inMemory reports whether the file behind fd lives in memory only (tmpfs
// below an overlay), or whether that cannot be told.
func (m *Meter) inMemory(fd int) bool {
	content, err := reopen(fd)
	if err != nil {
		return true
	}
	defer unix.Close(content)
	if st, err := fstat(content); err != nil || st.id.Size == 0 {
		return err != nil
	}
	page, err := unix.Mmap(content, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return true
	}
	defer unix.Munmap(page)
	own := pageEntry(m.pagemap, addressOf(page))
	if own&pagePresent == 0 || own&pageFrame == 0 {
		return true
	}
	flags := pageEntry(m.pageFlags, (own&pageFrame)*uint64(os.Getpagesize()))
	return flags == 0 || flags&flagSwapBacked != 0
}

// pageEntry reads the eight bytes that a page's file keeps for an address.
func pageEntry(fd int, address uint64) uint64 {
	var b [8]byte
	if n, err := unix.Pread(fd, b[:], int64(address/uint64(os.Getpagesize())*8)); err != nil || n != len(b) {
		return 0
	}
	return binary.NativeEndian.Uint64(b[:])
}

// overlays tells which overlay mounts of a process the host's administrator
// made. In a user namespace of their own anybody can mount one: over
// directories that they write to directly, behind the overlay's back, or over
// a FUSE mount that never answers. Files there are not even looked at.
type overlays struct {
	m      *Meter
	t      *target
	loaded bool
	mounts map[int]*procfs.MountInfo // of the process, by mount id; nil: not the administrator's
}

// check finds out on which sort of file system an O_PATH descriptor is, and
// why the file is not even to be looked at; "" when it may be. It is called
// before anything else is asked of the file.
func (o *overlays) check(fd int) (magic uint64, refused string, err error) {
	magic, err = fileSystem(fd)
	switch {
	case err != nil:
	case remote(magic):
		refused = reasonRemote
	case magic == magicOverlay && o.mount(fd) == nil:
		refused = reasonForeign
	}
	return magic, refused, err
}

// volatile reports whether the overlay does not write its pages back when asked.
func (o *overlays) volatile(fd int) bool {
	mount := o.mount(fd)
	if mount == nil {
		return true
	}
	_, volatile := mount.SuperOptions["volatile"]
	return volatile
}

// mount returns the overlay mount a file is on, nil when it is not one the
// administrator made.
func (o *overlays) mount(fd int) *procfs.MountInfo {
	if !o.loaded {
		o.loaded = true
		o.load()
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return nil
	}
	mount := o.mounts[int(st.Mnt_id)]
	if mount == nil || mount.FSType != "overlay" {
		return nil
	}
	return mount
}

// load reads the mounts of the process, if its mount namespace belongs to the
// user namespace of this one.
func (o *overlays) load() {
	ns, err := unix.Openat(o.t.dir, "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(ns)
	owner, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return
	}
	defer unix.Close(owner)
	if st, err := fstat(owner); err != nil || st.id.Inode != uint64(o.m.own.User) {
		return
	}
	mounts, err := o.m.fdFS.GetProcMounts(o.t.dir)
	if err != nil {
		return
	}
	o.mounts = make(map[int]*procfs.MountInfo, len(mounts))
	for _, mount := range mounts {
		o.mounts[mount.MountID] = mount
	}
}
