// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/evidence"
)

// Algorithm is the digest this package computes: SHA-256 over the whole file.
const Algorithm = "sha-256"

// source is an open file to be hashed, and what the kernel said about it.
type source struct {
	path     int           // O_PATH descriptor; stays the caller's
	seen     info          // fstat of it
	kernel   *Inode        // of the content: the file below on overlayfs; nil when not told
	limit    uint64        // bytes hashed at most
	patience time.Duration // how long a file changed just now is given to settle
	magic    uint64        // of the file system that holds the content; set by digest
}

// key is the name of the content in the cache: the kernel's where it told it.
func (s *source) key() (evidence.FileID, uint32) {
	if s.kernel != nil {
		return s.kernel.id(), s.kernel.Generation
	}
	return s.seen.id, 0
}

// quiet reports whether the kernel's counters leave the file as it is.
func (s *source) quiet() bool {
	return s.kernel == nil || s.kernel.Writers <= 0 && s.kernel.MapWritable <= 0
}

// digest returns the digest of a file, from the cache or by reading it.
// It says nothing about whether anybody runs it.
func (m *Meter) digest(ctx context.Context, s *source) evidence.Value[evidence.Digest] {
	magic, err := fileSystem(s.path)
	if err != nil {
		return evidence.Unknown[evidence.Digest](reasonUnreadable)
	}
	if reason := s.refused(magic); reason != "" {
		return evidence.Unknown[evidence.Digest](reason)
	}
	for range maxTries {
		if d, ok := m.cached(s); ok {
			return d
		}
		s.settle(m.now)
		r := m.pass(ctx, s)
		if !r.again {
			return r.value(s)
		}
		if s.seen, err = fstat(s.path); err != nil || s.kernel != nil {
			break // what the kernel reported is not there any more
		}
	}
	return evidence.Unknown[evidence.Digest](reasonRaced)
}

// refused says why the file is not to be read, "" when it may be. magic is
// that of the file system it was opened on.
func (s *source) refused(magic uint64) string {
	if s.magic = magic; magic == magicOverlay && s.kernel != nil {
		s.magic = s.kernel.Magic
	}
	switch {
	case !s.seen.regular():
		return reasonNotRegular
	case remote(magic) || remote(s.magic):
		return reasonRemote
	case s.seen.id.Size > s.limit:
		return reasonTooLarge
	}
	return ""
}

// cached looks the file up.
func (m *Meter) cached(s *source) (evidence.Value[evidence.Digest], bool) {
	key, generation := s.key()
	e, ok := m.cache.find(key, generation, m.now())
	if !ok {
		return evidence.Value[evidence.Digest]{}, false
	}
	return s.judge(e.digest, false, true), true
}

// settle waits until the file's ctime is old enough to prove something.
func (s *source) settle(now func() time.Time) {
	age := now().Sub(time.Unix(0, s.seen.id.Ctime))
	if missing := settleAfter(s.seen.id.Ctime) - age; age >= 0 && missing > 0 {
		time.Sleep(min(missing, s.patience))
	}
}

// judge adds what is known against the file's content.
func (s *source) judge(d evidence.Digest, writers, sure bool) evidence.Value[evidence.Digest] {
	var taints []string
	denied := s.kernel != nil && s.kernel.Writers < 0 // nobody may open it for writing
	switch {
	case writers || !s.quiet():
		taints = append(taints, taintWriters)
	case !sure && !denied:
		taints = append(taints, taintUnsure)
	}
	switch {
	case s.kernel != nil && s.kernel.Memfd:
		taints = append(taints, taintMemfd)
	case s.seen.links == 0 || s.kernel != nil && s.kernel.Links == 0:
		taints = append(taints, taintDeleted)
	}
	if !settles(s.magic) && !denied {
		taints = append(taints, taintCtime)
	}
	if len(taints) > 0 {
		return evidence.Tainted(d, taints...)
	}
	return evidence.Known(d)
}

// reading is what one pass over a file found.
type reading struct {
	sum     []byte
	after   info   // the file behind it
	refused string // why there is no sum
	again   bool   // it changed meanwhile
	writers bool   // somebody has it open for writing
	sure    bool   // whether somebody has could be told
}

// value is what the reading says of s.
func (r *reading) value(s *source) evidence.Value[evidence.Digest] {
	if r.refused != "" {
		return evidence.Unknown[evidence.Digest](r.refused)
	}
	s.seen = r.after
	return s.judge(evidence.Digest{Algorithm: Algorithm, Value: r.sum, Source: evidence.SourceRead}, r.writers, r.sure)
}

// read hashes the file between two looks at it.
//
// A writer that opened the file before the check is found by it; one that
// opens it later changes the ctime from what the first look saw, unless that
// was younger than the clock's grain. So a digest is kept only of a file that
// nobody had open for writing and that had settled.
func (m *Meter) read(ctx context.Context, s *source, done *atomic.Uint64) reading {
	epoch, now := m.cache.begin(), m.now()
	fd, err := reopen(s.path)
	if err != nil {
		return reading{refused: reasonUnreadable}
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(fd)
		}
	}()
	var r reading
	r.writers, r.sure = writers(fd)
	before, err := fstat(fd)
	if err != nil || before.id != s.seen.id || !s.sameGeneration(fd) {
		return reading{again: true}
	}
	r.sum, err = hash(ctx, fd, before.id.Size, done)
	if ctx.Err() != nil {
		return reading{refused: reasonDeadline}
	}
	var statErr error
	if r.after, statErr = fstat(fd); statErr != nil || r.after.id != before.id {
		return reading{again: true}
	}
	if err != nil {
		return reading{refused: reasonUnreadable}
	}
	settled := now.Sub(time.Unix(0, r.after.id.Ctime)) >= settleAfter(r.after.id.Ctime)
	if r.sure && !r.writers && r.after.links > 0 && settled && settles(s.magic) {
		keep = true
		key, generation := s.key()
		d := evidence.Digest{Algorithm: Algorithm, Value: r.sum, Source: evidence.SourceCache}
		m.cache.add(&entry{key: key, generation: generation, id: r.after.id, fd: fd, digest: d, used: now}, epoch)
	}
	return r
}

// sameGeneration reports whether the inode is the one the kernel reported and
// not another that was given its number since. Not every file system tells.
func (s *source) sameGeneration(fd int) bool {
	if s.kernel == nil || s.kernel.Generation == 0 || s.kernel.Magic == magicOverlay {
		return true
	}
	const getVersion = 0x80087601 // FS_IOC_GETVERSION: _IOR('v', 1, long)
	n, err := unix.IoctlGetUint32(fd, getVersion)
	return err != nil || n == s.kernel.Generation
}

// reopen opens for reading what path holds, without a trace in its access time
// where that is allowed.
func reopen(path int) (int, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	name := "/proc/self/fd/" + strconv.Itoa(path)
	fd, err := unix.Open(name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		return unix.Open(name, flags, 0)
	}
	return fd, err
}

// writers reports whether anybody has the file open for writing, or mapped
// shared from such a descriptor: the kernel grants a read lease only where
// nobody has. sure is false where the file system knows no leases.
//
// On overlayfs a mapping does not count as open. There all dirty pages are
// written first: a page that is clean is not writable in any mapping, and the
// next write to it changes the ctime.
func writers(fd int) (open, sure bool) {
	if onOverlay, err := fileSystem(fd); err != nil || onOverlay == magicOverlay && unix.Fsync(fd) != nil {
		return false, false
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err == nil
	case errors.Is(err, unix.EAGAIN):
		return true, true
	}
	return false, false
}

const hashBuffer = 256 << 10 // bytes: stays in the processor's cache

var buffers = sync.Pool{New: func() any { b := make([]byte, hashBuffer); return &b }}

// hash returns SHA-256(content) of exactly size bytes. It counts them in done
// as it goes, unless that is nil.
func hash(ctx context.Context, fd int, size uint64, done *atomic.Uint64) ([]byte, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if size > hashBuffer {
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // the disk works while we do; without it it is only slower
	}
	h := sha256.New()
	for at := uint64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := unix.Pread(fd, *buf, int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		at += uint64(n)
		if n == 0 && at == size {
			return h.Sum(nil), nil
		}
		if n == 0 || at > size {
			return nil, fmt.Errorf("file of %d bytes ends after %d", size, at)
		}
		h.Write((*buf)[:n])
		if done != nil {
			done.Store(at)
		}
	}
}
