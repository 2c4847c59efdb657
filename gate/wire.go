// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package gate

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// The holder and the process it holds for are of one program, and talk over a
// pair of sockets that keep messages apart. A message is a byte for its kind
// and a body: numbers little endian, texts with their length before them.

// Kinds of messages from the holder.
const (
	sayReady  = 'r' // marks are set, and an exec was seen being held; no body
	sayFailed = 'f' // why execs cannot be held, in words
	sayBlind  = 'b' // JSON: []Blind
	sayHeld   = 'h'
	sayClosed = 'c' // a watched file was closed: process, device, inode
	sayLost   = 'l' // messages or events from before that time are missing
)

// Messages to the holder: first its task in JSON, then process numbers, four
// bytes each, whose mount namespaces it is to look through.

// maxMessage bounds a message, in bytes. A list of blind spots is cut to it.
const maxMessage = 32 << 10

var errMessage = errors.New("malformed message from the holder")

// task is what the holder is told.
type task struct {
	Deadline int64    // nanoseconds
	Only     []string // paths on the file systems to mark; nil: all
}

func (h *held) append(b []byte) []byte {
	b = h.process.append(append(b, sayHeld))
	b = binary.LittleEndian.AppendUint64(b, h.at)
	b = binary.LittleEndian.AppendUint32(b, h.thread)
	f := &h.file
	b = append(b, bit(h.watched)|bit(f.Stacked)<<1, byte(f.Form))
	for _, n := range [...]uint64{f.ID.Device, f.ID.Inode, uint64(f.ID.Ctime), f.ID.Size} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	d, _ := f.Digest.Observed()
	for _, s := range [...]string{f.Interpreter, f.Digest.Reason(), strings.Join(f.Digest.Taints(), ","), d.Algorithm, string(d.Value), d.Source} {
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}

func (p Process) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, p.PID)
	b = binary.LittleEndian.AppendUint64(b, p.PidfdInode)
	return binary.LittleEndian.AppendUint64(b, p.Start)
}

func appendClosed(b []byte, who Process, file inode) []byte {
	b = who.append(append(b, sayClosed))
	b = binary.LittleEndian.AppendUint64(b, file.device)
	return binary.LittleEndian.AppendUint64(b, file.number)
}

func appendLost(b []byte, at uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, sayLost), at)
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// body reads the body of a message. What is missing reads as zero, and short
// says so.
type body struct {
	data  []byte
	short bool
}

func (r *body) bytes(n int) []byte {
	if n > len(r.data) {
		r.short, r.data = true, nil
		return make([]byte, n)
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *body) byte() byte     { return r.bytes(1)[0] }
func (r *body) uint32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }
func (r *body) uint64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }
func (r *body) text() string   { return string(r.bytes(int(binary.LittleEndian.Uint16(r.bytes(2))))) }
func (r *body) whole() error {
	if r.short || len(r.data) > 0 {
		return errMessage
	}
	return nil
}

func (r *body) process() Process {
	return Process{PID: r.uint32(), PidfdInode: r.uint64(), Start: r.uint64()}
}

func (r *body) held() held {
	h := held{process: r.process(), at: r.uint64(), thread: r.uint32()}
	flags := r.byte()
	h.watched, h.file.Stacked, h.file.Form = flags&1 != 0, flags&2 != 0, Form(r.byte())
	h.file.ID = evidence.FileID{Device: r.uint64(), Inode: r.uint64(), Ctime: int64(r.uint64()), Size: r.uint64()}
	h.file.Interpreter = r.text()
	reason, taints := r.text(), r.text()
	d := evidence.Digest{Algorithm: r.text(), Value: []byte(r.text()), Source: r.text()}
	switch {
	case reason != "":
		h.file.Digest = evidence.Unknown[evidence.Digest](reason)
	case taints != "":
		h.file.Digest = evidence.Tainted(d, strings.Split(taints, ",")...)
	default:
		h.file.Digest = evidence.Known(d)
	}
	return h
}

// message takes in what the holder says.
func (p *pairing) message(data []byte) error {
	if len(data) == 0 {
		return errMessage
	}
	r := body{data: data[1:]}
	switch data[0] {
	case sayHeld:
		if h := r.held(); r.whole() == nil {
			p.add(h)
		}
	case sayClosed:
		if who, device, inode := r.process(), r.uint64(), r.uint64(); r.whole() == nil {
			p.close(who, device, inode)
		}
	case sayLost:
		if at := r.uint64(); r.whole() == nil {
			p.lose(at)
		}
	default:
		return errMessage
	}
	return r.whole()
}
