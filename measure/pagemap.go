// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// pageRegion is struct page_region (linux/fs.h).
type pageRegion struct{ start, end, categories uint64 }

// pageScan is struct pm_scan_arg, the argument of PAGEMAP_SCAN (linux 6.7),
// and the space its vec points to.
type pageScan struct {
	size, flags                     uint64
	start, end, walkEnd             uint64
	vec, vecLen, maxPages           uint64
	inverted, mask, anyOf, returned uint64
	regions                         [64]pageRegion
}

const (
	pageScanSize  = 96
	ioctlPageScan = 0xc0606610 // PAGEMAP_SCAN: _IOWR('f', 16, struct pm_scan_arg)
	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
)

// privatePages counts the pages in the executable mappings that are not, or
// not any more, those of the mapped file: whatever wrote them, a debugger, the
// process itself through /proc/self/mem, a probe. The vdso counts too.
func (t *target) privatePages(exec []mapping) evidence.Value[uint64] {
	fd, err := unix.Openat(t.dir, "pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unread[uint64](err)
	}
	defer unix.Close(fd)
	count, err := scanPages(fd, exec)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		count, err = readPages(fd, exec)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return evidence.Unknown[uint64](reasonTooLarge)
	case err != nil:
		return evidence.Unknown[uint64]("no-pagemap")
	}
	return evidence.Known(count)
}

// scanned reports whether a mapping's pages can be asked for: the vsyscall
// page is the kernel's own and in no process.
func scanned(mp *mapping) bool { return mp.start < vsyscall }

// scanPages asks the kernel for present or swapped pages that are no file's.
func scanPages(fd int, exec []mapping) (count uint64, err error) {
	scan := new(pageScan) // on the heap: the kernel is given its address
	page, calls := uint64(os.Getpagesize()), 0
	for k := range exec {
		for at := exec[k].start; scanned(&exec[k]) && at < exec[k].end; at = scan.walkEnd {
			if calls++; calls > maxPageScans {
				return 0, errTooLarge
			}
			*scan = pageScan{
				size: pageScanSize, start: at, end: exec[k].end,
				vec: uint64(uintptr(unsafe.Pointer(&scan.regions))), vecLen: uint64(len(scan.regions)),
				inverted: pageIsFile, mask: pageIsFile, anyOf: pageIsPresent | pageIsSwapped, returned: pageIsPresent | pageIsSwapped,
			}
			n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlPageScan, uintptr(unsafe.Pointer(scan)))
			runtime.KeepAlive(scan)
			if errno != 0 {
				return 0, errno
			}
			if n > uintptr(len(scan.regions)) || scan.walkEnd <= at {
				return 0, fmt.Errorf("page scan stopped at %x after %d regions", scan.walkEnd, n)
			}
			for _, r := range scan.regions[:n] {
				count += (r.end - r.start) / page
			}
		}
	}
	return count, nil
}

// readPages does the same on kernels before 6.7, one word for each page.
func readPages(fd int, exec []mapping) (count uint64, err error) {
	page, total := uint64(os.Getpagesize()), 0
	buf := make([]byte, 64<<10)
	for k := range exec {
		for at := exec[k].start; scanned(&exec[k]) && at < exec[k].end; {
			want := min(uint64(len(buf)), (exec[k].end-at)/page*8)
			n, err := unix.Pread(fd, buf[:want], int64(at/page*8))
			if err != nil || n < 8 {
				return 0, fmt.Errorf("page map of %x: %d bytes: %w", at, n, errors.Join(err, errRaced))
			}
			if total += n; total > maxPagemap {
				return 0, errTooLarge
			}
			count += countPrivate(buf[:n])
			at += uint64(n/8) * page
		}
	}
	return count, nil
}

// countPrivate counts entries of /proc/PID/pagemap that are present or swapped
// out and no file's.
func countPrivate(entries []byte) (count uint64) {
	for ; len(entries) >= 8; entries = entries[8:] {
		e := binary.NativeEndian.Uint64(entries)
		if e&(pagePresent|pageSwapped) != 0 && e&pageOfFile == 0 {
			count++
		}
	}
	return count
}

func addressOf(page []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(page)))) }
