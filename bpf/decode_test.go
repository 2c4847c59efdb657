// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// layout is a structure of record.h as the compiler laid it out.
type layout struct {
	t testing.TB
	s *btf.Struct
}

func layoutOf(t testing.TB, name string) layout {
	t.Helper()
	spec, err := loadCore()
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.Types.TypeByName(name, &s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return layout{t, s}
}

// at returns offset and size of a member, such as "file.dev".
func (l layout) at(path string) (offset, size int) {
	l.t.Helper()
	var in btf.Type = l.s
	for name := range strings.SplitSeq(path, ".") {
		found := false
		for _, m := range in.(*btf.Struct).Members {
			if m.Name == name {
				offset, in, found = offset+int(m.Offset.Bytes()), btf.UnderlyingType(m.Type), true
				break
			}
		}
		if !found {
			l.t.Fatalf("%s has no member %s", l.s.Name, path)
		}
	}
	size, err := btf.Sizeof(in)
	if err != nil {
		l.t.Fatal(err)
	}
	return offset, size
}

// put writes v to a member of a record.
func (l layout) put(raw []byte, path string, v any) {
	l.t.Helper()
	offset, size := l.at(path)
	switch v := v.(type) {
	case string:
		copy(raw[offset:offset+size], v)
	case int:
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(v))
		copy(raw[offset:offset+size], b[:])
	}
}

var structs = map[Kind]string{
	KindExec: "record_exec", KindFork: "record_fork", KindExit: "record_exit", KindCgroup: "record_cgroup", KindSeen: "record_exec",
	KindTaint: "record_taint", KindOpen: "record_open",
}

// sample returns a well formed record of a kind, with 3 drops, and what it says.
func sample(t testing.TB, kind Kind) (layout, []byte, Event) {
	l := layoutOf(t, structs[kind])
	raw := make([]byte, l.s.Size)
	ev := Event{
		Kind: kind, CPU: 1, Number: 17, Time: 99, Flags: FlagFile | FlagInterpCut,
		Process: Process{Instance: Instance{42, 1234, 77, 5}, TID: 43, Seen: true, Taints: TaintStateLost | 1<<15, CredentialsChanged: true, OpensLost: true},
	}
	if kind == KindSeen {
		ev.Number = 0
	}
	set := map[string]any{
		"header.version": 2, "header.kind": int(kind), "header.size": int(l.s.Size), "header.cpu": 1,
		"header.flags": int(ev.Flags), "header.number": int(ev.Number), "header.drops": 3, "header.time": 99,
		"process.tgid": 42, "process.tid": 43, "process.start": 1234, "process.pidfd_ino": 77, "process.exec_id": 5,
		"process.state": 3, "process.taint": "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + strings.Repeat("\x00", 15) + "\x01",
	}
	switch kind {
	case KindFork, KindExec, KindSeen:
		ev.Parent, ev.ParentTID = Instance{40, 1000, 70, 1<<32 - 1}, 41
		set["parent.tgid"], set["parent.tid"], set["parent.start"] = 40, 41, 1000
		set["parent.pidfd_ino"], set["parent.exec_id"] = 70, 1<<40
		ev.CgroupID, set["cgroup_id"] = 555, 555
	case KindCgroup:
		ev.CgroupID, set["cgroup_id"] = 555, 555
	case KindExit:
		ev.Status, set["status"] = 7<<8, 7<<8
	case KindTaint:
		ev.By, ev.Taint, ev.Hook = Instance{50, 2000, 80, 9}, TaintTraced|1<<40, 200
		set["by.tgid"], set["by.tid"], set["by.start"], set["by.pidfd_ino"], set["by.exec_id"] = 50, 51, 2000, 80, 9
		set["taint"], set["hook"] = 1<<3|1<<40, 200
	case KindOpen:
		fillFile("file.", 3000, &ev.Opened.File, set)
		ev.Opened.Class, ev.Opened.Path, ev.Hook = ClassModel, NewPath("/a/b.gguf"), 201
		set["class"], set["hook"], set["path"], set["path_len"] = 2, 201, "/a/b.gguf??", 9
	}
	if kind == KindExec || kind == KindSeen {
		fillSample(&ev.Program, set)
	}
	for path, v := range set {
		l.put(raw, path, v)
	}
	return l, raw, ev
}

// fillFile sets each field of f, and the member of the record it comes from,
// to a value of its own, from v on.
func fillFile(name string, v int, f *File, set map[string]any) {
	*f = File{
		Device: unix.Mkdev(uint32(v), uint32(v+10)), Inode: uint64(v + 1), Size: uint64(v + 2), Ctime: int64(v+3)*1e9 + int64(v+4),
		Magic: uint64(v + 5), Links: uint32(v + 6), Generation: uint32(v + 7), Mode: uint32(v + 8), Writers: -2,
		MmapWritable: int32(v + 9), Mount: MountInternal,
	}
	for member, value := range map[string]int{
		"dev": v<<20 | (v + 10), "ino": v + 1, "size": v + 2, "ctime_sec": v + 3, "ctime_nsec": v + 4, "magic": v + 5,
		"nlink": v + 6, "generation": v + 7, "mode": v + 8, "writecount": -2, "mmap_writable": v + 9, "mount": 3,
	} {
		set[name+member] = value
	}
}

// fillSample sets each field of p, and the member of the record it comes from,
// to a value of its own.
func fillSample(p *Program, set map[string]any) {
	fillFile("file.", 1000, &p.File, set)
	fillFile("backing.", 2000, &p.Backing, set)
	fillFile("script.", 4000, &p.Script, set)
	p.KernelDigest = KernelDigest{DigestVerity, [32]byte([]byte(strings.Repeat("0123456789abcdef", 2)))}
	set["digest_source"], set["digest_algorithm"], set["digest"] = 2, 1, strings.Repeat("0123456789abcdef", 2)
	p.Creds = Creds{UID: 1, GID: 2, SUID: 3, SGID: 4, EUID: 5, EGID: 6, FSUID: 7, FSGID: 8, Inheritable: 9, Permitted: 10,
		Effective: 11, Bounding: 12, Ambient: 13, Securebits: 14, SeccompMode: 15, SeccompFilters: 16}
	for i, name := range []string{"uid", "gid", "suid", "sgid", "euid", "egid", "fsuid", "fsgid", "inheritable", "permitted",
		"effective", "bounding", "ambient", "securebits", "seccomp_mode", "seccomp_filters"} {
		set["creds."+name] = i + 1
	}
	p.Namespaces = Namespaces{PID: 21, Mount: 22, User: 23, Net: 24, Cgroup: 25, UTS: 26, IPC: 27}
	for i, name := range []string{"pid", "mnt", "user", "net", "cgroup", "uts", "ipc"} {
		set["namespaces."+name] = i + 21
	}
	p.OldTID, p.Argc, p.ArgvLen = 31, 32, 33
	set["old_tid"], set["argc"], set["argv_len"] = 31, 32, 33
	copy(p.Comm[:], "comm")
	p.Filename, p.Interp, p.Argv = NewText("file"), NewText("interp"), NewText("a\x00bc")
	set["comm"], set["filename"], set["interp"], set["argv"] = "comm", "file??", "interp??", "a\x00bc??"
	set["filename_len"], set["interp_len"], set["argv_read"] = 4, 6, 4
}

func TestDecodeFollowsTheCompiledLayout(t *testing.T) {
	for kind := range structs {
		_, raw, want := sample(t, kind)
		var have Event
		drops, err := decode(raw, &have)
		if err != nil || drops != 3 {
			t.Errorf("%s: %d drops, %v", kind, drops, err)
		}
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s:\n have %+v\n want %+v", kind, have, want)
		}
	}
	for name, size := range map[string]int{"counters": counterSize, "state": 8 + 8 + 8 + 3*taintBytes + 16, "control": 32, "measured": 8} {
		if have := int(layoutOf(t, name).s.Size); have != size {
			t.Errorf("struct %s has %d bytes, want %d", name, have, size)
		}
	}
	l := layoutOf(t, "counters")
	for name, want := range map[string]int{"number": counterNumber, "done": counterDone, "drops": counterDrops,
		"dropped": counterDropped, "storage": counterStorage, "silent": counterSilent} {
		if have, _ := l.at(name); have != want {
			t.Errorf("counter %s at byte %d, want %d", name, have, want)
		}
	}
}

func TestMalformedRecordNamesThePlace(t *testing.T) {
	for name, test := range map[string]struct {
		kind   Kind
		path   string
		value  any
		resize int
		want   string
	}{
		"version":        {KindExec, "header.version", 1, 0, "malformed record 17 of cpu 1: version 1, want 2"},
		"kind 0":         {KindExit, "header.kind", 0, 0, "unknown kind 0"},
		"kind lost":      {KindExit, "header.kind", 8, 0, "unknown kind 8"},
		"other kind":     {KindExit, "header.kind", 1, 0, "exec of 120 bytes that says 120, want 928"},
		"size":           {KindFork, "header.size", 151, 0, "fork of 152 bytes that says 151, want 152"},
		"truncated":      {KindFork, "header.cpu", 1, -1, "fork of 151 bytes that says 152, want 152"},
		"trailing byte":  {KindCgroup, "header.cpu", 1, 1, "cgroup of 121 bytes that says 120, want 120"},
		"no header":      {KindFork, "header.cpu", 1, -113, "39 bytes, a header has 40"},
		"flags":          {KindFork, "header.flags", 1 << 18, 0, "unknown flags 0x40000"},
		"number 0":       {KindFork, "header.number", 0, 0, "fork with number 0"},
		"numbered seen":  {KindSeen, "header.number", 1, 0, "seen with number 1"},
		"digest source":  {KindExec, "digest_source", 3, 0, "digest of source 3 by algorithm 1"},
		"digest hash":    {KindExec, "digest_algorithm", 2, 0, "digest of source 2 by algorithm 2"},
		"digest of none": {KindExec, "digest_source", 0, 0, "digest of source 0 by algorithm 1"},
		"state":          {KindFork, "process.state", 4, 0, "unknown state flags 0x4"},
		"taint":          {KindFork, "process.taint", "\x02", 0, "taint 0 has value 2"},
		"mount":          {KindExec, "file.mount", 4, 0, "unknown kind of mount 4"},
		"mount 256":      {KindExec, "backing.mount", 256, 0, "unknown kind of mount 255"},
		"filename":       {KindExec, "filename_len", 129, 0, "text of 129 bytes, at most 128"},
		"interp":         {KindExec, "interp_len", 1 << 31, 0, "text of 2147483648 bytes"},
		"argv":           {KindExec, "argv_read", 129, 0, "text of 129 bytes"},
		"reserved exit":  {KindExit, "reserved", 1, 0, "reserved word at byte 116 is 1"},
		"reserved taint": {KindTaint, "reserved", 1, 0, "reserved word"},
		"reserved open":  {KindOpen, "reserved", 1, 0, "reserved word"},
		"hook":           {KindTaint, "hook", 0, 0, "unknown hook 0"},
		"hook 256":       {KindOpen, "hook", 256, 0, "unknown hook 256"},
		"class":          {KindOpen, "class", 4, 0, "unknown class 4"},
		"path":           {KindOpen, "path_len", 257, 0, "path of 257 bytes, at most 256"},
		"mount of open":  {KindOpen, "file.mount", 4, 0, "unknown kind of mount 4"},
		"reserved creds": {KindExec, "creds.reserved", 1, 0, "reserved word"},
		"reserved ns":    {KindExec, "namespaces.reserved", 1, 0, "reserved word"},
	} {
		l, raw, _ := sample(t, test.kind)
		l.put(raw, test.path, test.value)
		raw = append(raw, make([]byte, 8)...)[:len(raw)+test.resize]
		_, err := decode(raw, new(Event))
		if !errors.As(err, new(*RecordError)) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestAcceptRefusesForeignRecords(t *testing.T) {
	l, raw, _ := sample(t, KindFork)
	s := &Sensor{possible: 2, cpus: []position{{next: 1}, {next: 18}}, begun: []uint64{1, 1}}
	if err := s.accept(raw, new(Event), 0); err == nil || !strings.Contains(err.Error(), "read before: number 18 is next") {
		t.Errorf("a record for the second time: %v", err)
	}
	l.put(raw, "header.cpu", 2)
	if err := s.accept(raw, new(Event), 0); err == nil || !strings.Contains(err.Error(), "fork in a ring of a host with 2 cpus") {
		t.Errorf("a record of no cpu: %v", err)
	}
	_, raw, _ = sample(t, KindSeen)
	if err := s.accept(raw, new(Event), 0); err == nil {
		t.Error("a seen record from the ring is accepted")
	}
}

func TestDeviceEncoding(t *testing.T) {
	for _, dev := range [][2]uint32{{0, 0}, {8, 1}, {0, 255}, {0, 256}, {259, 70000}, {4095, 1<<20 - 1}} {
		if have, want := userDevice(dev[0]<<20|dev[1]), unix.Mkdev(dev[0], dev[1]); have != want {
			t.Errorf("device %d:%d is %#x, want %#x", dev[0], dev[1], have, want)
		}
	}
}

func TestNames(t *testing.T) {
	if have := strings.Join((TaintEventLoss | TaintStateLost | TaintGeneration | 1<<63).Names(), " "); have !=
		"event-loss state-lost generation-overflow taint-63" {
		t.Errorf("taints %s", have)
	}
	for have, want := range map[string]string{
		KindLost.String(): "lost", Kind(0).String(): "kind-0", Kind(9).String(): "kind-9",
		CauseRingFull.String(): "ring-full", CauseSkipped.String(): "skipped", CauseOpensFull.String(): "opens-full", Cause(9).String(): "cause-9",
	} {
		if have != want {
			t.Errorf("%s, want %s", have, want)
		}
	}
	long := NewText(strings.Repeat("x", 200))
	if long.String() != strings.Repeat("x", textMax) || string(long.Bytes()) != long.String() {
		t.Errorf("long text: %q", long.String())
	}
}

// Whatever is in the ring, decode answers with a whole event or a RecordError.
func FuzzDecode(f *testing.F) {
	for kind := range structs {
		_, raw, _ := sample(f, kind)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var first, second Event
		_, err := decode(raw, &first)
		if err != nil {
			if !errors.As(err, new(*RecordError)) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		second = Event{Kind: KindLost, Status: 1, CgroupID: 1} // decode must not need a clean one
		if _, err := decode(raw, &second); err != nil || first != second {
			t.Fatalf("second decode: %v, %+v against %+v", err, second, first)
		}
		if len(raw) != recordSizes[first.Kind] || first.Program.Filename.n > textMax {
			t.Fatalf("%s of %d bytes", first.Kind, len(raw))
		}
	})
}
