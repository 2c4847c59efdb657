// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Kinds as record.h numbers them are our kinds up to KindOpen.
var recordSizes = [...]int{KindExec: execSize, KindFork: forkSize, KindExit: exitSize, KindCgroup: cgroupSize, KindSeen: execSize,
	KindTaint: taintSize, KindOpen: openSize}

// decode reads one record into ev and returns how many records its CPU had
// lost when it was made. The caller has no need to clear ev.
func decode(raw []byte, ev *Event) (drops uint64, err error) {
	*ev = Event{}
	if len(raw) < headerSize {
		return 0, &RecordError{Fact: fmt.Sprintf("%d bytes, a header has %d", len(raw), headerSize)}
	}
	c := cursor{b: raw}
	version, kind, size := c.u16(), c.u16(), c.u32()
	ev.CPU, ev.Flags = c.u32(), Flags(c.u32())
	ev.Number, drops, ev.Time = c.u64(), c.u64(), c.u64()
	switch {
	case version != recordFormat:
		return 0, malformed(ev, "version %d, want %d", version, recordFormat)
	case kind == 0 || int(kind) >= len(recordSizes):
		return 0, malformed(ev, "unknown kind %d", kind)
	case int(size) != len(raw) || len(raw) != recordSizes[kind]:
		return 0, malformed(ev, "%s of %d bytes that says %d, want %d", Kind(kind), len(raw), size, recordSizes[kind])
	case ev.Flags&^flagsKnown != 0:
		return 0, malformed(ev, "unknown flags %#x", uint32(ev.Flags&^flagsKnown))
	case (ev.Number == 0) != (Kind(kind) == KindSeen):
		return 0, malformed(ev, "%s with number %d", Kind(kind), ev.Number)
	}
	ev.Kind = Kind(kind)
	if err := c.process(ev); err != nil {
		return 0, err
	}
	switch ev.Kind {
	case KindExec, KindSeen:
		ev.ParentTID = c.instance(&ev.Parent)
		err = c.program(ev)
	case KindFork:
		ev.ParentTID = c.instance(&ev.Parent)
		ev.CgroupID = c.u64()
	case KindExit:
		ev.Status = c.u32()
		err = c.reserved(ev)
	case KindCgroup:
		ev.CgroupID = c.u64()
	case KindTaint:
		err = c.taint(ev)
	case KindOpen:
		err = c.opened(ev)
	}
	if err != nil {
		return 0, err
	}
	return drops, nil
}

func malformed(ev *Event, format string, args ...any) error {
	return &RecordError{CPU: ev.CPU, Number: ev.Number, Fact: fmt.Sprintf(format, args...)}
}

// cursor walks a record whose size was checked.
type cursor struct {
	b []byte
	n int
}

func (c *cursor) take(n int) []byte {
	c.n += n
	return c.b[c.n-n : c.n]
}

func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

func (c *cursor) reserved(ev *Event) error {
	if v := c.u32(); v != 0 {
		return malformed(ev, "reserved word at byte %d is %d", c.n-4, v)
	}
	return nil
}

// generation cuts the kernel's 64-bit count to the width of ours, towards
// the value that TaintGeneration speaks for.
func generation(execID uint64) uint32 { return uint32(min(execID, math.MaxUint32)) }

func (c *cursor) process(ev *Event) error {
	p := &ev.Process
	p.PID, p.TID = c.u32(), c.u32()
	p.Start, p.PidfdInode = c.u64(), c.u64()
	p.Generation = generation(c.u64())
	state := c.u64()
	if state > stateSeen|stateCredentials {
		return malformed(ev, "unknown state flags %#x", state)
	}
	p.Seen, p.CredentialsChanged = state&stateSeen != 0, state&stateCredentials != 0
	taints, err := foldTaints([taintBytes]byte(c.take(taintBytes)))
	if err != nil {
		return malformed(ev, "%v", err)
	}
	p.Taints, p.OpensLost = taints&^taintOpensLost, taints&taintOpensLost != 0
	return nil
}

// foldTaints turns the kernel's bytes, which need no atomic to be set, into bits.
func foldTaints(raw [taintBytes]byte) (Taints, error) {
	var t Taints
	for i, b := range raw {
		if b > 1 {
			return 0, fmt.Errorf("taint %d has value %d", i, b)
		}
		t |= Taints(b) << i
	}
	return t, nil
}

func (c *cursor) instance(p *Instance) (tid uint32) {
	p.PID, tid = c.u32(), c.u32()
	p.Start, p.PidfdInode = c.u64(), c.u64()
	p.Generation = generation(c.u64())
	return tid
}

func (c *cursor) taint(ev *Event) error {
	c.instance(&ev.By)
	ev.Taint = Taints(c.u64())
	if err := c.hook(ev); err != nil {
		return err
	}
	return c.reserved(ev)
}

func (c *cursor) hook(ev *Event) error {
	h := c.u32()
	if h == 0 || h > math.MaxUint8 {
		return malformed(ev, "unknown hook %d", h)
	}
	ev.Hook = Hook(h)
	return nil
}

func (c *cursor) opened(ev *Event) error {
	o := &ev.Opened
	c.file(&o.File)
	if o.File.Mount > MountInternal {
		return malformed(ev, "unknown kind of mount %d", o.File.Mount)
	}
	class := c.u32()
	if class == 0 || class > uint32(ClassLarge) {
		return malformed(ev, "unknown class %d", class)
	}
	o.Class = Class(class)
	if err := c.hook(ev); err != nil {
		return err
	}
	n := c.u32()
	if n > pathMax {
		return malformed(ev, "path of %d bytes, at most %d", n, pathMax)
	}
	if err := c.reserved(ev); err != nil {
		return err
	}
	o.Path.Cut = ev.Flags.Has(FlagPathCut)
	o.Path.n = uint16(copy(o.Path.b[:], c.take(pathMax)[:n]))
	return nil
}

func (c *cursor) file(f *File) {
	f.Inode, f.Size = c.u64(), c.u64()
	sec := int64(c.u64())
	f.Magic = c.u64()
	f.Ctime = sec*1e9 + int64(c.u32())
	f.Device = userDevice(c.u32())
	f.Links, f.Generation, f.Mode = c.u32(), c.u32(), c.u32()
	f.Writers, f.MmapWritable = int32(c.u32()), int32(c.u32())
	f.Mount = Mount(min(c.u32(), math.MaxUint8))
}

// userDevice turns the kernel's dev_t, 12 bits of major over 20 of minor,
// into the one that stat(2) shows (new_encode_dev).
func userDevice(dev uint32) uint64 {
	major, minor := uint64(dev>>20), uint64(dev&0xfffff)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func (c *cursor) digest(ev *Event) error {
	source, algorithm := c.u32(), c.u32()
	sum := [32]byte(c.take(32))
	d := &ev.Program.KernelDigest
	switch {
	case source == 0 && algorithm == 0 && sum == [32]byte{}:
	case source == uint32(DigestIMA) && algorithm == imaSHA256:
		*d = KernelDigest{DigestIMA, sum}
	case source == uint32(DigestVerity) && algorithm == veritySHA256:
		*d = KernelDigest{DigestVerity, sum}
	default:
		return malformed(ev, "digest of source %d by algorithm %d", source, algorithm)
	}
	return nil
}

func (c *cursor) program(ev *Event) error {
	p := &ev.Program
	c.file(&p.File)
	c.file(&p.Backing)
	c.file(&p.Script)
	if err := c.digest(ev); err != nil {
		return err
	}
	if m := max(p.File.Mount, p.Backing.Mount, p.Script.Mount); m > MountInternal {
		return malformed(ev, "unknown kind of mount %d", m)
	}
	for _, id := range []*uint32{&p.Creds.UID, &p.Creds.GID, &p.Creds.SUID, &p.Creds.SGID,
		&p.Creds.EUID, &p.Creds.EGID, &p.Creds.FSUID, &p.Creds.FSGID} {
		*id = c.u32()
	}
	for _, set := range []*uint64{&p.Creds.Inheritable, &p.Creds.Permitted, &p.Creds.Effective,
		&p.Creds.Bounding, &p.Creds.Ambient} {
		*set = c.u64()
	}
	p.Creds.Securebits, p.Creds.SeccompMode, p.Creds.SeccompFilters = c.u32(), c.u32(), c.u32()
	if err := c.reserved(ev); err != nil {
		return err
	}
	for _, inum := range []*uint32{&p.Namespaces.PID, &p.Namespaces.Mount, &p.Namespaces.User, &p.Namespaces.Net,
		&p.Namespaces.Cgroup, &p.Namespaces.UTS, &p.Namespaces.IPC} {
		*inum = c.u32()
	}
	if err := c.reserved(ev); err != nil {
		return err
	}
	ev.CgroupID = c.u64()
	p.OldTID, p.Argc, p.ArgvLen = c.u32(), c.u32(), c.u32()
	argv, filename, interp := c.u32(), c.u32(), c.u32()
	if max(argv, filename, interp) > textMax {
		return malformed(ev, "text of %d bytes, at most %d", max(argv, filename, interp), textMax)
	}
	copy(p.Comm[:], c.take(commSize))
	p.Filename.set(c.take(textMax)[:filename])
	p.Interp.set(c.take(textMax)[:interp])
	p.Argv.set(c.take(textMax)[:argv])
	return nil
}

func (t *Text) set(b []byte) { t.n = uint8(copy(t.b[:], b)) }
