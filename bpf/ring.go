// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer (Documentation/bpf/ringbuf.rst). Unlike
// cilium's reader it frees a record only when told so: an agent that is killed
// while it works on one leaves it to the next. It never waits.
type ring struct {
	consumer []byte // one page: how far the readers are
	producer []byte // one page, then the data, twice in a row
	data     []byte
	mask     uint64
	at       uint64 // of the next record to read
	freed    uint64 // what we last wrote as the consumer's position
	foreign  atomic.Uint64
}

// Bits of a record's length (include/uapi/linux/bpf.h).
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHeader  = 8
)

func openRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the reader's page of a ring: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		unix.Munmap(consumer)
		return nil, fmt.Errorf("mapping a ring: %w", err)
	}
	r := &ring{consumer: consumer, producer: producer, data: producer[page:], mask: uint64(size) - 1}
	r.at = r.consumed()
	r.freed = r.at
	return r, nil
}

func (r *ring) close() {
	unix.Munmap(r.consumer)
	unix.Munmap(r.producer)
}

// word is a number that the kernel or another process changes beside us.
func word(b []byte) *uint64 { return (*uint64)(unsafe.Pointer(unsafe.SliceData(b))) }

func (r *ring) consumed() uint64 { return atomic.LoadUint64(word(r.consumer)) }

func (r *ring) produced() uint64 { return atomic.LoadUint64(word(r.producer)) }

// pending reports whether there is a record to read, or one being written.
func (r *ring) pending() bool { return r.at < r.produced() }

// next returns the next record, nil when there is none, or none is finished.
// It is valid until it is freed.
func (r *ring) next() ([]byte, error) {
	if at := r.consumed(); at != r.freed {
		// Somebody else reads, and the kernel may write over what we have not seen.
		r.foreign.Add(1)
		r.at, r.freed = max(r.at, at), at
	}
	for {
		end := r.produced()
		if r.at >= end {
			return nil, nil
		}
		offset := r.at & r.mask
		length := atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(r.data[offset:]))))
		if length&ringBusy != 0 {
			return nil, nil
		}
		n := uint64(length &^ ringDiscard)
		if (n+ringHeader+7)&^7 > end-r.at {
			r.at = end // what follows cannot be found any more
			return nil, &RecordError{Fact: fmt.Sprintf("%d bytes at %d of a ring of %d that ends at %d", n, offset, r.mask+1, end)}
		}
		r.at += (n + ringHeader + 7) &^ 7
		if length&ringDiscard == 0 {
			return r.data[offset+ringHeader : offset+ringHeader+n], nil
		}
	}
}

// free gives back what was read, up to at.
func (r *ring) free(at uint64) {
	if at > r.freed && at <= r.at {
		// Not when somebody else moved it: next sees that first.
		if atomic.CompareAndSwapUint64(word(r.consumer), r.freed, at) {
			r.freed = at
		}
	}
}
