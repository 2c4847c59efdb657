// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Sizes of what the kernel writes (linux/fanotify.h).
const (
	metadataSize = 24
	infoSize     = 8 // of a record that carries a pidfd
	versionWant  = 3 // FANOTIFY_METADATA_VERSION
	// eventSize fits one event and not two: what is read is held, and nobody
	// else can take it.
	eventSize = 2*(metadataSize+infoSize) - 8
)

// event is one event of the kernel.
type event struct {
	mask  uint64
	fd    int32
	pid   int32
	pidfd int32
}

var errMalformed = errors.New("malformed fanotify event")

// decode reads the one event in data.
func decode(data []byte) (event, error) {
	ev := event{pidfd: unix.FAN_NOPIDFD}
	if len(data) < metadataSize {
		return ev, fmt.Errorf("%w: %d bytes", errMalformed, len(data))
	}
	order := binary.NativeEndian
	length, meta := int(order.Uint32(data)), int(order.Uint16(data[6:]))
	if data[4] != versionWant || meta < metadataSize || length < meta || length > len(data) {
		return ev, fmt.Errorf("%w: version %d, %d bytes of %d, header of %d", errMalformed, data[4], length, len(data), meta)
	}
	ev.mask = order.Uint64(data[8:])
	ev.fd, ev.pid = int32(order.Uint32(data[16:])), int32(order.Uint32(data[20:]))
	for rest := data[meta:length]; len(rest) >= 4; {
		size := int(order.Uint16(rest[2:]))
		if size < 4 || size > len(rest) {
			return ev, fmt.Errorf("%w: record of %d bytes in %d", errMalformed, size, len(rest))
		}
		if rest[0] == unix.FAN_EVENT_INFO_TYPE_PIDFD && size >= infoSize {
			ev.pidfd = int32(order.Uint32(rest[4:]))
		}
		rest = rest[size:]
	}
	return ev, nil
}

// process names the process an event is about, and closes its pidfd.
func (ev *event) process() Process {
	who := Process{PID: uint32(ev.pid)}
	if ev.pidfd < 0 {
		return who
	}
	defer unix.Close(int(ev.pidfd))
	if pidfdsHaveInodes(int(ev.pidfd)) {
		var st unix.Stat_t
		if unix.Fstat(int(ev.pidfd), &st) == nil {
			who.PidfdInode = st.Ino
			return who
		}
	}
	who.Start = startOf(who.PID, int(ev.pidfd))
	return who
}

// pidfdInodes is what was found out about this kernel: 0 nothing yet.
var pidfdInodes atomic.Int32

// pidfdsHaveInodes reports whether each process has an inode of its own on
// pidfs, as since Linux 6.9. pidfd is any.
func pidfdsHaveInodes(pidfd int) bool {
	if known := pidfdInodes.Load(); known != 0 {
		return known > 0
	}
	var sb unix.Statfs_t
	if unix.Fstatfs(pidfd, &sb) != nil {
		return false
	}
	if sb.Type != unix.PID_FS_MAGIC {
		pidfdInodes.Store(-1)
		return false
	}
	pidfdInodes.Store(1)
	return true
}

// next reads one event, or waits for one as long as a pulse; ok is false where
// there is none.
func (h *holder) next(buf []byte) (event, bool) {
	n, err := unix.Read(h.fd, buf)
	switch err {
	case nil:
	case unix.EAGAIN:
		_, _ = readable(h.fd, pulse)
		return event{}, false
	case unix.EBADF, unix.EINVAL, unix.EFAULT:
		h.end(fmt.Errorf("reading fanotify events: %w", err))
		return event{}, false
	default: // interrupted, or the kernel could not open the file for us: then it refused the exec
		return event{}, false
	}
	ev, err := decode(buf[:n])
	if err != nil {
		h.end(err)
		return event{}, false
	}
	return ev, true
}
